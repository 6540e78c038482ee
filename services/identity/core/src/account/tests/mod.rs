//! The rules by example. A test's name says the rule and the row of the requirements that asks for it. All laws at once,
//! over arbitrary sequences of commands, are held by the machine in the contract suite.

mod activity;
mod bouncing;
mod delivering;
mod erasing;
mod inactivity;
mod inviting;
mod pacing;
mod profile;
mod reminding;
mod seats;
mod standing;
mod uncertain;
mod warning;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta};

use super::{Account, Begin, Effect, NewUser, NextAction, NotNeeded, ProfileUpdate, Registration, Resolution};
use crate::change::{Act, Changeset, Leases};
use crate::clock::Timestamp;
use crate::delivery::{Claim, Delivery, DeliveryKind, DeliveryStateName, Outcome, Phase, Report};
use crate::email::EmailAddress;
use crate::event::{Event, EventType};
use crate::ids::{ClaimId, DeliveryId, InvitationId, TenantId, UserId};
use crate::invitation::{Invitation, Message};
use crate::refusal::Refusal;
use crate::seats::Seats;
use crate::status::{Status, StatusName};
use crate::template::OwnTemplates;
use crate::tenant::{Settings, Tenant};
use crate::timer::{TimerKey, TimerKind};
use crate::token::InvitationToken;
use crate::user::{Access, Credential, Profile};

const ADDRESS: &str = "ana@example.org";

/// One account, a clock that is moved by hand, and what the last command wrote.
struct Stage {
    account: Account,
    now: Timestamp,
    changes: Changeset,
}

impl Stage {
    fn created(credential: Option<Credential>, expires_in: Option<TimeDelta>) -> Self {
        let now = DateTime::from_timestamp(1_772_442_000, 0).unwrap();
        let tenant = Arc::new(Tenant {
            id: TenantId::mint(now),
            version: 1,
            settings: Settings::new("Lycée"),
            created_at: now,
            templates: OwnTemplates::default(),
        });
        let new = NewUser {
            id: UserId::mint(now),
            profile: Profile::of(address(ADDRESS)),
            credential,
            expires_at: expires_in.map(|after| now + after),
            deletes_at: None,
        };
        let mut changes = Changeset::default();
        let account = Account::create(tenant, Seats::default(), new, false, &act(now), &mut changes).unwrap();
        Self { account, now, changes }
    }

    fn pending() -> Self {
        Self::created(None, None)
    }

    fn active() -> Self {
        Self::created(Some(Credential::Password("$argon2id$given".into())), None)
    }

    /// An invitation is queued.
    fn queued() -> Self {
        let mut stage = Self::pending();
        stage.invite().unwrap();
        stage
    }

    /// The invitation's mail was handed to a mail server.
    fn invited() -> Self {
        let mut stage = Self::queued();
        let mail = stage.newest().id;
        stage.send(mail);
        stage
    }

    fn advance(&mut self, by: TimeDelta) {
        self.now += by;
    }

    /// Carries out a command as the server does.
    fn decide<T>(
        &mut self,
        command: impl FnOnce(&mut Account, &Act, &mut Changeset) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let act = act(self.now);
        self.changes = Changeset::default();
        self.account
            .decide(&mut self.changes, |account, changes| command(account, &act, changes))
    }

    fn invite(&mut self) -> Result<(), Refusal> {
        self.decide(|account, act, changes| account.invite(None, act, changes))
    }

    fn resend(&mut self) -> Result<(), Refusal> {
        let id = self.invitation().id;
        self.decide(|account, act, changes| account.resend(id, None, act, changes))
    }

    fn cancel(&mut self) -> Result<Effect, Refusal> {
        let id = self.invitation().id;
        self.decide(|account, act, changes| account.cancel_invitation(id, act, changes))
    }

    fn accept(&mut self, token: InvitationToken) -> Result<(), Refusal> {
        let registration = Registration {
            first_name: "Ana".into(),
            last_name: "Núñez".into(),
            password_hash: "$argon2id$chosen".into(),
        };
        self.decide(|account, act, changes| account.accept(token, registration, act, changes))
    }

    fn refresh(&mut self, token: InvitationToken) -> Effect {
        self.decide(|account, act, changes| Ok(account.refresh(token, act, changes)))
            .unwrap()
    }

    fn deactivate(&mut self) -> Result<Effect, Refusal> {
        self.decide(Account::deactivate)
    }

    fn reactivate(&mut self) -> Result<Effect, Refusal> {
        self.decide(Account::reactivate)
    }

    fn set_expiration(&mut self, after: Option<TimeDelta>) -> Result<Effect, Refusal> {
        let at = after.map(|after| self.now + after);
        self.decide(|account, act, changes| account.set_expiration(at, act, changes))
    }

    fn move_to(&mut self, email: &str) -> Effect {
        let update = ProfileUpdate {
            email: Some(address(email)),
            ..ProfileUpdate::default()
        };
        self.decide(|account, act, changes| account.update(update, act, changes))
            .unwrap()
    }

    fn begin(&mut self, mail: DeliveryId) -> Begin {
        self.decide(|account, act, changes| {
            Ok(account.begin_delivery(mail, "worker-1", Leases::default(), act, changes))
        })
        .unwrap()
    }

    fn claim(&mut self, mail: DeliveryId) -> Claim {
        match self.begin(mail) {
            Begin::Claimed(claim) => claim,
            Begin::NotNeeded(why) => panic!("not claimed: {why:?}"),
        }
    }

    fn transmit(&mut self, mail: DeliveryId, claim: ClaimId) -> Result<Timestamp, Refusal> {
        self.decide(|account, act, changes| account.report_transmitting(mail, claim, Leases::default(), act, changes))
    }

    fn finish(&mut self, mail: DeliveryId, claim: ClaimId, report: &Report) -> Result<(), Refusal> {
        self.decide(|account, act, changes| account.finish_delivery(mail, claim, report, act, changes))
    }

    fn resolve(&mut self, mail: DeliveryId, resolution: Resolution) -> Result<(), Refusal> {
        self.decide(|account, act, changes| account.resolve_delivery(mail, resolution, act, changes))
    }

    fn fire(&mut self, mail: DeliveryId) {
        self.decide(|account, act, changes| {
            account.on_delivery_timer(mail, act, changes);
            Ok(())
        })
        .unwrap();
    }

    /// A worker begins a mail, the mail server takes DATA, and the worker is not heard of again.
    fn begin_transmission(&mut self, mail: DeliveryId) -> ClaimId {
        let claim = self.claim(mail).id;
        self.transmit(mail, claim).unwrap();
        claim
    }

    /// A worker does a mail to the end.
    fn work(&mut self, mail: DeliveryId, report: &Report) {
        let claim = self.begin_transmission(mail);
        self.finish(mail, claim, report).unwrap();
    }

    fn send(&mut self, mail: DeliveryId) {
        self.work(mail, &sent());
    }

    fn status(&self) -> StatusName {
        self.account.user.effective_status(self.now).name()
    }

    fn access(&self) -> Access {
        self.account.user.standing().access(self.now)
    }

    fn invitation(&self) -> &Invitation {
        self.account.invitation.as_ref().unwrap()
    }

    fn token(&self) -> InvitationToken {
        InvitationToken {
            invitation: self.invitation().id,
            generation: self.invitation().generation,
        }
    }

    fn mail(&self, id: DeliveryId) -> &Delivery {
        self.account.deliveries.iter().find(|mail| mail.id == id).unwrap()
    }

    fn state(&self, id: DeliveryId) -> DeliveryStateName {
        self.mail(id).state.name()
    }

    /// The mail that was queued last.
    fn newest(&self) -> &Delivery {
        self.account.deliveries.last().unwrap()
    }

    fn live(&self) -> Vec<&Delivery> {
        let mails = self.account.deliveries.iter();
        mails.filter(|mail| mail.state.name().is_live()).collect()
    }

    /// What the last command told.
    fn told(&self) -> Vec<EventType> {
        self.changes.events.iter().map(|event| event.kind).collect()
    }

    fn event(&self, kind: EventType) -> &Event {
        self.changes.events.iter().find(|event| event.kind == kind).unwrap()
    }

    /// When the timer is due that the last command set; `None` if it cleared it.
    fn timer(&self, kind: TimerKind, subject: uuid::Uuid) -> Option<Timestamp> {
        let key = TimerKey {
            tenant: self.account.tenant.id,
            kind,
            subject,
        };
        let timer = self
            .changes
            .timers
            .get(&key)
            .expect("the last command left this timer alone");
        timer.as_ref().map(|timer| timer.due_at)
    }
}

fn act(now: Timestamp) -> Act {
    Act {
        actor: "administrator".into(),
        now,
        reason: "asked for".into(),
        request_id: "request-1".into(),
        trace_parent: String::new(),
    }
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn report(outcome: Outcome, phase: Phase, smtp_code: i32, response: &str) -> Report {
    Report {
        outcome,
        response: response.into(),
        smtp_code,
        phase,
    }
}

fn sent() -> Report {
    report(Outcome::Sent, Phase::Content, 250, "2.0.0 taken")
}

fn deferred() -> Report {
    report(Outcome::Deferred, Phase::Recipient, 451, "4.7.1 greylisted")
}

fn unreachable() -> Report {
    report(Outcome::Unreachable, Phase::Connect, 0, "connection refused")
}

fn uncertain() -> Report {
    report(Outcome::Uncertain, Phase::Content, 0, "connection reset")
}

fn hard_bounce() -> Report {
    report(Outcome::Failed, Phase::Recipient, 550, "5.1.1 no such user")
}

fn refused_by_policy() -> Report {
    report(Outcome::Failed, Phase::Content, 554, "5.7.1 looks like spam")
}

fn days(days: i64) -> TimeDelta {
    TimeDelta::days(days)
}
