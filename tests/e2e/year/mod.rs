//! A year in the life of a tenant with 1,000 people, on a clock that the test moves: the rules, the people and what happens to
//! them are made of a seed. Service, workers and database are real; the mail server is one that keeps a log.
//!
//! `USHER_YEARS=200` runs as many seeds, on each database; `USHER_YEAR_SEED` begins with another.

mod dossier;
mod house;
mod laws;
mod moments;
mod people;
mod plan;
mod post;

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use chrono::TimeDelta;
use futures::{StreamExt as _, TryStreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Builder;
use usher_core::clock::Timestamp;
use usher_core::event::Event;
use usher_core::ids::UserId;
use usher_core::status::StatusName;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DeliveryKind, DeliveryState, InactivityRunState, InitialState};
use usher_tests::environment::new_folder;
use usher_tests::environment::postgres::Postgres;

use self::dossier::{Dossier, Mail};
use self::house::House;
use self::people::{Desk, Order, Person};
use self::plan::{ADMINISTRATORS, Action, PEOPLE, Plan, Step};
use crate::stage::{PASSWORD, platform};

/// People who act at once.
const AT_ONCE: usize = 16;

/// B8, B9, B10, B13, B15, L13, L14, S5, S12, U8, U10
#[test]
fn a_year_of_a_thousand_people_on_sqlite_keeps_every_law_every_day() -> Result<()> {
    years(async || {
        let file = new_folder("year")?.join("usher.db");
        Ok(format!("sqlite:{}?mode=rwc", file.display()))
    })
}

/// B8, B9, B10, B13, B15, L13, L14, S5, S12, U8, U10
#[test]
fn a_year_of_a_thousand_people_on_postgresql_keeps_every_law_every_day() -> Result<()> {
    years(async || Postgres::shared().await?.database().await)
}

fn setting(name: &str) -> Result<Option<u64>> {
    let value = std::env::var(name).ok();
    value
        .map(|text| text.parse().with_context(|| format!("{name}={text}")))
        .transpose()
}

fn years(database: impl AsyncFn() -> Result<String>) -> Result<()> {
    let first = setting("USHER_YEAR_SEED")?.unwrap_or(1);
    let years = setting("USHER_YEARS")?.unwrap_or(1);
    // A year is thousands of short waits, one after the other: a second thread would only be in the way.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for seed in first..first + years {
        let began = Instant::now();
        let told = runtime.block_on(async { year(&database().await?, seed).await });
        let told = told.with_context(|| format!("USHER_YEAR_SEED={seed}"))?;
        println!("year {seed}: {told}, {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

struct Year {
    house: House,
    tenant: String,
    plan: Plan,
    people: Vec<Person>,
    ticks: Vec<Timestamp>,
    dice: StdRng,
    /// The ledger of seats, as far as it was added up.
    ledger: (i64, i64),
    /// Statuses as the events tell them, as far as they were read.
    told: HashMap<UserId, StatusName>,
    read: usize,
}

async fn year(url: &str, seed: u64) -> Result<String> {
    let mut year = Year::begin(url, seed).await?;
    let mut steps = std::mem::take(&mut year.plan.steps).into_iter().peekable();
    let mut day_ends = year.plan.from + TimeDelta::days(1);
    while year.house.now() < year.plan.to {
        let next = steps.peek().map(|step| step.at);
        let at = year.next_tick(next, day_ends).await?;
        year.house.move_to(at);
        year.ticks.push(at);
        let mut now = Vec::new();
        while let Some(step) = steps.next_if(|step| step.at <= at) {
            now.push(step);
        }
        year.pause_or_resume().await?;
        year.act(&now).await?;
        year.house.settle().await?;
        if at == day_ends {
            year.end_day()
                .await
                .with_context(|| format!("at the end of the day, {at}"))?;
            day_ends += TimeDelta::days(1);
        }
    }
    let told = year.check().await?;
    year.house.leave().await?;
    Ok(told)
}

impl Year {
    async fn begin(url: &str, seed: u64) -> Result<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let plan = Plan::new(&mut dice);
        let house = House::build(url, plan.from, Some(seed)).await?;
        let request = api::CreateTenantRequest {
            tenant: Some(plan.rules.tenant()),
            options: None,
        };
        let created = house.clients.tenants().create_tenant(request).await?.into_inner();
        let tenant = created.tenant.context("no tenant")?.tenant_id;
        let people = (0..PEOPLE).map(|number| Person {
            email: format!("p{number}@year.example"),
            zone: plan.zones[number].unwrap_or(plan.rules.zone),
            is_administrator: false,
            user: None,
            orders: Vec::new(),
        });
        let mut people: Vec<Person> = people.collect();
        for number in 0..ADMINISTRATORS {
            let email = format!("a{number}@year.example");
            let request = api::CreateUserRequest {
                tenant_id: tenant.clone(),
                user: Some(api::User {
                    email: email.clone(),
                    ..api::User::default()
                }),
                initial_state: InitialState::ActiveWithPassword.into(),
                password: PASSWORD.into(),
                ..api::CreateUserRequest::default()
            };
            let user = house.clients.users().create_user(request).await?.into_inner().user;
            let user_id = user.context("no user")?.user_id;
            let request = api::AssignRolesRequest {
                tenant_id: tenant.clone(),
                user_id: user_id.clone(),
                roles: vec![api::RoleInScope {
                    role: "administrator".into(),
                    scope: Some(platform()),
                }],
                options: None,
            };
            house.clients.roles().assign_roles(request).await?;
            people.push(Person {
                email,
                zone: plan.rules.zone,
                is_administrator: true,
                user: Some(UserId(user_id.parse()?)),
                orders: Vec::new(),
            });
        }
        Ok(Self {
            house,
            tenant,
            plan,
            people,
            ticks: Vec::new(),
            dice,
            ledger: (0, 0),
            told: HashMap::new(),
            read: 0,
        })
    }

    /// The next instant at which anything happens: when something is due, but not at once, and not past the end of the day.
    async fn next_tick(&mut self, step: Option<Timestamp>, day_ends: Timestamp) -> Result<Timestamp> {
        let due = self.house.next_due().await?;
        let soonest = [due, step].into_iter().flatten().min().unwrap_or(day_ends);
        let rest = self.house.now() + TimeDelta::minutes(self.dice.random_range(1..=self.plan.pace));
        Ok(soonest.max(rest).min(day_ends))
    }

    async fn pause_or_resume(&self) -> Result<()> {
        let Some((from, to)) = self.plan.rules.pause else {
            return Ok(());
        };
        let now = self.house.now();
        let before = self.ticks.iter().rev().nth(1).copied().unwrap_or(self.plan.from);
        let tenant_id = self.tenant.clone();
        let tenants = || self.house.clients.tenants();
        if before < from && from <= now {
            let options = None;
            tenants()
                .pause_mail(api::PauseMailRequest { tenant_id, options })
                .await?;
        } else if before < to && to <= now {
            let options = None;
            tenants()
                .resume_mail(api::ResumeMailRequest { tenant_id, options })
                .await?;
        }
        Ok(())
    }

    /// Carries out what is to happen now: those who come, sign-ins, then each person's in order.
    async fn act(&mut self, steps: &[Step]) -> Result<()> {
        let now = self.house.now();
        let desk = Desk {
            clients: &self.house.clients,
            post: &self.house.post,
            tenant: &self.tenant,
            now,
        };
        let comes = |number: usize| {
            steps
                .iter()
                .any(|step| step.person == number && step.action == Action::Invite)
        };
        let newcomers = self.people.iter_mut().enumerate();
        let mut newcomers: Vec<&mut Person> = newcomers
            .filter(|(number, _)| comes(*number))
            .map(|(_, person)| person)
            .collect();
        desk.invite(&mut newcomers, self.plan.rules.zone).await?;

        let mut sign_ins = Vec::new();
        let mut others: HashMap<usize, Vec<Action>> = HashMap::new();
        for step in steps {
            let person = &mut self.people[step.person];
            match (step.action, person.user) {
                (Action::SignIn { late }, Some(user)) => {
                    let at = step.at - late;
                    person.orders.push((now, Order::SignedIn(at)));
                    sign_ins.push((user, at));
                }
                (Action::Invite, _) | (_, None) => {}
                (action, Some(_)) => others.entry(step.person).or_default().push(action),
            }
        }
        desk.signed_in(&sign_ins).await?;
        let (people, cool_off) = (&self.people, self.plan.rules.cool_off);
        let acting = others.into_iter().map(|(number, actions)| {
            let desk = desk.clone();
            async move {
                let person = &people[number];
                let mut orders = Vec::new();
                for action in actions {
                    let user = person.user.context("nobody yet")?;
                    orders.extend(desk.act(user, &person.email, action, cool_off).await?);
                }
                anyhow::Ok((number, orders))
            }
        });
        let acting = futures::stream::iter(acting).buffer_unordered(AT_ONCE);
        let done: Vec<(usize, Vec<Order>)> = acting.try_collect().await?;
        for (number, orders) in done {
            self.people[number]
                .orders
                .extend(orders.into_iter().map(|order| (now, order)));
        }
        Ok(())
    }

    /// Seats, ledger, statuses and events agree; what was parked is approved.
    async fn end_day(&mut self) -> Result<()> {
        for event in &self.house.events[self.read..] {
            let (Some(user), Some(to)) = (event.user, event.to) else {
                continue;
            };
            if let Some(from) = event.from {
                let previous = self.told.get(&user).copied().unwrap_or(StatusName::Pending);
                ensure!(from == previous, "{event:?} begins where {previous:?} was told");
            }
            self.told.insert(user, to);
        }
        self.read = self.house.events.len();

        let users = self.users().await?;
        let now = people::proto(self.house.now());
        let passed = |at: prost_types::Timestamp| (at.seconds, at.nanos) <= (now.seconds, now.nanos);
        let mut active = 0;
        for user in &users {
            let id = UserId(user.user_id.parse()?);
            let told = self.told.get(&id).copied().unwrap_or(StatusName::Pending);
            let shown = user.status().as_str_name().trim_start_matches("USER_STATUS_");
            ensure!(shown == told.as_str(), "{user:?} was told to be {told:?}");
            ensure!(
                user.expire_time.is_some_and(passed) == (told == StatusName::Expired),
                "{user:?} on {now:?}"
            );
            active += i64::from(told == StatusName::Active);
        }
        let tombstones = self
            .told
            .values()
            .filter(|status| **status == StatusName::Erased)
            .count();
        let known = self.people.iter().filter(|person| person.user.is_some()).count();
        ensure!(
            users.len() + tombstones == known,
            "{} users and {tombstones} tombstones of {known}",
            users.len()
        );

        let request = api::GetSeatUsageRequest {
            tenant_id: self.tenant.clone(),
        };
        let usage = self.house.clients.seats().get_seat_usage(request).await?.into_inner();
        self.add_up().await?;
        ensure!(usage.used_count == active, "{active} are active, {usage:?}");
        ensure!(
            self.ledger.1 == active,
            "{active} are active, the ledger has {}",
            self.ledger.1
        );
        let limit = self.plan.rules.seats;
        ensure!(limit == 0 || active <= limit, "{active} of {limit} seats are taken");
        ensure!(
            usage.waiting_count == 0 || active == limit,
            "somebody waits beside a free seat: {usage:?}"
        );
        self.approve().await
    }

    async fn users(&self) -> Result<Vec<api::User>> {
        let mut users = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = api::ListUsersRequest {
                tenant_id: self.tenant.clone(),
                page_size: 1_000,
                page_token,
                ..api::ListUsersRequest::default()
            };
            let page = self.house.clients.users().list_users(request).await?.into_inner();
            users.extend(page.users);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(users);
            }
        }
    }

    /// Adds what is new in the ledger of seats.
    async fn add_up(&mut self) -> Result<()> {
        let tenant = House::id(&self.tenant)?;
        let (last, mut sum) = self.ledger;
        let (mut newest, mut before) = (last, None);
        loop {
            let page = self.house.store.seat_ledger(tenant, None, before, 500).await?;
            let new = page.iter().filter(|(place, _)| *place > last);
            sum += new.map(|(_, entry)| entry.change).sum::<i64>();
            newest = newest.max(page.first().map_or(last, |(place, _)| *place));
            before = page.last().map(|(place, _)| *place);
            if before.is_none_or(|place| place <= last) {
                self.ledger = (newest, sum);
                return Ok(());
            }
        }
    }

    async fn approve(&self) -> Result<()> {
        let request = api::ListInactivityRunsRequest {
            tenant_id: self.tenant.clone(),
            ..api::ListInactivityRunsRequest::default()
        };
        let runs = self
            .house
            .clients
            .inactivity()
            .list_inactivity_runs(request)
            .await?
            .into_inner()
            .runs;
        for run in runs.into_iter().filter(|run| run.state() == InactivityRunState::Parked) {
            let request = api::ApproveInactivityRunRequest {
                tenant_id: self.tenant.clone(),
                run_id: run.run_id,
                options: None,
            };
            self.house.clients.inactivity().approve_inactivity_run(request).await?;
        }
        Ok(())
    }

    /// Everybody's year, once it is over.
    async fn check(&self) -> Result<String> {
        let mut mails: HashMap<UserId, Vec<Mail>> = HashMap::new();
        let mut page_token = String::new();
        loop {
            let request = api::ListDeliveriesRequest {
                tenant_id: self.tenant.clone(),
                page_size: 1_000,
                page_token,
                ..api::ListDeliveriesRequest::default()
            };
            let page = self
                .house
                .clients
                .deliveries()
                .list_deliveries(request)
                .await?
                .into_inner();
            for mail in page.deliveries {
                mails
                    .entry(UserId(mail.user_id.parse()?))
                    .or_default()
                    .push(read(&mail)?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let mut events: HashMap<UserId, Vec<&Event>> = HashMap::new();
        for event in &self.house.events {
            if let Some(user) = event.user {
                events.entry(user).or_default().push(event);
            }
        }
        let posted = self.house.post.posted();
        let count = mails.values().map(Vec::len).sum::<usize>();
        for person in &self.people {
            let Some(user) = person.user else { continue };
            let mut dossier = Dossier {
                rules: &self.plan.rules,
                ticks: &self.ticks,
                person,
                events: events.remove(&user).unwrap_or_default(),
                mails: mails.remove(&user).unwrap_or_default(),
                posted: Vec::new(),
            };
            for posted in posted.iter().filter(|posted| posted.to == person.email) {
                let index = dossier
                    .mails
                    .iter()
                    .position(|mail| mail.message_id == posted.message_id);
                dossier.posted.push((
                    posted,
                    index.with_context(|| format!("{posted:?} is no mail of theirs"))?,
                ));
            }
            laws::check(&dossier).with_context(|| format!("{person:#?}\n{:#?}", self.plan.rules))?;
        }
        ensure!(mails.is_empty(), "mails of nobody: {mails:?}");
        Ok(format!(
            "{} instants, {} events, {count} mails, {} sent",
            self.ticks.len(),
            self.house.events.len(),
            posted.len()
        ))
    }
}

fn read(mail: &api::Delivery) -> Result<Mail> {
    let instant = |at: prost_types::Timestamp| {
        let nanos = u32::try_from(at.nanos).ok()?;
        Timestamp::from_timestamp(at.seconds, nanos)
    };
    Ok(Mail {
        kind: DeliveryKind::try_from(mail.kind)?,
        state: DeliveryState::try_from(mail.state)?,
        step: mail.reminder_step,
        link: (mail.invitation_id.clone(), mail.generation),
        message_id: mail.message_id.clone(),
        created: mail.create_time.and_then(instant).context("no time")?,
        ended: mail.end_time.and_then(instant),
    })
}
