//! Seats: what takes one, what is refused when none is left, who waits and whose turn it is (U8, B13). Everything here holds
//! on both databases, and with every worker stopped: the test hands the mails over itself.

mod waiting;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use prost_types::Timestamp;
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, SeatPolicy, UserStatus};
use usher_tests::environment::eventually;
use usher_tests::environment::processes::Process;
use usher_tests::system::{Clients, Options, System, vars};

use crate::stage::{DAY, HOUR, MINUTE, PASSWORD, PATIENCE, apart, assert_refused, refused, timestamp};

/// How often the crowd comes, on each database.
const ROUNDS: usize = 10;
const PEOPLE: i64 = 200;
const SEATS: i64 = 50;

/// A deployment without workers, and a tenant in it.
struct House {
    system: System,
    clients: Clients,
    tenant: String,
    /// Where several services can share a database: a second one.
    beside: Option<(Process, Clients)>,
}

/// Runs a test on SQLite, then on PostgreSQL with two services.
fn on_both(test: &impl AsyncFn(&mut House) -> Result<()>) -> Result<()> {
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
    async fn seats(&mut self, seat_limit: i64, policy: SeatPolicy) -> Result<()> {
        let settings = api::Tenant {
            seat_limit,
            seat_policy: policy.into(),
            ..api::Tenant::default()
        };
        self.tenant = self.system.tenant(settings).await?;
        Ok(())
    }

    /// Changes the number of seats.
    async fn limit(&self, seat_limit: i64) -> Result<()> {
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
    fn turn(&self, number: usize) -> &Clients {
        match &self.beside {
            Some((_, other)) if number % 2 == 1 => other,
            _ => &self.clients,
        }
    }

    fn after(&self, time: Duration) -> Timestamp {
        timestamp(self.system.now() + time)
    }

    /// Invites people, and takes their links out of the mails as a worker would. In the order of the names.
    async fn invite(&self, names: &[String]) -> Result<Vec<(String, String)>> {
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
        let links = invited.results.into_iter().map(|result| async move {
            let Some(api::invite_result::Outcome::Invited(invited)) = result.outcome else {
                bail!("{} was not invited", result.address);
            };
            let user = invited.user.context("a user")?.user_id;
            Ok((self.link(&user).await?, user))
        });
        let links = futures::stream::iter(links).buffered(16);
        let links: Vec<_> = links.try_collect().await?;
        Ok(links.into_iter().map(|(link, user)| (user, link)).collect())
    }

    async fn invite_one(&self, name: &str) -> Result<(String, String)> {
        self.invite(&[name.to_owned()]).await?.pop().context("nobody")
    }

    /// The link in the mail that waits for somebody.
    async fn link(&self, user: &str) -> Result<String> {
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

    async fn accept_at(&self, clients: &Clients, link: &str) -> Result<api::User, Status> {
        let request = api::AcceptInvitationRequest {
            tenant_id: self.tenant.clone(),
            token: link.into(),
            first_name: "Ana".into(),
            last_name: "Silva".into(),
            password: PASSWORD.into(),
            options: None,
        };
        let accepted = clients.invitations().accept_invitation(request).await?.into_inner();
        Ok(accepted.user.unwrap_or_default())
    }

    async fn accept(&self, link: &str) -> Result<api::User, Status> {
        self.accept_at(&self.clients, link).await
    }

    fn creating(&self, name: &str, initial: InitialState) -> api::CreateUserRequest {
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

    async fn active(&self, name: &str) -> Result<String> {
        let request = self.creating(name, InitialState::ActiveWithPassword);
        let user = self.clients.users().create_user(request).await?.into_inner().user;
        let user = user.context("a user")?;
        ensure!(user.status() == UserStatus::Active, "{name} is {:?}", user.status());
        Ok(user.user_id)
    }

    async fn deactivate(&self, user: &str) -> Result<(), Status> {
        let request = api::DeactivateUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::DeactivateUserRequest::default()
        };
        self.clients.users().deactivate_user(request).await.map(drop)
    }

    async fn reactivate_at(&self, clients: &Clients, user: &str) -> Result<api::User, Status> {
        let request = api::ReactivateUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            ..api::ReactivateUserRequest::default()
        };
        let user = clients.users().reactivate_user(request).await?.into_inner().user;
        Ok(user.unwrap_or_default())
    }

    async fn reactivate(&self, user: &str) -> Result<api::User, Status> {
        self.reactivate_at(&self.clients, user).await
    }

    async fn expire(&self, user: &str, at: Option<Timestamp>) -> Result<api::User, Status> {
        let request = api::SetUserExpirationRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
            expire_time: at,
            ..api::SetUserExpirationRequest::default()
        };
        let user = self.clients.users().set_user_expiration(request).await?;
        Ok(user.into_inner().user.unwrap_or_default())
    }

    async fn user(&self, id: &str) -> Result<api::User> {
        let request = api::GetUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: id.into(),
        };
        let user = self.clients.users().get_user(request).await?.into_inner().user;
        user.context("a user")
    }

    async fn becomes_active(&self, id: &str) -> Result<()> {
        eventually(&format!("{id} gets a seat"), PATIENCE, async || {
            let user = self.user(id).await.ok()?;
            (user.status() == UserStatus::Active).then_some(())
        })
        .await
    }

    async fn ids(&self, filter: api::UserFilter) -> Result<BTreeSet<String>> {
        let request = api::ListUsersRequest {
            tenant_id: self.tenant.clone(),
            filter: Some(filter),
            page_size: 1_000,
            ..api::ListUsersRequest::default()
        };
        let users = self.clients.users().list_users(request).await?.into_inner().users;
        Ok(users.into_iter().map(|user| user.user_id).collect())
    }

    async fn active_ids(&self) -> Result<BTreeSet<String>> {
        self.ids(api::UserFilter {
            statuses: vec![UserStatus::Active.into()],
            ..api::UserFilter::default()
        })
        .await
    }

    async fn waiting_ids(&self) -> Result<BTreeSet<String>> {
        self.ids(api::UserFilter {
            waiting_for_seat: true,
            ..api::UserFilter::default()
        })
        .await
    }

    /// Used, limit, free, waiting.
    async fn usage(&self) -> Result<(i64, i64, i64, i64)> {
        let request = api::GetSeatUsageRequest {
            tenant_id: self.tenant.clone(),
        };
        let it = self.clients.seats().get_seat_usage(request).await?.into_inner();
        Ok((it.used_count, it.seat_limit, it.free_count, it.waiting_count))
    }

    async fn forecast(&self) -> Result<api::GetSeatForecastResponse> {
        let request = api::GetSeatForecastRequest {
            tenant_id: self.tenant.clone(),
        };
        Ok(self.clients.seats().get_seat_forecast(request).await?.into_inner())
    }

    /// The whole ledger, the oldest line first, page by page.
    async fn ledger(&self, user: &str, page_size: i32) -> Result<Vec<api::SeatLedgerEntry>> {
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
    async fn sum(&self) -> Result<i64> {
        let entries = self.ledger("", 1_000).await?;
        Ok(entries.iter().map(|entry| i64::from(entry.change)).sum())
    }

    /// Writes down that somebody expired, as the worker does that is not there; unless a mail that was due did so.
    async fn write_expiry_down(&self, user: &str, at: Timestamp) -> Result<(), Status> {
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

/// Who got a seat of those who tried at the same moment; everybody else was told that none is left.
fn seated(outcomes: Vec<Result<api::User, Status>>) -> BTreeSet<String> {
    let mut seated = BTreeSet::new();
    for outcome in outcomes {
        match outcome {
            Ok(user) => {
                assert_eq!(user.status(), UserStatus::Active, "{}", user.user_id);
                assert!(seated.insert(user.user_id));
            }
            refusal => assert_refused(refusal, Code::ResourceExhausted, "SEAT_LIMIT"),
        }
    }
    seated
}

fn count(seated: &BTreeSet<String>) -> i64 {
    i64::try_from(seated.len()).unwrap_or(i64::MAX)
}

async fn all<T>(calls: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(calls).await
}

/// U8, B13: never one too many, and never one too few.
#[test]
fn of_two_hundred_people_who_accept_at_once_fifty_get_the_fifty_seats() -> Result<()> {
    let names: Vec<_> = (0..PEOPLE).map(|number| format!("p{number}")).collect();
    on_both(&async |house: &mut House| {
        let began = Instant::now();
        for round in 1..=ROUNDS {
            house.seats(SEATS, SeatPolicy::Refuse).await?;
            let people = house.invite(&names).await?;
            assert_eq!(
                house.usage().await?,
                (0, SEATS, SEATS, 0),
                "an invitation takes no seat"
            );

            let calls = people.iter().enumerate();
            let calls = calls.map(|(number, (_, link))| house.accept_at(house.turn(number), link));
            let seated = seated(all(calls).await);
            assert_eq!(count(&seated), SEATS, "round {round}");
            assert_eq!(house.usage().await?, (SEATS, SEATS, 0, 0), "round {round}");
            assert_eq!(house.active_ids().await?, seated, "round {round}");

            let ledger = house.ledger("", 1_000).await?;
            assert!(
                ledger
                    .iter()
                    .all(|it| (it.change, it.event_type.as_str()) == (1, "user.activated")
                        && it.actor_id == it.user_id)
            );
            let takers: BTreeSet<_> = ledger.iter().map(|it| it.user_id.clone()).collect();
            assert_eq!((ledger.len(), takers), (seated.len(), seated.clone()), "round {round}");
            let forecast = house.forecast().await?;
            let left = PEOPLE - SEATS;
            assert_eq!((forecast.open_invitation_count, forecast.shortfall_count), (left, left));

            // The link of whoever was refused works as soon as a seat is free.
            let (user, link) = people
                .iter()
                .find(|(user, _)| !seated.contains(user))
                .context("nobody was refused")?;
            assert_refused(house.accept(link).await, Code::ResourceExhausted, "SEAT_LIMIT");
            assert_eq!(house.user(user).await?.status(), UserStatus::Pending);
            house.deactivate(seated.first().context("nobody")?).await?;
            assert_eq!(house.usage().await?, (SEATS - 1, SEATS, 1, 0));
            assert_eq!(house.accept(link).await?.status(), UserStatus::Active);
            assert_eq!((house.usage().await?.0, house.sum().await?), (SEATS, SEATS));
        }
        println!(
            "U8: {ROUNDS} rounds of {PEOPLE} people for {SEATS} seats in {:.0?}",
            began.elapsed()
        );

        // The same crowd comes back, without a password to hash in between: so it meets more closely.
        let few = SEATS / 5;
        let crowd: Vec<_> = house.active_ids().await?.into_iter().collect();
        for user in &crowd {
            house.deactivate(user).await?;
        }
        house.limit(few).await?;
        for round in 1..=ROUNDS {
            let calls = crowd.iter().enumerate();
            let calls = calls.map(|(number, user)| house.reactivate_at(house.turn(number), user));
            let seated = seated(all(calls).await);
            assert_eq!(count(&seated), few, "round {round}");
            assert_eq!(house.usage().await?, (few, few, 0, 0), "round {round}");
            let out = all(seated.iter().map(|user| house.deactivate(user))).await;
            out.into_iter().collect::<Result<(), Status>>()?;
            assert_eq!((house.usage().await?.0, house.sum().await?), (0, 0), "round {round}");
        }
        Ok(())
    })
}

/// U8: whatever would make somebody active.
#[test]
fn at_the_limit_nobody_is_let_in_and_inviting_goes_on() -> Result<()> {
    on_both(&async |house: &mut House| {
        house.seats(2, SeatPolicy::Refuse).await?;
        let [ana, bo] = [house.active("ana").await?, house.active("bo").await?];
        house.deactivate(&bo).await?;
        let cy = house.active("cy").await?;
        let at = house.after(HOUR);
        house.expire(&cy, Some(at)).await?;
        house.system.advance(HOUR + MINUTE).await?;
        let dee = house.active("dee").await?;
        // Full: ana and dee. Out: bo by somebody, cy by the date.
        assert_eq!(house.usage().await?, (2, 2, 0, 0));

        let told = refused(house.reactivate(&bo).await);
        assert_eq!(
            (told.code, told.reason.as_str()),
            (Code::ResourceExhausted, "SEAT_LIMIT")
        );
        assert!(
            told.message.contains('2') && told.message.contains("UpdateTenant"),
            "{}",
            told.message
        );
        for at in [Some(house.after(DAY)), None] {
            assert_refused(house.expire(&cy, at).await, Code::ResourceExhausted, "SEAT_LIMIT");
        }
        assert_eq!(house.user(&cy).await?.status(), UserStatus::Expired);
        for state in [
            InitialState::ActiveWithPassword,
            InitialState::ActiveWithGeneratedPassword,
        ] {
            let plan = api::CreateUserRequest {
                options: Some(api::MutationOptions {
                    validate_only: true,
                    ..api::MutationOptions::default()
                }),
                ..house.creating("eve", state)
            };
            for request in [plan, house.creating("eve", state)] {
                let answer = house.clients.users().create_user(request).await;
                assert_refused(answer, Code::ResourceExhausted, "SEAT_LIMIT");
            }
        }
        let pending = house.creating("eve", InitialState::Pending);
        house.clients.users().create_user(pending).await?;
        let (finn, link) = house.invite_one("finn").await?;
        assert_refused(house.accept(&link).await, Code::ResourceExhausted, "SEAT_LIMIT");
        assert_eq!(house.usage().await?, (2, 2, 0, 0), "PENDING and INVITED take no seat");
        // Below what is taken nobody is shown out, and nobody gets in.
        house.limit(1).await?;
        assert_eq!(house.usage().await?, (2, 1, 0, 0));
        assert_eq!(house.active_ids().await?, [ana.clone(), dee.clone()].into());

        house.limit(3).await?;
        house.reactivate(&bo).await?;
        assert_refused(house.expire(&cy, None).await, Code::ResourceExhausted, "SEAT_LIMIT");
        house.deactivate(&ana).await?;
        assert_eq!(house.expire(&cy, None).await?.status(), UserStatus::Active);
        house.limit(0).await?;
        house.reactivate(&ana).await?;
        assert_eq!(house.accept(&link).await?.status(), UserStatus::Active);
        assert_eq!(house.usage().await?, (5, 0, 0, 0), "0 is no limit");
        assert_eq!(house.active_ids().await?, [ana, bo, cy, dee, finn].into());
        assert_eq!(house.sum().await?, 5);
        Ok(())
    })
}
