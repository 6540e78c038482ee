//! A deployment that the test does the work of, and what is asked of it about seats.

use anyhow::{bail, ensure};
use base64::Engine as _;
use futures::{StreamExt as _, TryStreamExt as _};
use usher_core::ids::{InvitationId, TenantId};
use usher_core::token::{InvitationToken, LinkKey, LinkKeys};
use usher_tests::environment::eventually;
use usher_tests::environment::processes::Process;
use usher_tests::system::{Clients, LINK_KEY, vars};

use super::*;
use crate::stage::{PATIENCE, timestamp};

/// A deployment without workers, and a tenant in it.
pub(super) struct House {
    pub(super) system: System,
    pub(super) clients: Clients,
    pub(super) tenant: String,
    /// Where several services can share a database: a second one.
    pub(super) beside: Option<(Process, Clients)>,
}

/// Runs a test on SQLite, then on PostgreSQL with two services.
pub(super) fn on_both(test: &impl AsyncFn(&mut House) -> Result<()>) -> Result<()> {
    apart(async {
        for sqlite in [true, false] {
            let options = Options {
                sqlite,
                without_workers: true,
                // Room for the whole crowd at once: whoever finds none is told OVERLOADED.
                identity: vars([("USHER__PASSWORDS__WORKERS", "4".into())]),
                ..Options::default()
            };
            let system = System::start(options).await?;
            let mut house = House {
                clients: system.clients()?,
                tenant: String::new(),
                beside: if sqlite { None } else { Some(system.replica().await?) },
                system,
            };
            let name = if sqlite { "SQLite" } else { "PostgreSQL" };
            test(&mut house).await.with_context(|| format!("on {name}"))?;
            println!("U8: held on {name}");
        }
        Ok(())
    })
}

impl House {
    /// Goes on in a tenant of its own with so many seats.
    pub(super) async fn seats(&mut self, seat_limit: i64, policy: SeatPolicy) -> Result<()> {
        let settings = api::Tenant {
            seat_limit,
            seat_policy: policy.into(),
            ..api::Tenant::default()
        };
        self.tenant = self.system.tenant(settings).await?;
        Ok(())
    }

    /// Changes the number of seats.
    pub(super) async fn limit(&self, seat_limit: i64) -> Result<()> {
        let request = api::UpdateTenantRequest {
            tenant: Some(api::Tenant {
                tenant_id: self.tenant.clone(),
                seat_limit,
                ..api::Tenant::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["seat_limit".into()],
            }),
            options: None,
        };
        self.clients.tenants().update_tenant(request).await?;
        Ok(())
    }

    /// The clients of both services, in turn.
    pub(super) fn turn(&self, number: usize) -> &Clients {
        match &self.beside {
            Some((_, other)) if number % 2 == 1 => other,
            _ => &self.clients,
        }
    }

    pub(super) fn after(&self, time: Duration) -> Timestamp {
        timestamp(self.system.now() + time)
    }

    /// Invites people, and takes their links out of the mails as a worker would. In the order of the names.
    pub(super) async fn invite(&self, names: &[String]) -> Result<Vec<(String, String)>> {
        let invited = self.invited(names).await?.into_iter();
        let links = invited.map(async |(user, _)| anyhow::Ok((self.link(&user).await?, user)));
        let links: Vec<_> = futures::stream::iter(links).buffered(16).try_collect().await?;
        Ok(links.into_iter().map(|(link, user)| (user, link)).collect())
    }

    /// Invites a crowd, and makes its links as the service does: to take each out of its mail takes longer than to use it.
    pub(super) async fn invite_crowd(&self, names: &[String]) -> Result<Vec<(String, String)>> {
        let signing = LinkKey {
            id: 1,
            secret: base64::engine::general_purpose::STANDARD.decode(LINK_KEY)?,
        };
        let keys = LinkKeys::try_new(signing, None).map_err(anyhow::Error::msg)?;
        let tenant = TenantId(self.tenant.parse()?);
        let mut links = Vec::new();
        for (user, invitation) in self.invited(names).await? {
            let token = InvitationToken {
                invitation: InvitationId(invitation.parse()?),
                generation: 1,
            };
            links.push((user, keys.sign(tenant, token)));
        }
        let (user, link) = links.first().context("nobody")?;
        ensure!(self.link(user).await? == *link, "their mail has another link");
        Ok(links)
    }

    /// Invites people: the ids of each account and its invitation.
    pub(super) async fn invited(&self, names: &[String]) -> Result<Vec<(String, String)>> {
        let addresses: Vec<_> = names.iter().map(|name| format!("{name}@seats.example")).collect();
        let request = api::InviteUsersRequest {
            tenant_id: self.tenant.clone(),
            addresses: addresses.join(" "),
            ..api::InviteUsersRequest::default()
        };
        let invited = self.clients.invitations().invite_users(request).await?.into_inner();
        ensure!(
            invited.refused_count == 0,
            "inviting is never blocked: {:?}",
            invited.results
        );
        let invited = invited.results.into_iter().map(|result| {
            let Some(api::invite_result::Outcome::Invited(invited)) = result.outcome else {
                bail!("{} was not invited", result.address);
            };
            let user = invited.user.context("a user")?.user_id;
            Ok((user, invited.invitation.context("an invitation")?.invitation_id))
        });
        invited.collect()
    }

    pub(super) async fn invite_one(&self, name: &str) -> Result<(String, String)> {
        self.invite(&[name.to_owned()]).await?.pop().context("nobody")
    }

    /// The link in the mail that waits for somebody.
    pub(super) async fn link(&self, user: &str) -> Result<String> {
        let list = api::ListDeliveriesRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::ListDeliveriesRequest::default()
        };
        let mails = self.clients.deliveries().list_deliveries(list).await?.into_inner();
        let request = api::BeginDeliveryRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            delivery_id: mails.deliveries.first().context("a mail")?.delivery_id.clone(),
            worker_id: "test".into(),
        };
        let begun = self.clients.work().begin_delivery(request).await?.into_inner();
        let Some(api::begin_delivery_response::Outcome::Mail(claimed)) = begun.outcome else {
            bail!("no mail for {user}: {begun:?}");
        };
        let mail = claimed.mail.context("a mail")?;
        let (_, rest) = mail.text.split_once("token=").context("a link")?;
        Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
    }

    pub(super) fn accepting(&self, link: &str) -> api::AcceptInvitationRequest {
        api::AcceptInvitationRequest {
            tenant_id: self.tenant.clone(),
            token: link.into(),
            first_name: "Ana".into(),
            last_name: "Silva".into(),
            password: PASSWORD.into(),
            options: None,
        }
    }

    pub(super) async fn accept_at(&self, clients: &Clients, link: &str) -> Result<api::User, Status> {
        let accepted = clients.invitations().accept_invitation(self.accepting(link)).await?;
        let accepted = accepted.into_inner();
        Ok(accepted.user.unwrap_or_default())
    }

    pub(super) async fn accept(&self, link: &str) -> Result<api::User, Status> {
        self.accept_at(&self.clients, link).await
    }

    pub(super) fn creating(&self, name: &str, initial: InitialState) -> api::CreateUserRequest {
        api::CreateUserRequest {
            tenant_id: self.tenant.clone(),
            user: Some(api::User {
                email: format!("{name}@seats.example"),
                ..api::User::default()
            }),
            initial_state: initial.into(),
            password: if initial == InitialState::ActiveWithPassword {
                PASSWORD.into()
            } else {
                String::new()
            },
            ..api::CreateUserRequest::default()
        }
    }

    pub(super) async fn active(&self, name: &str) -> Result<String> {
        let request = self.creating(name, InitialState::ActiveWithPassword);
        let user = self.clients.users().create_user(request).await?.into_inner().user;
        let user = user.context("a user")?;
        ensure!(user.status() == UserStatus::Active, "{name} is {:?}", user.status());
        Ok(user.user_id)
    }

    pub(super) async fn deactivate(&self, user: &str) -> Result<(), Status> {
        let request = api::DeactivateUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::DeactivateUserRequest::default()
        };
        self.clients.users().deactivate_user(request).await.map(drop)
    }

    pub(super) async fn reactivate_at(&self, clients: &Clients, user: &str) -> Result<api::User, Status> {
        let request = api::ReactivateUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::ReactivateUserRequest::default()
        };
        let user = clients.users().reactivate_user(request).await?.into_inner().user;
        Ok(user.unwrap_or_default())
    }

    pub(super) async fn reactivate(&self, user: &str) -> Result<api::User, Status> {
        self.reactivate_at(&self.clients, user).await
    }

    pub(super) async fn expire(&self, user: &str, at: Option<Timestamp>) -> Result<api::User, Status> {
        let request = api::SetUserExpirationRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            expire_time: at,
            ..api::SetUserExpirationRequest::default()
        };
        let user = self.clients.users().set_user_expiration(request).await?;
        Ok(user.into_inner().user.unwrap_or_default())
    }

    pub(super) async fn user(&self, id: &str) -> Result<api::User> {
        let request = api::GetUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
        };
        let user = self.clients.users().get_user(request).await?.into_inner().user;
        user.context("a user")
    }

    pub(super) async fn becomes_active(&self, id: &str) -> Result<()> {
        eventually(&format!("{id} gets a seat"), PATIENCE, async || {
            let user = self.user(id).await.ok()?;
            (user.status() == UserStatus::Active).then_some(())
        })
        .await
    }

    pub(super) async fn ids(&self, filter: api::UserFilter) -> Result<BTreeSet<String>> {
        let request = api::ListUsersRequest {
            tenant_id: self.tenant.clone(),
            filter: Some(filter),
            page_size: 1_000,
            ..api::ListUsersRequest::default()
        };
        let users = self.clients.users().list_users(request).await?.into_inner().users;
        Ok(users.into_iter().map(|user| user.user_id).collect())
    }

    pub(super) async fn active_ids(&self) -> Result<BTreeSet<String>> {
        self.ids(api::UserFilter {
            statuses: vec![UserStatus::Active.into()],
            ..api::UserFilter::default()
        })
        .await
    }

    pub(super) async fn waiting_ids(&self) -> Result<BTreeSet<String>> {
        self.ids(api::UserFilter {
            waiting_for_seat: true,
            ..api::UserFilter::default()
        })
        .await
    }

    /// Used, limit, free, waiting.
    pub(super) async fn usage(&self) -> Result<(i64, i64, i64, i64)> {
        let request = api::GetSeatUsageRequest {
            tenant_id: self.tenant.clone(),
        };
        let it = self.clients.seats().get_seat_usage(request).await?.into_inner();
        Ok((it.used_count, it.seat_limit, it.free_count, it.waiting_count))
    }

    pub(super) async fn forecast(&self) -> Result<api::GetSeatForecastResponse> {
        let request = api::GetSeatForecastRequest {
            tenant_id: self.tenant.clone(),
        };
        Ok(self.clients.seats().get_seat_forecast(request).await?.into_inner())
    }

    /// The whole ledger, the oldest line first, page by page.
    pub(super) async fn ledger(&self, user: &str, page_size: i32) -> Result<Vec<api::SeatLedgerEntry>> {
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = api::ListSeatLedgerRequest {
                tenant_id: self.tenant.clone(),
                user_id: user.into(),
                page_size,
                page_token,
            };
            let page = self.clients.seats().list_seat_ledger(request).await?.into_inner();
            entries.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                entries.reverse();
                return Ok(entries);
            }
        }
    }

    /// What the ledger adds up to.
    pub(super) async fn sum(&self) -> Result<i64> {
        let entries = self.ledger("", 1_000).await?;
        Ok(entries.iter().map(|entry| i64::from(entry.change)).sum())
    }

    /// How many passwords were hashed so far.
    pub(super) async fn hashed(&self) -> Result<u64> {
        let beside = self.beside.as_ref().map(|(process, _)| process);
        let mut hashed = 0;
        for process in [&self.system.identity].into_iter().chain(beside) {
            let metrics = process.metrics().await?;
            let line = metrics
                .lines()
                .find_map(|line| line.strip_prefix("usher_passwords_hashed_total "));
            hashed += line.map_or(Ok(0), str::parse)?;
        }
        Ok(hashed)
    }

    /// Writes down that somebody expired, as the worker does that is not there; unless a mail that was due did so.
    pub(super) async fn write_expiry_down(&self, user: &str, at: Timestamp) -> Result<(), Status> {
        let request = api::ExpireUsersRequest {
            items: vec![api::DueExpiration {
                tenant_id: self.tenant.clone(),
                user_id: user.into(),
                expire_time: Some(at),
            }],
        };
        self.clients.work().expire_users(request).await.map(drop)
    }
}
