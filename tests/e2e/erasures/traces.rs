//! Marked data goes in through every RPC that takes any; afterwards no form of the mark stands anywhere in the database (S12).
//! An RPC that is neither planted through nor known as harmless fails a test here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use sqlx::{Connection as _, PgConnection, Row as _, SqliteConnection};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{ErasureState, ImportMode};
use usher_tests::system::{Options, System};

use super::planting::{MARK, Plant};
use crate::stage::apart;

/// What [`Plant::everything`] and [`Plant::erase`] go through.
const PLANTED: &[&str] = &[
    "AccessService/VerifyPassword",
    "AccessService/ChangePassword",
    "ActivityService/RecordActivity",
    "BulkService/StartBulk",
    "DeliveryService/ReportBounce",
    "DeliveryService/RemoveSuppression",
    "ErasureService/RequestErasure",
    "ErasureService/CancelErasure",
    "GroupService/AddGroupMembers",
    "GroupService/RemoveGroupMembers",
    "InvitationService/InviteUsers",
    "InvitationService/SendInvitation",
    "InvitationService/ResendInvitation",
    "InvitationService/SendTestInvitation",
    "InvitationService/AcceptInvitation",
    "RoleService/AssignRoles",
    "RoleService/RevokeRoles",
    "TransferService/ImportUsers",
    "UserService/CreateUser",
    "UserService/UpdateUser",
    "UserService/DeactivateUser",
    "UserService/ReactivateUser",
    "UserService/SetUserExpiration",
    "WorkService/FinishDelivery",
];

/// Those of them that leave no entry in the audit log by which it is seen that they were called.
const WITHOUT_ENTRIES: &[&str] = &[
    "AccessService/VerifyPassword",
    "ActivityService/RecordActivity",
    "WorkService/FinishDelivery",
];

/// The others, and why nothing about a person comes in by them.
const HARMLESS: &[(&str, &[&str])] = &[
    (
        "the filter is kept for an hour, without its text; that of a job is looked through",
        &["BulkService/PreviewSelection"],
    ),
    (
        "a read: of the question at most a keyed digest is kept",
        &[
            "DeliveryService/ListDeliveries",
            "DeliveryService/ListSuppressions",
            "ErasureService/GetErasure",
            "ErasureService/ListErasures",
            "InactivityService/PreviewInactivity",
            "InvitationService/GetInvitation",
            "InvitationService/ListInvitations",
            "InvitationService/PreviewInvitation",
            "TransferService/ExportUsers",
            "UserService/GetUser",
            "UserService/BatchGetUsers",
            "UserService/LookupUser",
            "UserService/ListUsers",
            "UserService/ExplainUser",
            "AuditService/ListAuditEntries",
            "AuditService/ExportAuditEntries",
            "BulkService/ListJobItems",
            "BulkService/DownloadJobReport",
        ],
    ),
    (
        "a read that is not written down",
        &[
            "AccessService/CheckAccess",
            "AuditService/VerifyAudit",
            "BulkService/GetJob",
            "BulkService/ListJobs",
            "BulkService/WatchJob",
            "ErasureService/ListErasureSubscribers",
            "ErasureService/GetErasureCertificate",
            "EventService/WatchEvents",
            "GroupService/GetGroup",
            "GroupService/ListGroups",
            "InactivityService/ListInactivityRuns",
            "InvitationService/InspectInvitation",
            "RoleService/ListRoles",
            "RoleService/ListRoleAssignments",
            "SeatService/GetSeatUsage",
            "SeatService/ListSeatLedger",
            "SeatService/GetSeatForecast",
            "TemplateService/ListTemplates",
            "TemplateService/GetTemplate",
            "TemplateService/ListTemplateVersions",
            "TemplateService/PreviewTemplate",
            "TenantService/GetTenant",
        ],
    ),
    (
        "ids and a caller's words, which go the way of those of SetUserExpiration",
        &["InvitationService/CancelInvitation", "DeliveryService/ResolveDelivery"],
    ),
    (
        "a job like those of StartBulk, of the same items",
        &[
            "BulkService/CancelJob",
            "BulkService/RetryFailed",
            "BulkService/UndoJob",
        ],
    ),
    ("the same as RecordActivity", &["ActivityService/StreamActivity"]),
    (
        "a token, which is no word about anybody",
        &["InvitationService/RequestFreshInvitation"],
    ),
    (
        "about erasures that were asked for, by services",
        &[
            "ErasureService/ApproveErasure",
            "ErasureService/AcknowledgeErasure",
            "ErasureService/RegisterErasureSubscriber",
            "ErasureService/UnregisterErasureSubscriber",
        ],
    ),
    (
        "of the tenant, and of no person",
        &[
            "GroupService/CreateGroup",
            "GroupService/UpdateGroup",
            "GroupService/DeleteGroup",
            "InactivityService/ApproveInactivityRun",
            "InactivityService/DismissInactivityRun",
            "RoleService/CreateRole",
            "RoleService/UpdateRole",
            "RoleService/DeleteRole",
            "TemplateService/UpdateTemplate",
            "TemplateService/ResetTemplate",
            "TenantService/CreateTenant",
            "TenantService/UpdateTenant",
            "TenantService/PauseMail",
            "TenantService/ResumeMail",
        ],
    ),
    (
        "a worker's, of ids only",
        &[
            "WorkService/BeginDelivery",
            "WorkService/ReportTransmitting",
            "WorkService/ExpireUsers",
            "WorkService/EraseUsers",
        ],
    ),
];

async fn nothing_is_left(sqlite: bool) -> Result<()> {
    let system = System::start(Options {
        without_workers: true,
        sqlite,
        ..Options::default()
    })
    .await?;
    let tenant = system
        .tenant(api::Tenant {
            erasure_cool_off: Some(prost_types::Duration::default()),
            ..api::Tenant::default()
        })
        .await?;
    let mut plant = Plant::new(system.clients_as("head")?, tenant);
    let kept = plant.clients.users();
    let user = plant.everything().await?;
    let neighbour = api::CreateUserRequest {
        tenant_id: plant.tenant.clone(),
        user: Some(api::User {
            email: "other@example.org".into(),
            ..api::User::default()
        }),
        options: Some(api::MutationOptions {
            request_id: "other".into(),
            ..api::MutationOptions::default()
        }),
        ..api::CreateUserRequest::default()
    };
    let before = kept.clone().create_user(neighbour.clone()).await?.into_inner();
    let planted = marks(&system.database_url).await?;
    let tables: BTreeSet<_> = planted.iter().map(|(table, _)| table.as_str()).collect();
    for table in [
        "users",
        "invitations",
        "deliveries",
        "delivery_attempts",
        "suppressions",
        "responses",
        "selection_chunks",
        "job_chunks",
        "jobs",
        "history",
        "outbox",
        "audit",
        "erasures",
    ] {
        ensure!(tables.contains(table), "nothing was planted in {table}: {tables:?}");
    }

    let entries = entries(&plant).await?;
    let called: BTreeSet<&str> = entries.iter().map(|entry| entry.method.as_str()).collect();
    for method in PLANTED.iter().filter(|method| !WITHOUT_ENTRIES.contains(method)) {
        ensure!(called.contains(method), "nothing went through {method}");
    }

    let erasure = plant.erase(&user).await?;
    let request = api::GetErasureRequest {
        tenant_id: plant.tenant.clone(),
        erasure_id: erasure.clone(),
    };
    let erased = plant.clients.erasures().get_erasure(request).await?.into_inner();
    ensure!(erased.erasure.context("no erasure")?.state() == ErasureState::Erased);
    let left = marks(&system.database_url).await?;
    ensure!(left.is_empty(), "left: {left:#?}");
    let about_others = self::entries(&plant).await?;
    let told = about_others.iter().filter(|entry| entry.reason == "left the school");
    ensure!(told.count() == 1, "what tells nothing of them stays");

    let after = kept.clone().create_user(neighbour).await?.into_inner();
    ensure!(before == after, "a neighbour's answer is given again");
    let rows = format!("email,first_name\nNow.{MARK}@xn--mnchen-3ya.example,Ana\n");
    plant.import(ImportMode::Create, &rows).await?;
    let again = api::InviteUsersRequest {
        tenant_id: plant.tenant.clone(),
        addresses: format!("first.{MARK}@example.org"),
        ..api::InviteUsersRequest::default()
    };
    let invited = plant.clients.invitations().invite_users(again).await?.into_inner();
    let Some(api::invite_result::Outcome::Invited(invited)) = &invited.results[0].outcome else {
        anyhow::bail!("{invited:?}");
    };
    ensure!(invited.erased_before, "the former address is remembered, too");
    let request = api::GetErasureCertificateRequest {
        tenant_id: plant.tenant.clone(),
        erasure_id: erasure,
    };
    let certificate = plant
        .clients
        .erasures()
        .get_erasure_certificate(request)
        .await?
        .into_inner();
    ensure!(certificate.verified && certificate.text.contains("erased from job_chunks: "));
    Ok(())
}

/// All entries of the audit log.
async fn entries(plant: &Plant) -> Result<Vec<api::AuditEntry>> {
    let request = api::ListAuditEntriesRequest {
        tenant_id: plant.tenant.clone(),
        page_size: 1_000,
        ..api::ListAuditEntriesRequest::default()
    };
    let listed = plant.clients.audit().list_audit_entries(request).await?.into_inner();
    ensure!(listed.next_page_token.is_empty(), "more than a page");
    Ok(listed.entries)
}

/// S12: an RPC of a later version fails this, until the mark goes through it, or it is said why it takes nothing about a person.
#[test]
fn s12_no_rpc_that_takes_something_about_a_person_is_forgotten() -> Result<()> {
    let files = prost_types::FileDescriptorSet::decode(usher_proto::FILE_DESCRIPTOR_SET)?.file;
    let files = files.iter().filter(|file| file.package() == "usher.identity.v1");
    let of = |service: &prost_types::ServiceDescriptorProto| -> Vec<String> {
        let methods = service.method.iter();
        methods
            .map(|method| format!("{}/{}", service.name(), method.name()))
            .collect()
    };
    let all: BTreeSet<String> = files.flat_map(|file| file.service.iter().flat_map(of)).collect();
    let listed: Vec<&str> = HARMLESS
        .iter()
        .flat_map(|(_, methods)| *methods)
        .chain(PLANTED)
        .copied()
        .collect();
    let forgotten: Vec<_> = all.iter().filter(|method| !listed.contains(&method.as_str())).collect();
    ensure!(
        forgotten.is_empty(),
        "plant something through these in planting.rs, or say in HARMLESS why not: {forgotten:?}"
    );
    let gone: Vec<_> = listed.iter().filter(|method| !all.contains(**method)).collect();
    ensure!(gone.is_empty(), "there are no such RPCs: {gone:?}");
    ensure!(listed.len() == all.len(), "one of them is listed twice");
    Ok(())
}

/// Where the mark stands in a full dump of the database, in any of its forms: plain, in any case, as octets, in base64.
async fn marks(url: &str) -> Result<Vec<(String, String)>> {
    let mut forms = vec![MARK.to_owned()];
    for form in [MARK.to_owned(), MARK.to_uppercase()] {
        let mut hex = String::new();
        for octet in form.bytes() {
            write!(hex, "{octet:02x}")?;
        }
        forms.push(hex);
    }
    let mut coded = Vec::new();
    for (shift, changed) in [(0, 0), (1, 2), (2, 3)] {
        // What surrounds it changes the first and the last characters only.
        let padded = [&vec![b'.'; shift], MARK.as_bytes()].concat();
        let text = STANDARD.encode(&padded[..padded.len() - padded.len() % 3]);
        coded.push(text[changed..].to_owned());
    }
    let mut found = Vec::new();
    for (table, row) in dump(url).await? {
        let folded = row.to_lowercase();
        let plain = forms.iter().any(|form| folded.contains(form));
        let in_base64 = coded.iter().any(|form| form.len() > 6 && row.contains(form));
        if plain || in_base64 {
            found.push((table, row));
        }
    }
    Ok(found)
}

/// Every row of every table, as text; octets in hexadecimal.
async fn dump(url: &str) -> Result<Vec<(String, String)>> {
    let mut rows = Vec::new();
    if url.starts_with("sqlite") {
        let mut database = SqliteConnection::connect(url).await?;
        let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&mut database)
            .await?;
        for table in tables {
            let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
                .bind(&table)
                .fetch_all(&mut database)
                .await?;
            let quoted: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
            let sql = format!("SELECT {} AS row FROM \"{table}\"", quoted.join(" || ' ' || "));
            for row in sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut database).await? {
                rows.push((table.clone(), row.try_get::<String, _>(0)?));
            }
        }
        return Ok(rows);
    }
    let mut database = PgConnection::connect(url).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables \
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&mut database)
    .await?;
    for table in tables {
        let sql = format!("SELECT t::text AS row FROM {table} t");
        let name = table.rsplit('.').next().unwrap_or_default().to_owned();
        for row in sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut database).await? {
            rows.push((name.clone(), row.try_get::<String, _>(0)?));
        }
    }
    Ok(rows)
}

/// S12
#[test]
fn s12_no_table_holds_a_trace_of_an_erased_person_on_postgresql() -> Result<()> {
    apart(nothing_is_left(false))
}

/// S12
#[test]
fn s12_no_table_holds_a_trace_of_an_erased_person_on_sqlite() -> Result<()> {
    apart(nothing_is_left(true))
}
