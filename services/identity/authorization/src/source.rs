//! The files that policies are in, and how to say where something is wrong in one.

use std::path::PathBuf;
use std::{fs, iter};

use cedar_policy::ffi::DetailedError;

use crate::error::PolicyError;

/// A file and what it says.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn read(path: PathBuf) -> Result<Self, PolicyError> {
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self { path, text }),
            Err(source) => Err(PolicyError::Read { path, source }),
        }
    }

    /// An error at an offset in bytes.
    pub(crate) fn invalid(&self, offset: usize, message: &str) -> PolicyError {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        PolicyError::Invalid {
            file: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    /// What Cedar says, and where.
    pub(crate) fn cedar(&self, error: &DetailedError, more: usize) -> PolicyError {
        let places = iter::once(error).chain(&error.related);
        let place = places.flat_map(|error| &error.source_locations).next();
        let label = place.and_then(|place| place.label.as_deref());
        let mut message = error.message.clone();
        for detail in label.into_iter().chain(error.help.as_deref()) {
            message.push_str("; ");
            message.push_str(detail);
        }
        let more = match more {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        self.invalid(place.map_or(0, |place| place.loc.start), &(message + &more))
    }
}
