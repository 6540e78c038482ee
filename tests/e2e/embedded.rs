//! The embedded default: everything in one process, on SQLite, with mails as files in a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrono::DateTime;
use tonic::transport::Channel;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DeliveryState, DenialReason, UserStatus};
use usher_tests::environment::mail::ParsedMail;
use usher_tests::environment::processes::Process;
use usher_tests::environment::{eventually, free_port, new_folder};
use usher_tests::ledger;
use usher_tests::system::Clients;

use crate::command_line::{printed, usher};
use crate::stage::{PASSWORD, PATIENCE, apart, token};

/// The tenant that `usher up` makes.
const TENANT: &str = "de300000-0000-4000-8000-000000000001";

struct Embedded {
    process: Process,
    folder: PathBuf,
    server: String,
    clients: Clients,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let url = format!("sqlite:{}", self.folder.join("usher.db").display());
        ledger::check_at_end(&url, async || ledger::check_database(&url).await);
    }
}

impl Embedded {
    fn new(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let data = folder.join("data");
        let arguments = ["up", "--rehearse", "--data", &data.display().to_string()];
        let environment = [("USHER__GRPC__LISTEN".to_owned(), format!("127.0.0.1:{port}"))];
        let server = format!("http://127.0.0.1:{port}");
        let channel = Channel::from_shared(server.clone())?.connect_lazy();
        Ok(Self {
            process: Process::new("usher", &arguments, environment)?,
            folder: data,
            server,
            clients: Clients::new(channel, ""),
        })
    }

    /// Starts it; how long processors worked on that until it serves. Other tests run beside this one, so the clock on the wall
    /// would tell of them.
    async fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.process.spawn()?;
        self.process.ready().await?;
        let worked = self.process.processor_time()?;
        println!("embedded: SERVING after {:?}, {worked:?} of work", began.elapsed());
        Ok(worked)
    }

    /// Runs a command of the operator's.
    async fn usher(&self, arguments: &[&str]) -> Result<String> {
        let all = [&["--server", self.server.as_str()], arguments].concat();
        let output = usher(&all).await?;
        anyhow::ensure!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(printed(&output))
    }

    /// The mails in the folder, by recipient.
    fn mails(&self) -> Result<BTreeMap<String, Vec<ParsedMail>>> {
        let mut mails: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for entry in std::fs::read_dir(self.folder.join("mail"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "eml") {
                let mail = ParsedMail::parse(&std::fs::read(path)?).context("not a mail")?;
                mails.entry(mail.to.clone()).or_default().push(mail);
            }
        }
        Ok(mails)
    }

    /// Waits for so many mails in all.
    async fn mails_become(&self, count: usize) -> Result<BTreeMap<String, Vec<ParsedMail>>> {
        eventually(&format!("{count} mails"), PATIENCE, async || {
            let mails = self.mails().ok()?;
            (mails.values().map(Vec::len).sum::<usize>() >= count).then_some(mails)
        })
        .await
    }

    async fn users(&self) -> Result<BTreeMap<String, api::User>> {
        let request = api::ListUsersRequest {
            tenant_id: TENANT.into(),
            page_size: 1_000,
            ..api::ListUsersRequest::default()
        };
        let users = self.clients.users().list_users(request).await?.into_inner().users;
        Ok(users.into_iter().map(|user| (user.email.clone(), user)).collect())
    }

    /// Waits until these users, and only they, have a status.
    async fn become_(&self, status: UserStatus, emails: &[&str]) -> Result<BTreeMap<String, api::User>> {
        eventually(
            &format!("{emails:?} become {}", status.as_str_name()),
            PATIENCE,
            async || {
                let users = self.users().await.ok()?;
                let those = users.values().filter(|user| user.status() == status);
                those
                    .map(|user| user.email.as_str())
                    .eq(emails.iter().copied())
                    .then_some(users)
            },
        )
        .await
    }

    /// Waits for the tenant, which is made right after the start.
    async fn tenant(&self) -> Result<()> {
        eventually("the first tenant", PATIENCE, async || {
            let tenant_id = TENANT.into();
            self.clients
                .tenants()
                .get_tenant(api::GetTenantRequest { tenant_id })
                .await
                .ok()
        })
        .await
        .map(drop)
    }
}

/// S2, S3, S5, S13, L1, L10, L14: the core of the journey, in one process and over a restart.
#[test]
fn one_process_imports_mails_and_goes_on_after_a_restart_where_it_was() -> Result<()> {
    apart(async {
        let folder = new_folder("embedded")?;
        let mut embedded = Embedded::new(&folder)?;
        let first_start = embedded.start().await?;
        embedded.tenant().await?;
        let file = folder.join("users.csv");
        let text = "email;first_name;last_name;expires\n\
                    ana@example.org;Ana;Silva;\n\
                    bo@example.org;Bo;O’Connor;\n\
                    cy@example.org;Cyrus;Löwe;\n";
        std::fs::write(&file, text)?;
        let told = embedded.usher(&["import", &file.display().to_string()]).await?;
        assert!(told.contains("3 rows: 3 invited"), "{told}");
        let mails = embedded.mails_become(3).await?;
        let everybody = ["ana@example.org", "bo@example.org", "cy@example.org"];
        assert!(mails.keys().map(String::as_str).eq(everybody));
        embedded.become_(UserStatus::Invited, &everybody).await?;
        let accept = api::AcceptInvitationRequest {
            tenant_id: TENANT.into(),
            token: token(&mails["ana@example.org"][0])?,
            first_name: "Ana".into(),
            last_name: "Silva".into(),
            password: PASSWORD.into(),
            options: None,
        };
        embedded.clients.invitations().accept_invitation(accept).await?;
        let before = embedded.become_(UserStatus::Active, &["ana@example.org"]).await?;

        let status = embedded.process.terminate(Duration::from_secs(25)).await?;
        assert!(status.success(), "{status}: {}", embedded.process.output());
        let second_start = embedded.start().await?;
        assert!(first_start < Duration::from_secs(2) && second_start < Duration::from_secs(2));
        assert_eq!(embedded.users().await?, before);

        // Four days pass: the first reminder, to those who wait.
        let data = embedded.folder.display().to_string();
        embedded.usher(&["clock", "advance", "4d", "--data", &data]).await?;
        let mails = embedded.mails_become(5).await?;
        let counts: Vec<_> = mails.values().map(Vec::len).collect();
        assert_eq!(counts, [1, 2, 2]);
        embedded.usher(&["users", "deactivate", "bo@example.org"]).await?;
        // The same import once more finds everybody there, and names who was shut out.
        let again = [
            "--server",
            embedded.server.as_str(),
            "import",
            &file.display().to_string(),
        ];
        let again = usher(&again).await?;
        let told = String::from_utf8(again.stdout)?;
        assert_eq!(again.status.code(), Some(1), "{told}");
        assert!(
            told.contains("2 already there") && told.contains("deactivated"),
            "{told}"
        );

        let cy = embedded.users().await?["cy@example.org"].user_id.clone();
        let ana = before["ana@example.org"].user_id.clone();
        let created = before["ana@example.org"].create_time.context("a time")?;
        let month = DateTime::from_timestamp(created.seconds + 30 * 86_400, 0).context("an instant")?;
        for name in ["ana@example.org", "cy@example.org"] {
            embedded.usher(&["users", "expire", name, &month.to_rfc3339()]).await?;
        }
        embedded.usher(&["clock", "advance", "30d", "--data", &data]).await?;
        let users = embedded
            .become_(UserStatus::Expired, &["ana@example.org", "cy@example.org"])
            .await?;
        assert_eq!(users["bo@example.org"].status(), UserStatus::Deactivated);
        let check = api::CheckAccessRequest {
            tenant_id: TENANT.into(),
            user_ids: vec![ana.clone(), cy],
        };
        let decisions = embedded
            .clients
            .access()
            .check_access(check)
            .await?
            .into_inner()
            .decisions;
        assert!(
            decisions.iter().all(|it| it.denial_reason() == DenialReason::Expired),
            "{decisions:?}"
        );
        eventually("the expiry is written down", PATIENCE, async || {
            let told = embedded.usher(&["explain", "ana@example.org", "--json"]).await.ok()?;
            told.contains("user.expired").then_some(())
        })
        .await?;
        let restored = embedded.usher(&["users", "expire", "ana@example.org", "never"]).await?;
        assert!(restored.contains("ACTIVE since"), "{restored}");
        Ok(())
    })
}

/// B12: a crash at any moment loses nothing and repeats nothing.
#[test]
fn one_process_that_is_killed_goes_on_with_the_mails_that_are_left() -> Result<()> {
    apart(async {
        const PEOPLE: usize = 60;
        let folder = new_folder("embedded")?;
        let mut embedded = Embedded::new(&folder)?;
        embedded.start().await?;
        embedded.tenant().await?;
        let addresses: Vec<String> = (0..PEOPLE).map(|index| format!("u{index}@example.org")).collect();
        let invite = api::InviteUsersRequest {
            tenant_id: TENANT.into(),
            addresses: addresses.join(","),
            ..api::InviteUsersRequest::default()
        };
        embedded.clients.invitations().invite_users(invite).await?;
        for count in [1, PEOPLE / 3, PEOPLE / 2] {
            embedded.mails_become(count).await?;
            embedded.process.kill();
            embedded.start().await?;
            // Past the lease of whatever was under way.
            let data = embedded.folder.display().to_string();
            embedded.usher(&["clock", "advance", "15m", "--data", &data]).await?;
        }
        let list = |states: &[DeliveryState]| api::ListDeliveriesRequest {
            tenant_id: TENANT.into(),
            states: states.iter().map(|state| (*state).into()).collect(),
            ..api::ListDeliveriesRequest::default()
        };
        let uncertain = eventually("every mail has ended", PATIENCE, async || {
            let mut deliveries = embedded.clients.deliveries();
            let sent = deliveries
                .list_deliveries(list(&[DeliveryState::Sent]))
                .await
                .ok()?
                .into_inner();
            let open = deliveries
                .list_deliveries(list(&[DeliveryState::Uncertain]))
                .await
                .ok()?
                .into_inner();
            let (sent, open) = (sent.deliveries.len(), open.deliveries.len());
            (sent + open == PEOPLE).then_some(open)
        })
        .await?;
        let mails = embedded.mails()?;
        println!("embedded: {uncertain} of {PEOPLE} mails are UNCERTAIN after three kills");
        assert!(mails.len() >= PEOPLE - uncertain);
        assert!(mails.values().all(|mails| mails.len() == 1), "somebody got two mails");
        Ok(())
    })
}
