//! The layers, the top level and the size of files: what shared habits become when nobody watches them (K8).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Who may depend on whom: each crate of the workspace, and those of its crates that it may know. A crate that is not named
/// may know none; `*` may know all.
const MAY_KNOW: &[(&str, &[&str])] = &[
    // The rules, and what lies around them.
    ("usher-core", &[]),
    ("usher-store", &["usher-core"]),
    ("usher-content", &["usher-core"]),
    ("usher-transfer", &["usher-core"]),
    ("usher-authorization", &["usher-core"]),
    (
        "usher-identity",
        &[
            "usher-core",
            "usher-store",
            "usher-content",
            "usher-transfer",
            "usher-authorization",
            "usher-proto",
            "usher-bus",
            "usher-platform",
        ],
    ),
    // What services and workers share knows neither.
    ("usher-proto", &[]),
    ("usher-bus", &[]),
    ("usher-platform", &[]),
    // Workers speak gRPC, like anyone else.
    ("usher-mail", &["usher-platform"]),
    ("usher-worker-runtime", WORKERS),
    ("usher-worker-invitation", WORKERS),
    ("usher-worker-reminder", WORKERS),
    ("usher-worker-expiration", WORKERS),
    ("usher-worker-erasure", WORKERS),
    // Only these two see services and workers together.
    ("usher", &["*"]),
    ("usher-tests", &["*"]),
];

const WORKERS: &[&str] = &[
    "usher-proto",
    "usher-bus",
    "usher-platform",
    "usher-worker-runtime",
    "usher-mail",
];

/// What a crate must not reach, not even through others.
const MUST_NOT_REACH: &[(&str, &[&str])] = &[
    (
        "usher-authorization",
        &["tokio", "tonic", "prost", "lapin", "sea-orm", "sqlx"],
    ),
    (
        "usher-core",
        &[
            "tokio",
            "tonic",
            "prost",
            "lapin",
            "sea-orm",
            "sqlx",
            "config",
            "axum",
            "tracing-opentelemetry",
        ],
    ),
    (
        "usher-content",
        &["tokio", "tonic", "prost", "lapin", "sea-orm", "sqlx"],
    ),
    (
        "usher-transfer",
        &["tokio", "tonic", "prost", "lapin", "sea-orm", "sqlx"],
    ),
    ("usher-store", &["tonic", "prost", "lapin"]),
    ("usher-proto", &["sea-orm", "sqlx", "lapin"]),
    ("usher-mail", &["sea-orm", "sqlx", "lapin"]),
    ("usher-worker-invitation", &["sea-orm", "sqlx"]),
    ("usher-worker-reminder", &["sea-orm", "sqlx"]),
    ("usher-worker-expiration", &["sea-orm", "sqlx"]),
    ("usher-worker-erasure", &["sea-orm", "sqlx"]),
];

/// Two versions of one of these would not understand each other's types.
const ONE_COPY: [&str; 4] = ["tonic", "sqlx", "prost", "rustls"];

/// The top level as K8 has it,
const TOP: [&str; 8] = [
    "Cargo.toml",
    "Makefile",
    "README.md",
    "deploy",
    "proto",
    "services",
    "tests",
    "workers",
];
/// and what the ecosystem expects there.
const EXPECTED_THERE: [&str; 5] = [
    "Cargo.lock",
    "LICENSE",
    "clippy.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

/// Lines of a file at most.
const MAX_LINES: usize = 600;
/// Files that people write. A lock file and an exported dashboard are not.
const WRITTEN: [&str; 9] = ["rs", "proto", "toml", "sql", "md", "yaml", "j2", "html", "sh"];

/// The workspace's folder.
pub(crate) fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("tests/ lies in the workspace")?;
    Ok(root.to_owned())
}

/// The workspace as cargo sees it on this machine.
fn metadata() -> Result<Metadata> {
    let rustc = Command::new("rustc").arg("-vV").output()?;
    let told = String::from_utf8(rustc.stdout)?;
    let host = told
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names its host")?;
    let metadata = MetadataCommand::new()
        .manifest_path(root()?.join("Cargo.toml"))
        .other_options(["--offline".into(), "--filter-platform".into(), host.into()])
        .exec()?;
    Ok(metadata)
}

/// The rule of a crate.
fn known_to(name: &str) -> Option<&'static [&'static str]> {
    MAY_KNOW.iter().find(|(it, _)| *it == name).map(|(_, known)| *known)
}

#[test]
fn crates_know_only_those_that_their_layer_may_know() -> Result<()> {
    let metadata = metadata()?;
    let own: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    let ruled: BTreeSet<&str> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    assert_eq!(own, ruled, "a new crate needs a rule, and a rule a crate");
    let mut breaches = Vec::new();
    for package in metadata.workspace_packages() {
        let may = known_to(package.name.as_str()).unwrap_or_default();
        for dependency in package.dependencies.iter().filter(|it| own.contains(it.name.as_str())) {
            if !may.contains(&"*") && !may.contains(&dependency.name.as_str()) {
                breaches.push(format!("{} must not depend on {}", package.name, dependency.name));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
    Ok(())
}

#[test]
fn crates_do_not_reach_what_would_tie_them_to_a_database_a_broker_or_the_wire() -> Result<()> {
    let metadata = metadata()?;
    let names: HashMap<&PackageId, &str> = metadata.packages.iter().map(|it| (&it.id, it.name.as_str())).collect();
    let graph = metadata.resolve.as_ref().context("cargo resolved the dependencies")?;
    // What a library needs to run; not what builds or tests it.
    let edges: HashMap<&PackageId, Vec<&PackageId>> = graph
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|it| it.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
            (&node.id, normal.map(|it| &it.pkg).collect())
        })
        .collect();
    let mut breaches = Vec::new();
    for (start, banned) in MUST_NOT_REACH {
        let first = metadata
            .workspace_packages()
            .into_iter()
            .find(|it| it.name.as_str() == *start);
        let first = &first.with_context(|| format!("there is no {start}"))?.id;
        // Who led there, to say how it is reached.
        let mut came_from: BTreeMap<&PackageId, &PackageId> = BTreeMap::new();
        let mut open = vec![first];
        while let Some(id) = open.pop() {
            for next in edges.get(id).into_iter().flatten() {
                if *next != first && !came_from.contains_key(next) {
                    came_from.insert(next, id);
                    open.push(next);
                }
            }
        }
        for reached in came_from.keys().filter(|id| banned.contains(&names[**id])) {
            let path = std::iter::successors(Some(*reached), |id| came_from.get(*id).copied());
            let path: Vec<_> = path.map(|id| names[id]).collect();
            breaches.push(path.join(" < "));
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
    Ok(())
}

#[test]
fn there_is_one_copy_of_each_crate_whose_types_are_passed_around() -> Result<()> {
    let lock = std::fs::read_to_string(root()?.join("Cargo.lock"))?;
    for name in ONE_COPY {
        let copies = lock.matches(&format!("\nname = \"{name}\"\n")).count();
        assert_eq!(copies, 1, "copies of {name} in Cargo.lock");
    }
    Ok(())
}

/// K8
#[test]
fn the_top_level_holds_what_a_reader_expects_and_nothing_else() -> Result<()> {
    let root = root()?;
    let ignored = std::fs::read_to_string(root.join(".gitignore"))?;
    let ignored: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('/')).collect();
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(&root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !ignored.contains(&name.as_str()) {
            seen.insert(name);
        }
    }
    let expected: BTreeSet<_> = TOP.iter().chain(&EXPECTED_THERE).map(ToString::to_string).collect();
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn files_stay_short_enough_to_be_read() -> Result<()> {
    let mut long = Vec::new();
    for top in TOP {
        for path in files(&root()?.join(top))? {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            if WRITTEN.contains(&extension.as_ref()) {
                let lines = std::fs::read_to_string(&path)?.lines().count();
                if lines > MAX_LINES {
                    long.push(format!("{} has {lines} lines", path.display()));
                }
            }
        }
    }
    assert!(long.is_empty(), "at most {MAX_LINES}: {long:#?}");
    Ok(())
}

/// A file, or the files below a folder.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != "node_modules" {
            all.extend(files(&path)?);
        }
    }
    all.sort();
    Ok(all)
}
