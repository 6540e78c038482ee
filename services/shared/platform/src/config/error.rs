//! What is wrong with a configuration, as one line that names the key, where its value came from, and the way out.

use super::PREFIX;

/// A configuration that cannot be used. No variant holds a secret's value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named cannot be read.
    #[error("configuration: cannot read {path} ({named_by}): {cause}; correct the path or its permissions")]
    Unreadable {
        /// The file.
        path: String,
        /// What named it: `--config` or a key.
        named_by: String,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// A file is not TOML.
    #[error("configuration: {origin} is not valid TOML: {problem}; correct that line")]
    Syntax {
        /// Which source.
        origin: String,
        /// Line, column and fault, without the line's text.
        problem: String,
    },
    /// A key that nobody reads: most often a slip of the pen.
    #[error("configuration: unknown key {key} ({origin}); {way_out}")]
    UnknownKey {
        /// The key, dotted.
        key: String,
        /// Which source gave it.
        origin: String,
        /// What to write instead.
        way_out: String,
    },
    /// A key whose value is missing or cannot be used.
    #[error("configuration: {key} ({origin}): {problem}; {}", way_out(key))]
    Invalid {
        /// The key, dotted.
        key: String,
        /// Which source gave it.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ConfigError {
    /// A value that only the process itself could judge, such as a key of the wrong length.
    ///
    /// `problem` must not quote a secret.
    pub fn invalid(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            key: key.into(),
            origin: "configured value".into(),
            problem: problem.into(),
        }
    }
}

/// The environment variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}__{}", key.replace('.', "__").to_uppercase())
}

fn way_out(key: &str) -> String {
    if key.is_empty() {
        return format!("correct it in the file given by --config or in {PREFIX}__SECTION__KEY");
    }
    let variable = variable(key);
    format!("set {variable} (or {variable}_FILE, to read it from a file), or the key in the file given by --config")
}
