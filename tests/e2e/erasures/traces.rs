//! Marked data goes in through every RPC that takes any; afterwards no form of the mark stands anywhere in the database (S12).

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use sqlx::{Connection as _, PgConnection, Row as _, SqliteConnection};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::{DeliveryOutcome, ErasureState, ImportMode, JobState};
use usher_tests::environment::eventually;
use usher_tests::system::{Clients, Options, System};

use crate::stage::{PATIENCE, apart};

/// Stands in every text about the person, and in no other.
const MARK: &str = "zqxmarkvw";

struct Plant {
    clients: Clients,
    tenant: String,
    requests: u32,
}

impl Plant {
    #[expect(clippy::unnecessary_wraps, reason = "as the requests have it")]
    fn options(&mut self) -> Option<api::MutationOptions> {
        self.requests += 1;
        Some(api::MutationOptions {
            request_id: format!("plant-{}", self.requests),
            ..api::MutationOptions::default()
        })
    }

    /// With somebody's words about the person.
    fn told(&mut self) -> Option<api::MutationOptions> {
        let options = self.options()?;
        Some(api::MutationOptions {
            reason: format!("{MARK} married"),
            ..options
        })
    }

    fn messages() -> Vec<api::Message> {
        vec![api::Message {
            language: String::new(),
            subject: format!("For {MARK}"),
            text: format!("Dear {MARK}, \"welcome\" – à bientôt"),
        }]
    }

    async fn create(&mut self, email: &str, external_id: &str) -> Result<api::CreateUserResponse, tonic::Status> {
        let request = api::CreateUserRequest {
            tenant_id: self.tenant.clone(),
            user: Some(api::User {
                email: email.into(),
                external_id: external_id.into(),
                first_name: format!("Ana {MARK}"),
                last_name: format!("Núñez {MARK}"),
                labels: vec![format!("class {MARK}")],
                ..api::User::default()
            }),
            options: self.options(),
            ..api::CreateUserRequest::default()
        };
        Ok(self.clients.users().create_user(request).await?.into_inner())
    }

    async fn import(&mut self, mode: ImportMode, file: &str) -> Result<()> {
        let settings = api::ImportSettings {
            tenant_id: self.tenant.clone(),
            mode: mode.into(),
            options: self.options(),
            ..api::ImportSettings::default()
        };
        let parts = vec![Part::Settings(settings), Part::Data(file.as_bytes().to_vec())];
        let parts = parts
            .into_iter()
            .map(|part| api::ImportUsersRequest { part: Some(part) });
        let mut client = self.clients.transfer();
        let answer = client.import_users(stream::iter(parts.collect::<Vec<_>>()));
        let job = answer.await?.into_inner().job.context("no job")?;
        self.ended(&job).await
    }

    async fn ended(&self, job: &api::Job) -> Result<()> {
        let request = api::GetJobRequest {
            tenant_id: self.tenant.clone(),
            job_id: job.job_id.clone(),
        };
        eventually("the end of the job", PATIENCE, async || {
            let job = self
                .clients
                .bulk()
                .get_job(request.clone())
                .await
                .ok()?
                .into_inner()
                .job?;
            (job.state() != JobState::Running).then_some(())
        })
        .await
    }

    async fn bulk(&mut self, user: &str, action: Action) -> Result<()> {
        let request = api::PreviewSelectionRequest {
            tenant_id: self.tenant.clone(),
            selection: Some(api::Selection {
                by: Some(api::selection::By::UserIds(api::UserIds {
                    user_ids: vec![user.into()],
                })),
            }),
        };
        let preview = self.clients.bulk().preview_selection(request).await?.into_inner();
        let request = api::StartBulkRequest {
            tenant_id: self.tenant.clone(),
            digest: preview.digest,
            action: Some(api::BulkAction { action: Some(action) }),
            options: self.told(),
        };
        let started = self.clients.bulk().start_bulk(request).await?.into_inner();
        self.ended(&started.job.context("no job")?).await
    }

    /// Sends the mails of somebody, as a worker that is refused for good with an answer that names the address.
    async fn bounce(&self, user: &str, email: &str) -> Result<()> {
        let request = api::ListDeliveriesRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::ListDeliveriesRequest::default()
        };
        let found = self.clients.deliveries().list_deliveries(request).await?.into_inner();
        for delivery in found.deliveries {
            let request = api::BeginDeliveryRequest {
                tenant_id: self.tenant.clone(),
                user_id: user.into(),
                delivery_id: delivery.delivery_id.clone(),
                worker_id: "test".into(),
            };
            let begun = self.clients.work().begin_delivery(request).await?.into_inner();
            let Some(api::begin_delivery_response::Outcome::Mail(mail)) = begun.outcome else {
                continue;
            };
            let request = api::FinishDeliveryRequest {
                tenant_id: self.tenant.clone(),
                user_id: user.into(),
                delivery_id: delivery.delivery_id,
                claim_id: mail.claim_id,
                outcome: DeliveryOutcome::Failed.into(),
                response: format!("550 5.1.1 <{email}> is unknown here"),
                smtp_code: 550,
                phase: api::SmtpPhase::Recipient.into(),
            };
            self.clients.work().finish_delivery(request).await?;
        }
        Ok(())
    }

    /// Through every RPC that takes something about a person; answers who it is.
    async fn everything(&mut self) -> Result<String> {
        let first = format!("First.{MARK}@Example.org");
        let now = format!("now.{MARK}@münchen.example");
        let external = format!("X-{MARK}");
        let created = self.create(&first, &external).await?.user.context("no user")?;
        let user = created.user_id.clone();
        ensure!(self.create(&first.to_uppercase(), "").await.is_err(), "it is taken");

        for addresses in [first.clone(), format!("{} {MARK}@@broken", first.to_lowercase())] {
            let request = api::InviteUsersRequest {
                tenant_id: self.tenant.clone(),
                addresses,
                messages: Self::messages(),
                options: self.options(),
                ..api::InviteUsersRequest::default()
            };
            let answer = self.clients.invitations().invite_users(request).await?.into_inner();
            ensure!(answer.invited_count == 1, "{answer:?}");
        }
        self.bounce(&user, &first).await?;
        let request = api::UpdateUserRequest {
            user: Some(api::User {
                email: now.clone(),
                first_name: format!("Anna {MARK}"),
                ..created
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["email".into(), "first_name".into()],
            }),
            options: self.told(),
            ..api::UpdateUserRequest::default()
        };
        self.clients.users().update_user(request).await?;
        let request = api::SendInvitationRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.clone(),
            messages: Self::messages(),
            options: self.told(),
        };
        let sent = self.clients.invitations().send_invitation(request).await?.into_inner();
        let request = api::ResendInvitationRequest {
            tenant_id: self.tenant.clone(),
            invitation_id: sent.invitation.context("no invitation")?.invitation_id,
            messages: Self::messages(),
            options: self.options(),
        };
        self.clients.invitations().resend_invitation(request).await?;
        let request = api::SendTestInvitationRequest {
            tenant_id: self.tenant.clone(),
            email: now.clone(),
            first_name: format!("Anna {MARK}"),
            messages: Self::messages(),
            options: self.options(),
            ..api::SendTestInvitationRequest::default()
        };
        self.clients.invitations().send_test_invitation(request).await?;

        // Rows that do, that fail for their values, and that fail for what is there: by all their addresses.
        let rows = format!(
            "email,first_name,last_name,language,external_id,labels\n\
             {now},Anna,{MARK},fr,{external},year {MARK}\n\
             {},Anna {MARK},,no-such-language-at-all,{external},\n\
             somebody@example.org,Anna,{MARK},,{external},\n\
             neighbour@example.org,Neigh,Bour,,N-1,\n",
            now.to_uppercase(),
        );
        self.import(ImportMode::Create, &rows).await?;
        self.import(ImportMode::Update, &rows).await?;
        self.bulk(
            &user,
            Action::EditLabels(api::BulkEditLabels {
                add: vec![format!("bulk {MARK}")],
                remove: vec![format!("class {MARK}")],
            }),
        )
        .await?;
        let messages = Self::messages();
        self.bulk(&user, Action::Invite(api::BulkInvite { messages })).await?;
        self.bounce(&user, &now).await?;
        Ok(user)
    }

    async fn erase(&mut self, user: &str) -> Result<String> {
        let request = api::RequestErasureRequest {
            tenant_id: self.tenant.clone(),
            user_ids: vec![user.into()],
            reason: api::ErasureReason::RightToErasure.into(),
            note: format!("{MARK} wrote a letter"),
            options: self.options(),
        };
        let asked = self.clients.erasures().request_erasure(request).await?.into_inner();
        let erasure = asked.erasures.into_iter().next().context("no erasure")?.erasure_id;
        let item = api::DueErasure {
            tenant_id: self.tenant.clone(),
            erasure_id: erasure.clone(),
        };
        for _ in 0..2 {
            let items = vec![item.clone()];
            self.clients
                .work()
                .erase_users(api::EraseUsersRequest { items })
                .await?;
        }
        Ok(erasure)
    }
}

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
    let mut plant = Plant {
        clients: system.clients_as("head")?,
        tenant,
        requests: 0,
    };
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
    let tables: std::collections::BTreeSet<_> = planted.iter().map(|(table, _)| table.as_str()).collect();
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
    ] {
        ensure!(tables.contains(table), "nothing was planted in {table}: {tables:?}");
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
