//! Lays the sources on top of each other, and checks each against the keys that the defaults name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use config::{Config, ConfigError as Raw, File, FileFormat, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::common::{COMMON_SECTIONS, Common};
use super::error::variable;
use super::{ConfigError, PREFIX};

type Table = Map<String, Value>;

/// All sources, merged, and for each key which of them had the last word.
pub(super) struct Layers {
    merged: Table,
    origins: BTreeMap<String, String>,
}

/// One key that a source sets.
struct Setting {
    path: Vec<String>,
    value: Value,
    origin: String,
}

/// Settings as a source of the config crate, so that its rules for merging apply.
#[derive(Debug, Clone)]
struct Collected(Table);

impl Source for Collected {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Table, Raw> {
        Ok(self.0.clone())
    }
}

impl Layers {
    /// Reads and merges: each text of `defaults`, then the file, then the environment.
    pub(super) fn read(
        defaults: &[&str],
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut builder = Config::builder();
        for text in defaults {
            builder = builder.add_source(Collected(parse(text, "built-in defaults")?));
        }
        let known = builder
            .build_cloned()
            .and_then(|config| config.collect())
            .map_err(|raw| unplaced(&raw))?;

        let mut layers = Self {
            merged: known.clone(),
            origins: BTreeMap::new(),
        };
        if let Some(path) = file {
            let origin = format!("file {}", path.display());
            let text = read(path, "the configuration file")?;
            let mut settings = Vec::new();
            flatten(&known, parse(&text, &origin)?, &mut Vec::new(), &origin, &mut settings)?;
            layers.add(&known, settings)?;
        }
        layers.add(&known, from_environment(&known, environment)?)?;
        Ok(layers)
    }

    /// Replaces `foo_file` by what that file holds, and merges.
    fn add(&mut self, known: &Table, settings: Vec<Setting>) -> Result<(), ConfigError> {
        let mut given = BTreeMap::new();
        let mut builder = Config::builder().add_source(Collected(std::mem::take(&mut self.merged)));
        for mut setting in settings {
            if let Some(key) = names_file(known, &setting.path) {
                let path = setting.value.clone().into_string().unwrap_or_default();
                let named_by = format!("{}, {}", setting.path.join("."), setting.origin);
                let text = read(Path::new(&path), &named_by)?;
                setting.value = Value::new(None, text.trim_end_matches(['\r', '\n']));
                setting.origin = format!("file {path}");
                setting.path = key;
            }
            let key = setting.path.join(".");
            if let Some(other) = given.insert(key.clone(), setting.origin.clone()) {
                let problem = format!("also set by {other}, and the two may differ, so remove one of them");
                return Err(ConfigError::Invalid {
                    key,
                    origin: setting.origin,
                    problem,
                });
            }
            builder = builder.add_source(Collected(nest(&setting.path, setting.value)));
            self.origins.insert(key, setting.origin);
        }
        self.merged = builder
            .build()
            .and_then(|config| config.collect())
            .map_err(|raw| unplaced(&raw))?;
        Ok(())
    }

    /// All of it as one type.
    pub(super) fn into_one<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        self.deserialize(self.merged.clone())
    }

    /// The common sections, and the others.
    pub(super) fn into_two<T: DeserializeOwned>(self) -> Result<(Common, T), ConfigError> {
        let (common, own) = self
            .merged
            .clone()
            .into_iter()
            .partition(|(name, _)| COMMON_SECTIONS.contains(&name.as_str()));
        Ok((self.deserialize(common)?, self.deserialize(own)?))
    }

    fn deserialize<T: DeserializeOwned>(&self, table: Table) -> Result<T, ConfigError> {
        T::deserialize(Value::new(None, table)).map_err(|raw| self.explain(raw))
    }

    /// Says which key is at fault and where it came from; scrubs values that look like secrets.
    fn explain(&self, raw: Raw) -> ConfigError {
        let (key, problem) = innermost(raw);
        let key = key.unwrap_or_default();
        let origin = self
            .origins
            .get(&key)
            .or_else(|| {
                self.origins
                    .iter()
                    .find(|(set, _)| key.starts_with(&format!("{set}[")))
                    .map(|(_, o)| o)
            })
            .map_or("built-in defaults", String::as_str);
        let problem = match lookup(&self.merged, &key) {
            Some(value) if looks_secret(&key) => scrub(&problem, value),
            _ => problem,
        };
        ConfigError::Invalid {
            key,
            origin: origin.to_owned(),
            problem: one_line(&problem),
        }
    }
}

fn read(path: &Path, named_by: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        path: path.display().to_string(),
        named_by: named_by.to_owned(),
        cause,
    })
}

fn parse(text: &str, origin: &str) -> Result<Table, ConfigError> {
    File::from_str(text, FileFormat::Toml).collect().map_err(|raw| {
        let told = match raw {
            Raw::FileParse { cause, .. } => cause.to_string(),
            other => other.to_string(),
        };
        // The first line says where, the last one what; between them stands the text of the line, secrets included.
        let lines: Vec<&str> = told.lines().filter(|line| !line.trim().is_empty()).collect();
        let problem = match lines.as_slice() {
            [] => String::new(),
            [only] => (*only).to_owned(),
            [first, .., last] => format!("{}, {last}", first.trim_start_matches("TOML parse error ")),
        };
        ConfigError::Syntax {
            origin: origin.to_owned(),
            problem,
        }
    })
}

/// Turns a file's tables into settings, refusing keys that the defaults do not name.
fn flatten(
    known: &Table,
    table: Table,
    path: &mut Vec<String>,
    origin: &str,
    settings: &mut Vec<Setting>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        path.push(name);
        match (place(known, path, origin)?, value.kind) {
            (Place::Section, ValueKind::Table(inner)) => flatten(known, inner, path, origin, settings)?,
            (Place::Section, _) => return Err(not_a_section(path, origin)),
            (_, kind) => settings.push(Setting {
                path: path.clone(),
                value: Value::new(None, kind),
                origin: origin.to_owned(),
            }),
        }
        path.pop();
    }
    Ok(())
}

fn from_environment(
    known: &Table,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (name, value) in environment {
        let Some(key) = name.to_str().and_then(|name| name.strip_prefix(&format!("{PREFIX}__"))) else {
            continue;
        };
        let origin = format!("environment variable {PREFIX}__{key}");
        let path: Vec<String> = key.to_lowercase().split("__").map(str::to_owned).collect();
        let place = place(known, &path, &origin)?;
        let Ok(text) = value.into_string() else {
            return Err(ConfigError::Invalid {
                key: path.join("."),
                origin,
                problem: "not valid UTF-8".into(),
            });
        };
        let value = match place {
            Place::Section => return Err(not_a_section(&path, &origin)),
            Place::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::new(None, items.map(|item| Value::new(None, item)).collect::<Vec<_>>())
            }
            Place::Leaf => Value::new(None, text),
        };
        settings.push(Setting { path, value, origin });
    }
    Ok(settings)
}

/// What the defaults say about a key.
enum Place {
    Section,
    List,
    Leaf,
}

fn place(known: &Table, path: &[String], origin: &str) -> Result<Place, ConfigError> {
    let mut table = known;
    for (depth, name) in path.iter().enumerate() {
        let last = depth + 1 == path.len();
        match table.get(name).map(|value| &value.kind) {
            Some(ValueKind::Table(inner)) if inner.is_empty() && !last => return Ok(Place::Leaf),
            Some(ValueKind::Table(inner)) if !last => table = inner,
            Some(ValueKind::Table(_)) => return Ok(Place::Section),
            Some(ValueKind::Array(_)) if last => return Ok(Place::List),
            Some(_) if last => return Ok(Place::Leaf),
            None if last && (table_is_open(known, &path[..depth]) || names_file(known, path).is_some()) => {
                return Ok(Place::Leaf);
            }
            _ => return Err(unknown(&path[..=depth], table, origin)),
        }
    }
    Err(unknown(path, known, origin))
}

fn table_is_open(known: &Table, path: &[String]) -> bool {
    !path.is_empty()
        && matches!(lookup(known, &path.join(".")), Some(Value { kind: ValueKind::Table(inner), .. }) if inner.is_empty())
}

/// For `foo_file`, when only `foo` is known and is text, or when the table is open: the path of `foo`.
fn names_file(known: &Table, path: &[String]) -> Option<Vec<String>> {
    let (last, section) = path.split_last()?;
    let stem = last.strip_suffix("_file")?;
    if lookup(known, &path.join(".")).is_some() {
        return None;
    }
    let key: Vec<String> = section.iter().cloned().chain([stem.to_owned()]).collect();
    let text = matches!(
        lookup(known, &key.join(".")),
        Some(Value {
            kind: ValueKind::String(_),
            ..
        })
    );
    (text || table_is_open(known, section)).then_some(key)
}

fn unknown(path: &[String], siblings: &Table, origin: &str) -> ConfigError {
    let mut names: Vec<&str> = siblings.keys().map(String::as_str).collect();
    names.sort_unstable();
    let way_out = format!("remove it, or use one of those known here: {}", names.join(", "));
    ConfigError::UnknownKey {
        key: path.join("."),
        origin: origin.to_owned(),
        way_out,
    }
}

fn not_a_section(path: &[String], origin: &str) -> ConfigError {
    ConfigError::UnknownKey {
        key: path.join("."),
        origin: origin.to_owned(),
        way_out: format!(
            "it is a section, so name a key in it, such as {}__KEY",
            variable(&path.join("."))
        ),
    }
}

fn nest(path: &[String], value: Value) -> Table {
    let mut value = value;
    for name in path.iter().skip(1).rev() {
        value = Value::new(None, Table::from([(name.clone(), value)]));
    }
    Table::from([(path.first().cloned().unwrap_or_default(), value)])
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut names = key.split(['.', '[']);
    let mut value = table.get(names.next()?)?;
    for name in names {
        match &value.kind {
            ValueKind::Table(inner) => value = inner.get(name)?,
            _ => return Some(value),
        }
    }
    Some(value)
}

/// The key and the message at the bottom of the config crate's error.
fn innermost(raw: Raw) -> (Option<String>, String) {
    match raw {
        Raw::At { error, key, .. } => (key, innermost(*error).1),
        Raw::Type {
            unexpected,
            expected,
            key,
            ..
        } => (key, format!("found {unexpected}, expected {expected}")),
        Raw::NotFound(key) => (Some(key), "a value is required".into()),
        Raw::Message(text) => (None, text),
        other => (None, other.to_string()),
    }
}

fn unplaced(raw: &Raw) -> ConfigError {
    ConfigError::Invalid {
        key: String::new(),
        origin: "all sources".into(),
        problem: one_line(&raw.to_string()),
    }
}

fn looks_secret(key: &str) -> bool {
    ["url", "password", "secret", "token", "key", "keys"]
        .iter()
        .any(|word| key.split(['.', '_', '[']).any(|part| part == *word))
}

/// Hides a value that a type of this or another crate quoted in its error.
fn scrub(problem: &str, value: &Value) -> String {
    let mut shown = problem.to_owned();
    let texts = match &value.kind {
        ValueKind::Array(items) => items.iter().map(ToString::to_string).collect(),
        _ => vec![value.to_string()],
    };
    for text in texts.iter().filter(|text| !text.is_empty()) {
        shown = shown
            .replace(text.as_str(), "***")
            .replace(text.escape_debug().to_string().as_str(), "***");
    }
    shown
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
