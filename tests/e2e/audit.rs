//! The audit log (B14): what leaves an entry, who reads them, and that tampering is found. On both databases.

mod over_time;
mod unchanged;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_tests::environment::{by_hand, eventually};
use usher_tests::system::{Clients, Options, System};

use crate::command_line::{printed, usher};
use crate::stage::{PASSWORD, PATIENCE, apart, refused};

/// A tenant with an administrator and somebody without a role, on a system of its own.
struct Office {
    system: System,
    tenant: String,
    admin: String,
    ana: String,
}

impl Office {
    async fn open(sqlite: bool) -> Result<Self> {
        let options = Options {
            without_workers: true,
            sqlite,
            ..Options::default()
        };
        let system = System::start(options).await?;
        let tenant = system.tenant(api::Tenant::default()).await?;
        let mut office = Self {
            system,
            tenant,
            admin: String::new(),
            ana: String::new(),
        };
        office.admin = office.person("admin@example.org", &["administrator"]).await?;
        office.ana = office.person("ana@example.org", &[]).await?;
        Ok(office)
    }

    async fn person(&self, email: &str, roles: &[&str]) -> Result<String> {
        let request = api::CreateUserRequest {
            tenant_id: self.tenant.clone(),
            user: Some(api::User {
                email: email.into(),
                ..api::User::default()
            }),
            initial_state: api::InitialState::ActiveWithPassword.into(),
            password: PASSWORD.into(),
            roles: roles.iter().map(ToString::to_string).collect(),
            ..api::CreateUserRequest::default()
        };
        let created = self.system.clients()?.users().create_user(request).await?.into_inner();
        Ok(created.user.context("a user")?.user_id)
    }

    fn admin(&self) -> Result<Clients> {
        self.system.clients_as(&self.admin)
    }

    fn renaming(&self, name: &str, options: api::MutationOptions) -> api::UpdateUserRequest {
        api::UpdateUserRequest {
            user: Some(api::User {
                tenant_id: self.tenant.clone(),
                user_id: self.ana.clone(),
                first_name: name.into(),
                ..api::User::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["first_name".into()],
            }),
            options: Some(options),
            ..api::UpdateUserRequest::default()
        }
    }

    async fn rename(&self, name: &str) -> Result<()> {
        let request = self.renaming(name, api::MutationOptions::default());
        self.admin()?.users().update_user(request).await?;
        Ok(())
    }

    fn leaving(&self, user: &str) -> api::DeactivateUserRequest {
        api::DeactivateUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::DeactivateUserRequest::default()
        }
    }

    /// Entries, the newest first, as a program sees them.
    async fn entries(&self, filter: api::AuditFilter) -> Result<Vec<api::AuditEntry>> {
        let request = api::ListAuditEntriesRequest {
            tenant_id: self.tenant.clone(),
            filter: Some(filter),
            page_size: 1_000,
            page_token: String::new(),
        };
        let listed = self.system.clients()?.audit().list_audit_entries(request).await?;
        Ok(listed.into_inner().entries)
    }

    /// Waits for the newest entry of a method: reads and refusals are written a moment after the answer.
    async fn newest(&self, method: &str) -> Result<api::AuditEntry> {
        let what = format!("an entry of {method}");
        let filter = api::AuditFilter {
            method: method.into(),
            ..api::AuditFilter::default()
        };
        eventually(&what, PATIENCE, async || {
            self.entries(filter.clone()).await.ok()?.into_iter().next()
        })
        .await
    }

    /// Waits until everything is sealed; how many entries there are.
    async fn sealed(&self) -> Result<usize> {
        eventually("a sealed log", PATIENCE, async || {
            let entries = self.entries(api::AuditFilter::default()).await.ok()?;
            // The question itself leaves an entry.
            let open = entries.iter().filter(|entry| entry.sequence == 0);
            let open = open
                .filter(|entry| entry.method != "AuditService/ListAuditEntries")
                .count();
            (open == 0 && !entries.is_empty()).then_some(entries.len())
        })
        .await
    }

    /// What `usher audit verify` says; whether it found nothing.
    async fn verify(&self, more: &[&str]) -> Result<(bool, String)> {
        let server = format!("http://127.0.0.1:{}", self.system.port);
        let mut arguments = vec!["--server", &server, "--tenant", &self.tenant, "audit", "verify"];
        arguments.extend(more);
        let output = usher(&arguments).await?;
        let text = printed(&output);
        let code = output.status.code();
        ensure!(
            matches!(code, Some(0 | 65)),
            "{code:?} {text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok((code == Some(0), text))
    }

    /// What somebody does who administers the database.
    async fn by_hand(&self, statements: &str) -> Result<()> {
        let url = &self.system.database_url;
        let begin = if url.starts_with("sqlite") {
            "BEGIN IMMEDIATE"
        } else {
            "BEGIN"
        };
        by_hand(url, &format!("{begin}; {statements}; COMMIT")).await
    }
}

fn fields(entry: &api::AuditEntry) -> BTreeMap<String, (Option<String>, Option<String>)> {
    let change = |change: &api::AuditChange| (change.field.clone(), (change.before.clone(), change.after.clone()));
    entry.changes.iter().map(change).collect()
}

fn change(before: &str, after: &str) -> (Option<String>, Option<String>) {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (some(before), some(after))
}

/// B14
#[test]
fn b14_changes_refusals_and_reads_leave_entries_with_who_whom_through_what_and_why() -> Result<()> {
    apart(async {
        for sqlite in [false, true] {
            entries(&Office::open(sqlite).await?).await?;
        }
        Ok(())
    })
}

async fn entries(office: &Office) -> Result<()> {
    let created = office.newest("UserService/CreateUser").await?;
    assert_eq!(
        (created.user_id.as_str(), created.actor_id.as_str()),
        (office.ana.as_str(), "anonymous")
    );
    let of_new = fields(&created);
    assert_eq!(of_new["email"], change("", "ana@example.org"));
    assert_eq!(of_new["status"], change("", "ACTIVE"));
    assert_eq!(of_new["password"], change("", ""), "only that there is one");

    office.rename("Ana").await?;
    let options = api::MutationOptions {
        request_id: "r-17".into(),
        reason: "she asked for it".into(),
        validate_only: false,
    };
    let mut users = office.admin()?.users();
    users.update_user(office.renaming("Anna", options.clone())).await?;
    let changed = office.newest("UserService/UpdateUser").await?;
    assert_eq!(fields(&changed), [("first_name".into(), change("Ana", "Anna"))].into());
    assert_eq!(
        (
            changed.actor_id.as_str(),
            changed.user_id.as_str(),
            changed.outcome.as_str()
        ),
        (office.admin.as_str(), office.ana.as_str(), "OK")
    );
    assert_eq!(
        (
            changed.reason.as_str(),
            changed.request_id.as_str(),
            changed.permission.as_str()
        ),
        ("she asked for it", "r-17", "users.update")
    );
    assert!(changed.caller.contains("tonic"), "{}", changed.caller);
    let of_method = api::AuditFilter {
        method: "UserService/UpdateUser".into(),
        ..api::AuditFilter::default()
    };
    assert_eq!(office.entries(of_method.clone()).await?.len(), 2);
    // A repeat and a trial change nothing, and answer her whole account: they are reads of it.
    users.update_user(office.renaming("Anna", options)).await?;
    let trial = api::MutationOptions {
        validate_only: true,
        ..api::MutationOptions::default()
    };
    users.update_user(office.renaming("Else", trial)).await?;
    let all = eventually("two reads", PATIENCE, async || {
        let all = office.entries(of_method.clone()).await.ok()?;
        (all.len() == 4).then_some(all)
    })
    .await?;
    for read in &all[..2] {
        assert_eq!(read.user_id, office.ana);
        assert_eq!(fields(read), [("count".into(), change("", "1"))].into());
    }

    let password = api::ChangePasswordRequest {
        tenant_id: office.tenant.clone(),
        email: "ana@example.org".into(),
        current_password: PASSWORD.into(),
        new_password: "another good password".into(),
        options: None,
    };
    office.system.clients()?.access().change_password(password).await?;
    let own = office.newest("AccessService/ChangePassword").await?;
    assert_eq!(
        (&own.actor_id, &own.user_id),
        (&office.ana, &office.ana),
        "she did it herself"
    );
    assert_eq!(fields(&own), [("password".into(), change("", ""))].into());

    // Refusals: for want of a permission, and by the rules.
    let as_ana = office.system.clients_as(&office.ana)?;
    let denied = refused(as_ana.users().deactivate_user(office.leaving(&office.admin)).await);
    assert_eq!(denied.code, Code::PermissionDenied);
    let entry = office.newest("UserService/DeactivateUser").await?;
    assert_eq!(
        (entry.outcome.as_str(), &entry.actor_id, &entry.user_id),
        ("PERMISSION_DENIED", &office.ana, &office.admin)
    );
    let nobody = uuid::Uuid::from_u128(7).to_string();
    refused(
        office
            .admin()?
            .users()
            .reactivate_user(api::ReactivateUserRequest {
                tenant_id: office.tenant.clone(),
                user_id: nobody,
                ..api::ReactivateUserRequest::default()
            })
            .await,
    );
    let entry = office.newest("UserService/ReactivateUser").await?;
    assert_eq!(entry.outcome, "USER_NOT_FOUND");
    // Whoever looks for somebody and is not told that they are there is written down all the same.
    let lookup = api::LookupUserRequest {
        tenant_id: office.tenant.clone(),
        key: Some(api::lookup_user_request::Key::Email("admin@example.org".into())),
    };
    assert_eq!(
        refused(as_ana.users().lookup_user(lookup.clone()).await).code,
        Code::NotFound
    );
    let entry = office.newest("UserService/LookupUser").await?;
    assert_eq!(
        (entry.outcome.as_str(), &entry.user_id),
        ("PERMISSION_DENIED", &office.admin)
    );

    reads(office, lookup).await
}

async fn reads(office: &Office, lookup: api::LookupUserRequest) -> Result<()> {
    let get = api::GetUserRequest {
        tenant_id: office.tenant.clone(),
        user_id: office.ana.clone(),
    };
    // A service in its own name is no person who reads.
    office.system.clients()?.users().get_user(get.clone()).await?;
    office.admin()?.users().get_user(get).await?;
    let entry = office.newest("UserService/GetUser").await?;
    assert_eq!(
        (&entry.actor_id, &entry.user_id, entry.outcome.as_str()),
        (&office.admin, &office.ana, "OK")
    );
    let of_method = api::AuditFilter {
        method: "UserService/GetUser".into(),
        ..api::AuditFilter::default()
    };
    assert_eq!(office.entries(of_method).await?.len(), 1);
    let list = api::ListUsersRequest {
        tenant_id: office.tenant.clone(),
        ..api::ListUsersRequest::default()
    };
    office.admin()?.users().list_users(list).await?;
    let entry = office.newest("UserService/ListUsers").await?;
    let told = fields(&entry);
    assert_eq!(told["count"], change("", "2"));
    assert!(told.contains_key("filter") && entry.user_id.is_empty());
    office.admin()?.users().lookup_user(lookup).await?;

    // Who reads the log stands in it; and only administrators of the platform do.
    let request = api::ListAuditEntriesRequest {
        tenant_id: office.tenant.clone(),
        page_size: 1,
        ..api::ListAuditEntriesRequest::default()
    };
    let page = office
        .admin()?
        .audit()
        .list_audit_entries(request.clone())
        .await?
        .into_inner();
    assert_eq!((page.entries.len(), page.next_page_token.is_empty()), (1, false));
    let as_ana = office.system.clients_as(&office.ana)?;
    let denied = refused(as_ana.audit().list_audit_entries(request).await);
    assert_eq!(denied.code, Code::PermissionDenied);
    let by_admin = api::AuditFilter {
        actor_id: office.admin.clone(),
        method: "AuditService/ListAuditEntries".into(),
        ..api::AuditFilter::default()
    };
    eventually("the reading of the log", PATIENCE, async || {
        let entries = office.entries(by_admin.clone()).await.ok()?;
        (entries.len() == 1).then_some(())
    })
    .await?;
    office.sealed().await?;
    let (holds, text) = office.verify(&[]).await?;
    assert!(holds && text.contains("nobody tampered"), "{text}");
    exported(office).await
}

async fn exported(office: &Office) -> Result<()> {
    for (format, mark) in [
        (api::AuditFormat::Csv, "\u{FEFF}audit_id,"),
        (api::AuditFormat::JsonLines, "{"),
    ] {
        let request = api::ExportAuditEntriesRequest {
            tenant_id: office.tenant.clone(),
            format: format.into(),
            filter: Some(api::AuditFilter {
                user_id: office.ana.clone(),
                ..api::AuditFilter::default()
            }),
        };
        let mut stream = office
            .admin()?
            .audit()
            .export_audit_entries(request)
            .await?
            .into_inner();
        let (mut data, mut count) = (Vec::new(), 0);
        while let Some(piece) = stream.message().await? {
            data.extend(piece.data);
            count = piece.done_count;
        }
        let text = String::from_utf8(data)?;
        assert!(text.starts_with(mark) && text.contains("she asked for it"), "{text}");
        let heads = usize::from(format == api::AuditFormat::Csv);
        assert_eq!(text.lines().count(), usize::try_from(count)? + heads);
    }
    Ok(())
}

/// Which rows of `audit` have these places.
macro_rules! at {
    ($places:literal) => {
        concat!(
            "audit_id IN (SELECT audit_id FROM audit_links WHERE sequence ",
            $places,
            ")"
        )
    };
}

/// Each kind of tampering, the row that it is done to, and what is told.
const TAMPERINGS: [(&str, &str, &[&str]); 12] = [
    (
        concat!("UPDATE audit SET actor = 'somebody' WHERE ", at!("= 5")),
        "5",
        &["was changed"],
    ),
    (
        concat!("UPDATE audit SET outcome = 'OKAY' WHERE ", at!("= 6")),
        "6",
        &["was changed"],
    ),
    (
        concat!("UPDATE audit SET reason = 'no reason' WHERE ", at!("= 7")),
        "7",
        &["its reason"],
    ),
    (
        concat!("UPDATE audit SET details = '[]' WHERE ", at!("= 8")),
        "8",
        &["its reason"],
    ),
    (
        concat!("UPDATE audit SET details = NULL, salt = NULL WHERE ", at!("= 9")),
        "9",
        &["not by an erasure"],
    ),
    (
        "UPDATE audit_links SET chain = (SELECT l.chain FROM audit_links l WHERE l.sequence = 3) WHERE sequence = 10",
        "10",
        &["was changed", "does not follow"],
    ),
    (concat!("DELETE FROM audit WHERE ", at!("= 4")), "4", &["deleted"]),
    (
        concat!("DELETE FROM audit WHERE ", at!("BETWEEN 6 AND 8")),
        "6 to 8",
        &["deleted"],
    ),
    ("DELETE FROM audit_links WHERE sequence = 4", "4", &["deleted"]),
    (
        concat!(
            "DELETE FROM audit WHERE ",
            at!("= 4"),
            "; DELETE FROM audit_links WHERE sequence = 4"
        ),
        "4",
        &["deleted"],
    ),
    (
        "UPDATE audit_links SET sequence = -1 WHERE sequence = 11; UPDATE audit_links SET sequence = 11 WHERE sequence = 12; \
         UPDATE audit_links SET sequence = 12 WHERE sequence = -1",
        "11",
        &["does not follow"],
    ),
    (
        "UPDATE audit_heads SET sequence = sequence - 1",
        "",
        &["record of the end"],
    ),
];

/// B14
#[test]
fn b14_tampering_by_hand_is_found_by_the_command_which_says_where() -> Result<()> {
    apart(async {
        for sqlite in [false, true] {
            let office = Office::open(sqlite).await?;
            for number in 0..20 {
                office.rename(&format!("Ana {number}")).await?;
            }
            tampered(&office).await?;
        }
        Ok(())
    })
}

async fn tampered(office: &Office) -> Result<()> {
    for (tampering, place, told) in TAMPERINGS {
        office.sealed().await?;
        office
            .by_hand(
                "CREATE TABLE kept AS SELECT * FROM audit; \
                 CREATE TABLE kept_links AS SELECT * FROM audit_links WHERE sequence IS NOT NULL",
            )
            .await?;
        office.by_hand(tampering).await?;
        let (holds, text) = office.verify(&[]).await?;
        assert!(!holds, "{tampering} was not found");
        let line = text
            .lines()
            .find(|line| line.starts_with(place) && told.iter().any(|it| line.contains(it)));
        assert!(line.is_some(), "{tampering}: {text}");
        // As it was: what was written meanwhile stays.
        let head = if tampering.contains("audit_heads") {
            "UPDATE audit_heads SET sequence = sequence + 1;"
        } else {
            ""
        };
        office
            .by_hand(&format!(
                "DELETE FROM audit WHERE audit_id IN (SELECT audit_id FROM kept); INSERT INTO audit SELECT * FROM kept; \
                 DELETE FROM audit_links WHERE audit_id IN (SELECT audit_id FROM kept_links); \
                 INSERT INTO audit_links SELECT * FROM kept_links; {head} DROP TABLE kept; DROP TABLE kept_links"
            ))
            .await?;
        let (holds, text) = office.verify(&[]).await?;
        assert!(holds, "after {tampering} was taken back: {text}");
    }

    // An end that is cut off with the record of it: only an anchor tells.
    office.sealed().await?;
    let (_, text) = office.verify(&[]).await?;
    let anchor = text.lines().find_map(|line| line.strip_prefix("The chain ends at "));
    let anchor = anchor.context("an anchor")?.to_owned();
    let (holds, text) = office.verify(&["--anchor", &anchor]).await?;
    assert!(holds, "{text}");
    office
        .by_hand("DELETE FROM audit; DELETE FROM audit_links; DELETE FROM audit_heads")
        .await?;
    office.rename("Anew").await?;
    office.sealed().await?;
    assert!(office.verify(&[]).await?.0, "a new chain holds by itself");
    let (holds, text) = office.verify(&["--anchor", &anchor]).await?;
    assert!(!holds && text.contains("cut off"), "{text}");

    // A row that Usher did not write.
    office
        .by_hand(
            "INSERT INTO audit (tenant_id, audit_id, occurred_at, actor, caller, method, permission, outcome, reason, \
             request_id, details, salt, digest) SELECT tenant_id, subject_id, occurred_at, 'me', caller, method, \
             permission, outcome, reason, request_id, details, salt, digest FROM audit \
             WHERE method = 'UserService/UpdateUser' LIMIT 1; \
             INSERT INTO audit_links (tenant_id, audit_id, code) SELECT a.tenant_id, a.audit_id, l.code FROM audit a, \
             audit_links l WHERE a.actor = 'me' AND l.sequence = 1",
        )
        .await?;
    let (holds, text) = office.verify(&[]).await?;
    assert!(!holds && text.contains("was not written by Usher"), "{text}");
    Ok(())
}

/// B14: two replicas seal what both write.
#[test]
fn b14_two_replicas_write_and_seal_one_chain_without_a_gap() -> Result<()> {
    apart(async {
        let office = Office::open(false).await?;
        let (_replica, clients) = office.system.replica().await?;
        let both = [office.system.clients()?, clients];
        let mut writing = tokio::task::JoinSet::new();
        for number in 0..60 {
            let clients = both[number % 2].clone();
            let request = api::CreateUserRequest {
                tenant_id: office.tenant.clone(),
                user: Some(api::User {
                    email: format!("person{number}@example.org"),
                    ..api::User::default()
                }),
                ..api::CreateUserRequest::default()
            };
            writing.spawn(async move { clients.users().create_user(request).await.map(drop) });
        }
        while let Some(written) = writing.join_next().await {
            written??;
        }
        let count = office.sealed().await?;
        assert!(count >= 60, "{count}");
        let (holds, text) = office.verify(&[]).await?;
        assert!(holds, "{text}");
        let sequences = office.entries(api::AuditFilter::default()).await?;
        let mut sequences: Vec<_> = sequences.iter().map(|it| it.sequence).filter(|it| *it > 0).collect();
        sequences.sort_unstable();
        assert!(sequences.iter().copied().eq(1..=i64::try_from(sequences.len())?));
        Ok(())
    })
}
