//! Each RPC asks for a permission.

use std::collections::BTreeSet;
use std::fs;

use usher_authorization::{METHODS, permission_of};
use usher_core::role::Permission;

/// The RPCs of the .proto files.
pub(crate) fn of_protos() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../proto/usher/identity/v1");
    let mut methods = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("the .proto files") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("text");
        let mut service = "";
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches('{').trim();
            } else if let Some((method, _)) = line.strip_prefix("rpc ").and_then(|rest| rest.split_once('(')) {
                methods.insert(format!("{service}/{}", method.trim()));
            }
        }
    }
    methods
}

/// U1: none is open to everybody by accident.
#[test]
fn u1_every_rpc_of_the_protos_asks_for_a_permission() {
    let methods = of_protos();
    assert!(methods.len() > 30, "{methods:?}");
    let without: Vec<_> = methods
        .iter()
        .filter(|method| permission_of(method).is_none())
        .collect();
    assert!(without.is_empty(), "add to METHODS in src/methods.rs: {without:?}");
}

/// U1: and no permission is for nothing.
#[test]
fn u1_every_permission_is_asked_for_by_an_rpc_and_every_rpc_stands_there_once() {
    let asked: BTreeSet<_> = METHODS.iter().map(|(_, permission)| *permission).collect();
    assert_eq!(asked.len(), Permission::ALL.len());
    let names: BTreeSet<_> = METHODS.iter().map(|(method, _)| *method).collect();
    assert_eq!(names.len(), METHODS.len());
    assert_eq!(
        permission_of("UserService/DeactivateUser"),
        Some(Permission::UsersChangeStatus)
    );
    assert_eq!(permission_of("UserService/Nothing"), None);
    assert_eq!(permission_of("DeactivateUser"), None);
}
