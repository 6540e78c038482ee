//! `policies/MATRIX.md` shows who may call what. What is expected stands here, written by hand, and the policies are asked
//! whether they answer the same. What the running service answers is the other column: the end-to-end tests
//! (`tests/e2e/permissions/matrix`) read what is expected in the document, and write what is so. The tests here fail where
//! any of it differs, and when the document is behind.
//! `UPDATE=1 cargo test -p usher-authorization matrix` writes the first anew, and
//! `UPDATE=1 cargo test -p usher-tests --test e2e matrix` the second.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use usher_authorization::{Intent, METHODS, Principal, Resource, permission_of};
use usher_core::role::BuiltInRole::{Administrator, Author, Coach, Instructor, Learner};
use usher_core::role::{Permission, Scope};

use crate::common::*;
use crate::matrix::About::{Account, Place, Program, Tenant};

/// What an RPC is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// The platform.
    Tenant,
    /// A group, a session, or the platform.
    Place,
    /// An account.
    Account,
    /// Nothing but the program that calls: whom it is about is proved by a link or a password.
    Program,
}

const ROLES: [&str; 7] = [
    "administrator of the platform",
    "administrator of a group",
    "author",
    "coach",
    "instructor and coach",
    "learner",
    "no role",
];

/// Each RPC and what the roles may, in the order of `ROLES`: o = in the own scope, f = in a foreign one, s = with the own
/// account; a = whoever acts, if the program may that calls.
const EXPECTED: &[(&str, About, [&str; 7])] = &[
    ("AccessService/CheckAccess", Tenant, ["o", "", "", "", "", "", ""]),
    (
        "AccessService/VerifyPassword",
        Program,
        ["a", "a", "a", "a", "a", "a", "a"],
    ),
    (
        "AccessService/ChangePassword",
        Program,
        ["a", "a", "a", "a", "a", "a", "a"],
    ),
    ("AuditService/ListAuditEntries", Tenant, ["o", "", "", "", "", "", ""]),
    ("AuditService/ExportAuditEntries", Tenant, ["o", "", "", "", "", "", ""]),
    ("AuditService/VerifyAudit", Tenant, ["o", "", "", "", "", "", ""]),
    ("ActivityService/RecordActivity", Tenant, ["o", "", "", "", "", "", ""]),
    ("ActivityService/StreamActivity", Tenant, ["o", "", "", "", "", "", ""]),
    ("BulkService/PreviewSelection", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/StartBulk", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/CancelJob", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/RetryFailed", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/UndoJob", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/GetJob", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/ListJobs", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/WatchJob", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/ListJobItems", Place, ["o", "o", "", "", "", "", ""]),
    ("BulkService/DownloadJobReport", Place, ["o", "o", "", "", "", "", ""]),
    ("DeliveryService/ListDeliveries", Place, ["o", "o", "", "", "", "", ""]),
    (
        "DeliveryService/ResolveDelivery",
        Account,
        ["os", "os", "", "", "", "", ""],
    ),
    ("DeliveryService/ReportBounce", Tenant, ["o", "", "", "", "", "", ""]),
    (
        "DeliveryService/ListSuppressions",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "DeliveryService/RemoveSuppression",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    ("ErasureService/RequestErasure", Tenant, ["o", "", "", "", "", "", ""]),
    ("ErasureService/ApproveErasure", Tenant, ["o", "", "", "", "", "", ""]),
    ("ErasureService/CancelErasure", Tenant, ["o", "", "", "", "", "", ""]),
    ("ErasureService/GetErasure", Tenant, ["o", "", "", "", "", "", ""]),
    ("ErasureService/ListErasures", Tenant, ["o", "", "", "", "", "", ""]),
    (
        "ErasureService/AcknowledgeErasure",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "ErasureService/RegisterErasureSubscriber",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "ErasureService/UnregisterErasureSubscriber",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "ErasureService/ListErasureSubscribers",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "ErasureService/GetErasureCertificate",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    ("EventService/WatchEvents", Tenant, ["o", "", "", "", "", "", ""]),
    ("GroupService/CreateGroup", Place, ["o", "o", "", "", "", "", ""]),
    ("GroupService/GetGroup", Place, ["o", "o", "o", "o", "o", "", ""]),
    ("GroupService/ListGroups", Place, ["o", "o", "o", "o", "o", "", ""]),
    ("GroupService/UpdateGroup", Place, ["o", "o", "", "", "", "", ""]),
    ("GroupService/DeleteGroup", Place, ["o", "o", "", "", "", "", ""]),
    ("GroupService/AddGroupMembers", Place, ["o", "o", "", "", "", "", ""]),
    ("GroupService/RemoveGroupMembers", Place, ["o", "o", "", "", "", "", ""]),
    (
        "InactivityService/PreviewInactivity",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "InactivityService/ListInactivityRuns",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "InactivityService/ApproveInactivityRun",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    (
        "InactivityService/DismissInactivityRun",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    ("InvitationService/InviteUsers", Place, ["o", "o", "", "", "o", "", ""]),
    (
        "InvitationService/SendInvitation",
        Account,
        ["os", "os", "", "", "", "", ""],
    ),
    (
        "InvitationService/GetInvitation",
        Account,
        ["os", "os", "", "os", "os", "", ""],
    ),
    (
        "InvitationService/ListInvitations",
        Place,
        ["o", "o", "", "o", "o", "", ""],
    ),
    (
        "InvitationService/CancelInvitation",
        Account,
        ["os", "os", "", "", "", "", ""],
    ),
    (
        "InvitationService/ResendInvitation",
        Account,
        ["os", "os", "", "", "", "", ""],
    ),
    (
        "InvitationService/PreviewInvitation",
        Place,
        ["o", "o", "", "", "", "", ""],
    ),
    (
        "InvitationService/SendTestInvitation",
        Place,
        ["o", "o", "", "", "", "", ""],
    ),
    (
        "InvitationService/InspectInvitation",
        Program,
        ["a", "a", "a", "a", "a", "a", "a"],
    ),
    (
        "InvitationService/AcceptInvitation",
        Program,
        ["a", "a", "a", "a", "a", "a", "a"],
    ),
    (
        "InvitationService/RequestFreshInvitation",
        Program,
        ["a", "a", "a", "a", "a", "a", "a"],
    ),
    ("RoleService/ListRoles", Place, ["o", "o", "", "o", "o", "", ""]),
    (
        "RoleService/ListRoleAssignments",
        Place,
        ["o", "o", "", "o", "o", "", ""],
    ),
    ("RoleService/AssignRoles", Place, ["o", "o", "", "", "", "", ""]),
    ("RoleService/RevokeRoles", Place, ["o", "o", "", "", "", "", ""]),
    ("RoleService/CreateRole", Tenant, ["o", "", "", "", "", "", ""]),
    ("RoleService/UpdateRole", Tenant, ["o", "", "", "", "", "", ""]),
    ("RoleService/DeleteRole", Tenant, ["o", "", "", "", "", "", ""]),
    ("SeatService/GetSeatUsage", Tenant, ["o", "", "", "", "", "", ""]),
    ("SeatService/ListSeatLedger", Tenant, ["o", "", "", "", "", "", ""]),
    ("SeatService/GetSeatForecast", Tenant, ["o", "", "", "", "", "", ""]),
    ("TemplateService/ListTemplates", Tenant, ["o", "", "", "", "", "", ""]),
    ("TemplateService/GetTemplate", Tenant, ["o", "", "", "", "", "", ""]),
    (
        "TemplateService/ListTemplateVersions",
        Tenant,
        ["o", "", "", "", "", "", ""],
    ),
    ("TemplateService/UpdateTemplate", Tenant, ["o", "", "", "", "", "", ""]),
    ("TemplateService/ResetTemplate", Tenant, ["o", "", "", "", "", "", ""]),
    ("TemplateService/PreviewTemplate", Tenant, ["o", "", "", "", "", "", ""]),
    ("TenantService/CreateTenant", Tenant, ["", "", "", "", "", "", ""]),
    ("TenantService/GetTenant", Tenant, ["o", "", "", "", "", "", ""]),
    ("TenantService/UpdateTenant", Tenant, ["o", "", "", "", "", "", ""]),
    ("TenantService/PauseMail", Tenant, ["o", "", "", "", "", "", ""]),
    ("TenantService/ResumeMail", Tenant, ["o", "", "", "", "", "", ""]),
    ("TransferService/ImportUsers", Place, ["o", "o", "", "", "", "", ""]),
    ("TransferService/ExportUsers", Place, ["o", "o", "", "", "", "", ""]),
    ("UserService/CreateUser", Place, ["o", "o", "", "", "", "", ""]),
    ("UserService/GetUser", Account, ["os", "os", "s", "os", "os", "s", "s"]),
    (
        "UserService/BatchGetUsers",
        Account,
        ["os", "os", "s", "os", "os", "s", "s"],
    ),
    (
        "UserService/LookupUser",
        Account,
        ["os", "os", "s", "os", "os", "s", "s"],
    ),
    ("UserService/ListUsers", Place, ["o", "o", "", "o", "o", "", ""]),
    ("UserService/UpdateUser", Account, ["os", "os", "s", "s", "s", "s", "s"]),
    ("UserService/DeactivateUser", Account, ["o", "o", "", "", "", "", ""]),
    ("UserService/ReactivateUser", Account, ["o", "o", "", "", "", "", ""]),
    ("UserService/SetUserExpiration", Account, ["o", "o", "", "", "", "", ""]),
    (
        "UserService/ExplainUser",
        Account,
        ["os", "os", "s", "os", "os", "s", "s"],
    ),
    ("WorkService/BeginDelivery", Tenant, ["", "", "", "", "", "", ""]),
    ("WorkService/ReportTransmitting", Tenant, ["", "", "", "", "", "", ""]),
    ("WorkService/FinishDelivery", Tenant, ["", "", "", "", "", "", ""]),
    ("WorkService/ExpireUsers", Tenant, ["", "", "", "", "", "", ""]),
    ("WorkService/EraseUsers", Tenant, ["", "", "", "", "", "", ""]),
];

const HEAD: &str = "\
# Who may call what

Two columns for each role. Under the role's name stands what is expected, written by hand in
`tests/authorization/matrix.rs` and compared there with what the policies of this folder answer. Under *so* stands what the
running service answered, asked by `tests/e2e/permissions/matrix` with a call of each kind by a person of each kind. Tests
fail where any of the three differ, and when this document is behind.

- **own**: in the scope that the role is held in. That is the platform for the first role, a group for the others, and for
  instructors also their session, with what L7 asks for: one group, and the role learner.
- **foreign**: in another group or session, or on the platform for a role that is held in a group. To the administrator of
  the platform nothing is foreign.
- **self**: with the own account, which is in the group. `UpdateUser` changes the language there.
- **anybody**: whoever acts, since a link or a password proves whom it is about.

*Asked about* says what the permission is asked on: the tenant as a whole, a place (each group of the call, the session,
or else the platform), an account (each one of the call), or the program that calls. What cannot be said in a call, such as
the session in most of them, is asked of the policies only. Services have permissions by name; a role of the tenant's own
making has what it was made of. Nobody gives more than they hold, or changes whoever holds more: that depends on the role
that is given and on the roles of the other, and stands in `limits.cedar`.

";

/// Who holds each role.
fn holders() -> [Principal; 7] {
    let held = |role| vec![built_in(role, in_group(10))];
    [
        me(vec![built_in(Administrator, Scope::Platform)]),
        me(held(Administrator)),
        me(held(Author)),
        me(held(Coach)),
        me([held(Coach), vec![built_in(Instructor, session("spring"))]].concat()),
        me(held(Learner)),
        me(vec![]),
    ]
}

/// Where the calls are tried for one of `ROLES`.
fn places(about: About, role: usize) -> Vec<(char, Resource)> {
    let place = Resource::Scope;
    let of_session = if role == 4 { 'o' } else { 'f' };
    match (about, role == 0) {
        (Program, _) => vec![('a', place(Scope::Platform))],
        (Tenant, true) => vec![('o', place(Scope::Platform))],
        (Tenant, false) => vec![('f', place(Scope::Platform))],
        (Place, true) => vec![('o', place(Scope::Platform)), ('o', place(in_group(10)))],
        (Place, false) => vec![
            ('o', place(in_group(10))),
            (of_session, place(session("spring"))),
            ('f', place(in_group(20))),
            ('f', place(session("autumn"))),
            ('f', place(Scope::Platform)),
        ],
        (Account, true) => vec![('o', account(2, &[])), ('s', account(ME, &[10]))],
        (Account, false) => vec![
            ('o', account(2, &[10])),
            ('f', account(2, &[20])),
            ('f', account(2, &[])),
            ('s', account(ME, &[10])),
        ],
    }
}

/// What the policies answer.
fn actual(principal: &Principal, permission: Permission, about: About, role: usize) -> String {
    let intent = match permission {
        Permission::InvitationsSend | Permission::UsersCreate if about == Place => giving(&["learner"], 1),
        Permission::UsersUpdate => changing(&["language"]),
        _ => Intent::default(),
    };
    let program = service(&[permission.as_str()]);
    let principal = if about == Program { &program } else { principal };
    let mut letters = String::new();
    for (letter, resource) in places(about, role) {
        let allowed = decide(principal, permission, &resource, &intent).is_allowed();
        if allowed && !letters.contains(letter) {
            letters.push(letter);
        }
    }
    letters
}

fn words(letters: &str) -> String {
    let word = |letter| match letter {
        'o' => "own",
        'f' => "foreign",
        'a' => "anybody",
        _ => "self",
    };
    let words: Vec<_> = letters.chars().map(word).collect();
    if words.is_empty() {
        "–".into()
    } else {
        words.join(" ")
    }
}

/// What the service answered, as the document has it: by RPC, in the order of `ROLES`.
fn answered(document: &str) -> BTreeMap<String, Vec<String>> {
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split('|').map(|cell| cell.trim().to_owned());
        let method = cells.next()?;
        Some((method, cells.skip(3).step_by(2).take(ROLES.len()).collect()))
    });
    rows.collect()
}

/// U1, U2, L6, L7, S9: every RPC for every role.
#[test]
fn u1_the_matrix_of_rpcs_and_roles_is_as_expected_and_the_document_shows_it() {
    let mut text = HEAD.to_owned();
    text.push_str("| RPC | permission | asked about |");
    for role in ROLES {
        write!(text, " {role} | so |").expect("text");
    }
    text.push_str("\n| --- | --- | --- |");
    text.push_str(&" --- | --- |".repeat(ROLES.len()));
    text.push('\n');

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/MATRIX.md");
    let answered = answered(&fs::read_to_string(path).unwrap_or_default());
    let holders = holders();
    let mut not_so = BTreeSet::new();
    let mut different = BTreeMap::new();
    for (method, about, expected) in EXPECTED {
        let permission = permission_of(method).unwrap_or_else(|| panic!("{method} is not in METHODS"));
        let asked_about = match about {
            Tenant => "tenant",
            Place => "place",
            Account => "account",
            Program => "program",
        };
        write!(text, "| {method} | {} | {asked_about} |", permission.as_str()).expect("text");
        for (index, (principal, expected)) in holders.iter().zip(expected).enumerate() {
            let actual = actual(principal, permission, *about, index);
            let so = answered.get(*method).and_then(|cells| cells.get(index));
            let so = so.map_or("?", String::as_str);
            write!(text, " {} | {so} |", words(expected)).expect("text");
            if so != words(expected) {
                not_so.insert((*method, ROLES[index]));
            }
            if actual != *expected {
                different.insert((*method, ROLES[index]), (words(expected), words(&actual)));
            }
        }
        text.push('\n');
    }
    assert!(
        different.is_empty(),
        "expected, and what policies answer: {different:#?}"
    );

    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &text).expect("the document is written");
        return;
    }
    let shown = fs::read_to_string(path).unwrap_or_default();
    let behind: Vec<_> = text.lines().filter(|line| !shown.contains(line)).collect();
    let way_out = "run: UPDATE=1 cargo test -p usher-authorization matrix";
    assert!(
        shown == text,
        "policies/MATRIX.md is behind; {way_out}\nfor {behind:#?}"
    );
    let way_out = "run: UPDATE=1 cargo test -p usher-tests --test e2e matrix";
    assert!(
        not_so.is_empty(),
        "the service was not asked, or answers otherwise; {way_out}\nfor {not_so:#?}"
    );
}

/// U1: none is left out.
#[test]
fn u1_the_matrix_has_every_rpc_once() {
    let shown: Vec<_> = EXPECTED.iter().map(|(method, ..)| *method).collect();
    let known: Vec<_> = METHODS.iter().map(|(method, _)| *method).collect();
    assert_eq!(shown.iter().collect::<BTreeSet<_>>(), known.iter().collect());
    assert_eq!(shown.len(), known.len());
}
