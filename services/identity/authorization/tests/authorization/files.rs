//! Policies that a platform team wrote: loaded from a folder, and refused in one line that names the file.

use std::fs;

use tempfile::TempDir;
use usher_authorization::{
    Authorizer, Decision, Intent, POLICY_FAILED, PermissionSet, PolicyError, Principal, Question, Resource,
};
use usher_core::role::BuiltInRole::{Administrator, Coach};
use usher_core::role::Permission::{self, UsersRead, UsersUpdate};
use usher_core::role::Scope;

use crate::common::*;

const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");

/// A folder with our policies, and this file added or replaced.
fn with(file: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(OURS).expect("our policies") {
        let path = entry.expect("a file").path();
        let to = folder.path().join(path.file_name().expect("a name"));
        fs::copy(&path, to).expect("a copy");
    }
    fs::write(folder.path().join(file), text).expect("the file");
    folder
}

fn load(folder: &TempDir) -> Authorizer {
    Authorizer::load(folder.path()).expect("valid policies")
}

fn error(folder: &TempDir) -> String {
    let error = Authorizer::load(folder.path()).expect_err("not valid").to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    let folder = folder.path().display().to_string();
    error.strip_prefix(&folder).expect("the path comes first").to_owned()
}

fn allowed(authorizer: &Authorizer, principal: &Principal, permission: Permission, resource: &Resource) -> bool {
    let question = Question {
        principal,
        permission,
        resource,
        intent: &Intent::default(),
        tree: &tree(),
    };
    authorizer.decide(&question).is_allowed()
}

/// U1: one more permission for coaches, and Usher tells of it.
#[test]
fn u1_a_policy_that_is_added_counts_and_what_is_told_of_a_role_follows_it() {
    let folder = with(
        "ours.cedar",
        r#"permit (principal is User, action == Action::"users.update", resource) when { resource in principal.roles.coach };"#,
    );
    let authorizer = load(&folder);
    let coach = me(vec![built_in(Coach, in_group(10))]);
    assert!(allowed(&authorizer, &coach, UsersUpdate, &account(2, &[10])));
    assert!(!may(&coach, UsersUpdate, account(2, &[10])));
    assert!(authorizer.permissions_of(Coach).contains(&UsersUpdate));
}

/// U2: a policy about one account is not mistaken for one about its group.
#[test]
fn u2_an_account_that_a_policy_names_is_decided_by_itself() {
    let folder = with(
        "named.cedar",
        r#"forbid (principal, action, resource == Account::"00000000-0000-0000-0000-000000000007");"#,
    );
    let (authorizer, admin, tree) = (
        load(&folder),
        me(vec![built_in(Administrator, Scope::Platform)]),
        tree(),
    );
    let mut asker = authorizer.asker(&admin, &tree);
    for (number, expected) in [(6, true), (7, false), (8, true), (7, false)] {
        let decision = asker.decide(UsersRead, &account(number, &[10]), &Intent::default());
        assert_eq!(decision.is_allowed(), expected, "{number}");
    }
}

/// U1: actions may be put into groups in a schema of one's own.
#[test]
fn u1_a_schema_with_groups_of_actions_works() {
    let schema = fs::read_to_string(format!("{OURS}/usher.cedarschema")).expect("our schema");
    let grouped = schema
        .replace(r#"action
  "tenants.create","#, r#"action "tenants";
action "tenants.create" in ["tenants"] appliesTo { principal: [User, Service], resource: [Scope, Account], context: Intent };
action"#);
    let folder = with("usher.cedarschema", &grouped);
    let policy = r#"permit (principal, action in Action::"tenants", resource);"#;
    fs::write(folder.path().join("grouped.cedar"), policy).expect("the file");
    let authorizer = load(&folder);
    let platform = Resource::Scope(Scope::Platform);
    assert!(allowed(
        &authorizer,
        &service(&[]),
        Permission::TenantsCreate,
        &platform
    ));
    assert!(!allowed(&authorizer, &service(&[]), Permission::TenantsRead, &platform));
}

/// U1: a policy that fails could be one that forbids.
#[test]
fn u1_what_cannot_be_evaluated_is_denied() {
    let folder = with(
        "overflow.cedar",
        "@id(\"overflow\") forbid (principal, action, resource) when { context.group_count + 9223372036854775807 < 0 };",
    );
    let authorizer = load(&folder);
    let (principal, resource, tree) = (service(&["*"]), Resource::Scope(Scope::Platform), tree());
    let question = |intent| Question {
        principal: &principal,
        permission: UsersRead,
        resource: &resource,
        intent,
        tree: &tree,
    };
    let (fits, overflows) = (giving(&[], 0), giving(&[], 1));
    assert_eq!(authorizer.decide(&question(&fits)), Decision::Allowed);
    let failed = Decision::Denied {
        reason: Some(POLICY_FAILED.to_owned()),
        lacking: PermissionSet::EMPTY,
    };
    assert_eq!(authorizer.decide(&question(&overflows)), failed);
}

/// U1: whoever wrote it finds the place.
#[test]
fn u1_a_broken_file_is_named_with_the_position_in_one_line() {
    let permit = "permit (principal is User, action, resource)";
    for (file, text, expected) in [
        (
            "a.cedar",
            "permit (principal, action, resource)\nwhen { 1 + };",
            "/a.cedar:2:",
        ),
        (
            "a.cedar",
            "// nothing wrong\n\n  allow (principal, action, resource);",
            "/a.cedar:3:3:",
        ),
        (
            "coach.cedar",
            &format!("{permit}\nwhen {{ principal.age > 3 }};"),
            "/coach.cedar:2:",
        ),
        (
            "coach.cedar",
            &format!("{permit} when {{ resource in principal.roles.boss }};"),
            "/coach.cedar:1:",
        ),
        (
            "a.cedar",
            "permit (principal, action == Action::\"users.raed\", resource);",
            "/a.cedar:1:",
        ),
        (
            "a.cedar",
            "permit (principal is Usre, action, resource);",
            "/a.cedar:1:",
        ),
        (
            "a.cedar",
            "permit (principal == ?principal, action, resource);",
            "/a.cedar:1:22:",
        ),
        (
            "a.cedar",
            &format!("\n@id(\"coach.reads\")\n{permit};"),
            "/coach.cedar:",
        ),
        ("usher.cedarschema", "entity Scope in Scope", "/usher.cedarschema:1:"),
    ] {
        let error = error(&with(file, text));
        assert!(error.starts_with(expected), "{error}");
        assert!(error.len() > expected.len() + 10, "{error}");
    }
}

/// U1: a policy that looks further than Usher tells would fail at every question.
#[test]
fn u1_a_schema_that_promises_more_than_usher_tells_is_refused() {
    let schema = fs::read_to_string(format!("{OURS}/usher.cedarschema")).expect("our schema");
    for (ours, theirs, expected) in [
        ("active: Bool,", "active: Bool, department: String,", "department"),
        (
            "sets_deletion_date: Bool,",
            "sets_deletion_date: Bool, hour: Long,",
            "context `{fields:",
        ),
        ("  \"seats.read\"", "  \"seats.look\"", "seats.read"),
        ("kind: String", "kind: Long", "kind"),
        ("principal: [User, Service]", "principal: [User]", "Service"),
    ] {
        let changed = schema.replace(ours, theirs);
        assert_ne!(changed, schema, "{ours}");
        let error = error(&with("usher.cedarschema", &changed));
        assert!(error.starts_with("/usher.cedarschema:1:1: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    let far = "permit (principal, action, resource) when { Scope::\"platform\".kind == \"x\" };";
    let error = error(&with("far.cedar", far));
    assert!(error.starts_with("/far.cedar:1:"), "{error}");
}

/// U1: a folder that is not there, that is empty, that lacks the schema.
#[test]
fn u1_a_folder_without_policies_or_without_the_schema_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(
        Authorizer::load(&folder.path().join("missing")),
        Err(PolicyError::Read { .. })
    ));
    assert!(matches!(
        Authorizer::load(folder.path()),
        Err(PolicyError::Empty { .. })
    ));
    fs::write(folder.path().join("a.cedar"), "").expect("the file");
    assert!(error(&folder).starts_with("/usher.cedarschema: "));
}
