//! Turns commands into what a server does: which rows to load, what to decide on them, what to remember of the answer.

use std::sync::Arc;

use chrono::DateTime;
use usher_core::account::{Account, Begin, Effect, NewUser, NotNeeded, ProfileUpdate, Registration, Resolution};
use usher_core::change::{Act, Changeset, Leases};
use usher_core::clock::Timestamp;
use usher_core::delivery::Report;
use usher_core::email::EmailAddress;
use usher_core::ids::{ClaimId, DeliveryId, InvitationId, TenantId, UserId};
use usher_core::ports::{Keys, Loaded};
use usher_core::refusal::Refusal;
use usher_core::seats::Seats;
use usher_core::template::OwnTemplates;
use usher_core::tenant::{Settings, Tenant};
use usher_core::timer::{Timer, TimerKind};
use usher_core::token::InvitationToken;
use usher_core::user::{Credential, Profile};

use super::command::{As, By, Claimed, Command, Link, PEOPLE};

/// The clock, and what callers and workers have been told so far.
#[derive(Debug)]
pub struct Script {
    /// The present instant.
    pub now: Timestamp,
    /// Whose people they are.
    pub tenant: Arc<Tenant>,
    people: Vec<Person>,
    mails: Vec<Mail>,
}

#[derive(Debug, Clone, Default)]
struct Person {
    id: Option<UserId>,
    links: Vec<InvitationToken>,
    expirations: Vec<Timestamp>,
}

#[derive(Debug)]
struct Mail {
    id: DeliveryId,
    claims: Vec<ClaimId>,
}

/// A command with the ids that it means.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the commands of the account, with their values")]
pub enum Task {
    Create(Box<NewUser>),
    Invite(UserId),
    Resend(UserId, InvitationId),
    Cancel(UserId, InvitationId),
    Refresh(InvitationToken),
    Accept(InvitationToken),
    Deactivate(UserId, By),
    Reactivate(UserId, By),
    SetExpiration(UserId, Option<Timestamp>, By),
    Expire(UserId, Timestamp),
    Move(UserId, EmailAddress),
    SetPassword(UserId),
    Complain(UserId),
    Lift(UserId),
    Begin(DeliveryId),
    Transmit(DeliveryId, ClaimId),
    Finish(DeliveryId, ClaimId, Report),
    Resolve(DeliveryId, Resolution),
    Timer(Timer),
}

/// What the caller is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done, or was so before.
    Done(Effect),
    /// A worker was given the mail.
    Claimed,
    /// A worker was told that there is nothing to do.
    NotNeeded(NotNeeded),
    /// A worker may send the content.
    Transmitting,
}

impl Script {
    /// Before the first command, with a tenant of its own.
    pub fn new() -> Self {
        let now = DateTime::from_timestamp(1_772_442_000, 0).expect("an instant of the year 2026");
        Self {
            now,
            tenant: Arc::new(Tenant {
                templates: OwnTemplates::default(),
                id: TenantId::mint(now),
                version: 1,
                settings: Settings::new("Lycée"),
                created_at: now,
            }),
            people: vec![Person::default(); usize::from(PEOPLE)],
            mails: Vec::new(),
        }
    }

    /// What creates the tenant.
    pub fn founding(&self) -> Changeset {
        let mut changes = Changeset::default();
        changes.tenants.insert(self.tenant.id, self.tenant.clone());
        changes.created_tenants.insert(self.tenant.id);
        changes
    }

    /// What a command means now; `None` if there is nobody and nothing that it could be about.
    pub fn task(&self, command: &Command) -> Option<Task> {
        Some(match *command {
            Command::Create { person, as_, expires } => Task::Create(Box::new(self.new_user(person, as_, expires)?)),
            Command::Invite { person } => Task::Invite(self.user(person)?),
            Command::Resend { person, link } => Task::Resend(self.user(person)?, self.link(person, link)?.invitation),
            Command::Cancel { person, link } => Task::Cancel(self.user(person)?, self.link(person, link)?.invitation),
            Command::Refresh { person, link } => Task::Refresh(self.link(person, link)?),
            Command::Accept { person, link } => Task::Accept(self.link(person, link)?),
            Command::Deactivate { person, by } => Task::Deactivate(self.user(person)?, by),
            Command::Reactivate { person, by } => Task::Reactivate(self.user(person)?, by),
            Command::SetExpiration { person, after, by } => {
                Task::SetExpiration(self.user(person)?, after.map(|after| self.now + after.delta()), by)
            }
            Command::Expire { person, newest } => {
                let known = &self.people[usize::from(person)].expirations;
                let due = if newest { known.last() } else { known.first() };
                Task::Expire(self.user(person)?, *due?)
            }
            Command::Move { person, address } => Task::Move(self.user(person)?, address_of(person, address)),
            Command::SetPassword { person } => Task::SetPassword(self.user(person)?),
            Command::Complain { person } => Task::Complain(self.user(person)?),
            Command::Lift { person } => Task::Lift(self.user(person)?),
            Command::Begin { mail } => Task::Begin(self.mail(mail)?.id),
            Command::Transmit { mail, claim } => {
                let mail = self.mail(mail)?;
                Task::Transmit(mail.id, self.claim(mail, claim)?)
            }
            Command::Finish { mail, claim, end } => {
                let mail = self.mail(mail)?;
                Task::Finish(mail.id, self.claim(mail, claim)?, end.report())
            }
            Command::Resolve { mail, again } => {
                let resolution = if again { Resolution::SendAgain } else { Resolution::Sent };
                Task::Resolve(self.mail(mail)?.id, resolution)
            }
            Command::Start { .. } | Command::Work { .. } | Command::Fire | Command::Advance(_) => return None,
        })
    }

    fn new_user(&self, person: u8, as_: As, expires: Option<super::command::Span>) -> Option<NewUser> {
        if self.user(person).is_some() {
            return None;
        }
        Some(NewUser {
            id: UserId::mint(self.now),
            profile: Profile::of(address_of(person, 0)),
            credential: match as_ {
                As::Pending => None,
                As::WithPassword => Some(Credential::Password("$argon2id$given".into())),
                As::WithOneTimePassword => Some(Credential::OneTime { generation: 1 }),
            },
            expires_at: expires.map(|after| self.now + after.delta()),
            deletes_at: None,
        })
    }

    fn user(&self, person: u8) -> Option<UserId> {
        self.people[usize::from(person)].id
    }

    fn link(&self, person: u8, Link(back): Link) -> Option<InvitationToken> {
        let links = &self.people[usize::from(person)].links;
        links.len().checked_sub(1 + usize::from(back)).map(|index| links[index])
    }

    fn mail(&self, back: u8) -> Option<&Mail> {
        let index = self.mails.len().checked_sub(1 + usize::from(back))?;
        self.mails.get(index)
    }

    fn claim(&self, mail: &Mail, claim: Claimed) -> Option<ClaimId> {
        match claim {
            Claimed::Newest => mail.claims.last().copied(),
            Claimed::First => mail.claims.first().copied(),
            Claimed::Forged => Some(ClaimId::mint(self.now)),
        }
    }

    /// What a server loads for it.
    pub fn keys(&self, task: &Task) -> Keys {
        let tenant = self.tenant.id;
        let mut keys = Keys {
            with_mail: true,
            ..Keys::default()
        };
        keys.tenants.insert(tenant);
        match task {
            Task::Create(new) => {
                keys.emails.insert((tenant, new.profile.email.key().to_owned()));
            }
            Task::Invite(user)
            | Task::Resend(user, _)
            | Task::Cancel(user, _)
            | Task::Deactivate(user, _)
            | Task::Reactivate(user, _)
            | Task::SetExpiration(user, ..)
            | Task::Expire(user, _)
            | Task::SetPassword(user)
            | Task::Complain(user)
            | Task::Lift(user) => {
                keys.users.insert((tenant, *user));
            }
            Task::Move(user, email) => {
                keys.users.insert((tenant, *user));
                keys.emails.insert((tenant, email.key().to_owned()));
            }
            Task::Refresh(token) | Task::Accept(token) => {
                keys.invitations.insert((tenant, token.invitation));
            }
            Task::Begin(mail) | Task::Transmit(mail, _) | Task::Finish(mail, ..) | Task::Resolve(mail, _) => {
                keys.deliveries.insert((tenant, *mail));
            }
            Task::Timer(timer) => {
                keys.users.extend(timer.user.map(|user| (tenant, user)));
                if timer.key.kind == TimerKind::Delivery {
                    keys.deliveries.insert((tenant, DeliveryId(timer.key.subject)));
                }
            }
        }
        keys
    }

    /// What the rules say to it.
    pub fn decide(&self, task: &Task, loaded: &mut Loaded) -> (Result<Answer, Refusal>, Changeset) {
        let mut changes = Changeset::default();
        let act = self.act(task);
        if let Task::Create(new) = task {
            let suppressed = !loaded.suppressed.is_empty();
            let seats = Seats::default();
            let created = Account::create(
                self.tenant.clone(),
                seats,
                (**new).clone(),
                suppressed,
                &act,
                &mut changes,
            );
            return (created.map(|_| Answer::Done(Effect::Changed)), changes);
        }
        let mut accounts = loaded.accounts.values_mut();
        let (Some(account), None) = (accounts.next(), accounts.next()) else {
            panic!("one account was to be loaded for {task:?}");
        };
        let answer = account.decide(&mut changes, |account, changes| decide(account, task, &act, changes));
        (answer, changes)
    }

    fn act(&self, task: &Task) -> Act {
        let actor = match task {
            Task::Timer(_) | Task::Expire(..) => return Act::by_usher(self.now, "it was due"),
            Task::Deactivate(user, By::Themselves)
            | Task::Reactivate(user, By::Themselves)
            | Task::SetExpiration(user, _, By::Themselves) => user.to_string(),
            _ => "administrator".into(),
        };
        Act {
            actor,
            now: self.now,
            reason: "asked for".into(),
            request_id: "request-1".into(),
            trace_parent: String::new(),
        }
    }

    /// Remembers the ids that callers and workers are told.
    pub fn learn(&mut self, changes: &Changeset) {
        for user in changes.users.values() {
            let digit = user.profile.email.key().as_bytes()[1];
            let person = &mut self.people[usize::from(digit - b'0')];
            person.id = Some(user.id);
            if user.expires_at != person.expirations.last().copied() {
                person.expirations.extend(user.expires_at);
            }
        }
        for invitation in changes.invitations.values() {
            let token = InvitationToken {
                invitation: invitation.id,
                generation: invitation.generation,
            };
            let owner = self.people.iter_mut().find(|person| person.id == Some(invitation.user));
            if let Some(person) = owner.filter(|person| !person.links.contains(&token)) {
                person.links.push(token);
            }
        }
        for delivery in changes.deliveries.values() {
            if self.mails.iter().all(|mail| mail.id != delivery.id) {
                self.mails.push(Mail {
                    id: delivery.id,
                    claims: Vec::new(),
                });
            }
        }
        for attempt in changes.attempts.values() {
            let mail = self.mails.iter_mut().find(|mail| mail.id == attempt.delivery);
            if let Some(mail) = mail.filter(|mail| !mail.claims.contains(&attempt.claim)) {
                mail.claims.push(attempt.claim);
            }
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of the person is the second character of each of their addresses.
fn address_of(person: u8, address: u8) -> EmailAddress {
    EmailAddress::parse(&format!("p{person}.{address}@Example.org")).expect("an address")
}

fn decide(account: &mut Account, task: &Task, act: &Act, changes: &mut Changeset) -> Result<Answer, Refusal> {
    let leases = Leases::default();
    let done = Answer::Done(Effect::Changed);
    match task {
        Task::Create(_) => unreachable!("there is no account yet"),
        Task::Invite(_) => account.invite(None, act, changes).map(|()| done),
        Task::Resend(_, id) => account.resend(*id, None, act, changes).map(|()| done),
        Task::Cancel(_, id) => account.cancel_invitation(*id, act, changes).map(Answer::Done),
        Task::Refresh(token) => Ok(Answer::Done(account.refresh(*token, act, changes))),
        Task::Accept(token) => {
            let registration = Registration {
                first_name: "Ana".into(),
                last_name: "Núñez".into(),
                password_hash: "$argon2id$chosen".into(),
            };
            account.accept(*token, registration, act, changes).map(|()| done)
        }
        Task::Deactivate(..) => account.deactivate(act, changes).map(Answer::Done),
        Task::Reactivate(..) => account.reactivate(act, changes).map(Answer::Done),
        Task::SetExpiration(_, at, _) => account.set_expiration(*at, act, changes).map(Answer::Done),
        Task::Expire(_, due) => Ok(Answer::Done(account.expire(*due, act, changes))),
        Task::Move(_, email) => {
            let update = ProfileUpdate {
                email: Some(email.clone()),
                ..ProfileUpdate::default()
            };
            account.update(update, act, changes).map(Answer::Done)
        }
        Task::SetPassword(_) => account
            .set_password("$argon2id$own".into(), act, changes)
            .map(Answer::Done),
        Task::Complain(_) => {
            changes.suppress(account.tenant.id, &account.user.profile.email, "complaint", act.now);
            Ok(done)
        }
        Task::Lift(_) => {
            let address = account.user.profile.email.key().to_owned();
            changes.unsuppressed.insert((account.tenant.id, address));
            Ok(done)
        }
        Task::Begin(mail) => Ok(match account.begin_delivery(*mail, "worker-1", leases, act, changes) {
            Begin::Claimed(_) => Answer::Claimed,
            Begin::NotNeeded(why) => Answer::NotNeeded(why),
        }),
        Task::Transmit(mail, claim) => account
            .report_transmitting(*mail, *claim, leases, act, changes)
            .map(|_| Answer::Transmitting),
        Task::Finish(mail, claim, report) => account
            .finish_delivery(*mail, *claim, report, act, changes)
            .map(|()| done),
        Task::Resolve(mail, resolution) => account
            .resolve_delivery(*mail, *resolution, act, changes)
            .map(|()| done),
        Task::Timer(timer) => {
            match timer.key.kind {
                TimerKind::Delivery => account.on_delivery_timer(DeliveryId(timer.key.subject), act, changes),
                TimerKind::Lapse => account.on_lapse_timer(InvitationId(timer.key.subject), act, changes),
                TimerKind::Expiration => account.on_expiration_timer(act, changes),
                TimerKind::Seat
                | TimerKind::Warning
                | TimerKind::Inactivity
                | TimerKind::Mail
                | TimerKind::Erasure
                | TimerKind::Deletion => {}
            }
            Ok(done)
        }
    }
}
