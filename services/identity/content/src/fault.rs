//! What is wrong with a template, and where.

use usher_core::refusal::FieldViolation;

/// One of the texts of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One line.
    Subject,
    /// The plain text.
    Text,
    /// The MJML document, or the HTML that it becomes.
    Mjml,
}

impl Part {
    /// The field of the API.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Mjml => "mjml",
        }
    }

    /// The name that it is compiled under: its ending decides how values are escaped.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Subject => "subject.txt",
            Self::Text => "text.txt",
            Self::Mjml => "mjml.html",
        }
    }

    pub(crate) fn fault(self, description: impl Into<String>) -> FieldViolation {
        FieldViolation::new(self.field(), description)
    }

    /// A fault at an octet of the source.
    pub(crate) fn fault_at(self, source: &str, offset: usize, description: &str) -> FieldViolation {
        let (line, column) = position(source, offset);
        self.fault(format!("line {line}, column {column}: {description}"))
    }
}

/// Line and column of an octet, both from 1; columns are characters.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}
