//! Erasures (S12, U9): asked for, perhaps approved, cooled off, done, announced to other services, and certified. One runs for
//! each account. Its deed on the account is `account::erase`; what is left elsewhere is the store's to find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::event::{Event, EventType};
use crate::ids::{ErasureId, TenantId, UserId};
use crate::refusal::Refusal;
use crate::status::Status;
use crate::tenant::Settings;
use crate::timer::{Timer, TimerKey, TimerKind};
use crate::user::{Profile, User};

/// Services that one tenant can have asked.
pub const MAX_SUBSCRIBERS: usize = 100;

/// Why somebody is erased (U9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErasureReason {
    /// They asked for it.
    PersonRequest,
    /// By their right to erasure.
    RightToErasure,
    /// The time for which the data may be kept is over.
    EndOfRetention,
}

impl ErasureReason {
    /// In certificates.
    fn words(self) -> &'static str {
        match self {
            Self::PersonRequest => "the person asked for it",
            Self::RightToErasure => "right to erasure",
            Self::EndOfRetention => "end of retention",
        }
    }
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErasureState {
    /// A second person has to agree.
    AwaitingApproval,
    /// It can be cancelled until it is due.
    CoolingOff,
    /// The account is a tombstone; its traces are looked for.
    Erasing,
    /// Nothing is left here; other services erase their part.
    Announced,
    /// Complete, with a certificate.
    Erased,
    /// Cancelled before the deed.
    Cancelled,
}

impl ErasureState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AwaitingApproval,
        Self::CoolingOff,
        Self::Erasing,
        Self::Announced,
        Self::Erased,
        Self::Cancelled,
    ];

    /// As in columns: `COOLING_OFF`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "AWAITING_APPROVAL",
            Self::CoolingOff => "COOLING_OFF",
            Self::Erasing => "ERASING",
            Self::Announced => "ANNOUNCED",
            Self::Erased => "ERASED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// What proves an erasure. Without personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// A line a fact.
    pub text: String,
    /// Over the text, with a key of the configuration.
    pub digest: Vec<u8>,
    /// When it was issued.
    pub at: Timestamp,
}

/// The erasure of one account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: ErasureId,
    /// Of whom.
    pub user: UserId,
    /// Why.
    pub reason: ErasureReason,
    /// How far it is.
    pub state: ErasureState,
    /// Who asked for it.
    pub requester: String,
    /// Who agreed; empty: nobody had to.
    pub approver: String,
    /// Who cancelled it.
    pub canceller: String,
    /// For whoever approves; emptied by the deed, and with the traces where an earlier erasure was cancelled.
    pub note: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The end of the cool-off.
    pub due_at: Option<Timestamp>,
    /// When the account was erased.
    pub erased_at: Option<Timestamp>,
    /// When services that have not acknowledged are reminded.
    pub remind_at: Option<Timestamp>,
    /// Until when they are waited for.
    pub deadline: Option<Timestamp>,
    /// When it was completed or cancelled.
    pub ended_at: Option<Timestamp>,
    /// All forms of all their addresses: what traces are found by. Emptied when all are gone.
    pub traces: BTreeSet<String>,
    /// The same.
    pub external_id: Option<String>,
    /// The same, in free texts only: their full name, as people write it, in lower case.
    #[serde(default)]
    pub names: BTreeSet<String>,
    /// What was erased: table to number of rows.
    pub counts: BTreeMap<String, i64>,
    /// The services that are asked, and when each acknowledged.
    pub services: BTreeMap<String, Option<Timestamp>>,
    /// Once it is complete.
    pub certificate: Option<Certificate>,
}

impl std::fmt::Debug for Erasure {
    /// Without what is personal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Erasure")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Why.
    pub reason: ErasureReason,
    /// For whoever approves.
    pub note: String,
}

impl Erasure {
    /// Asks for the erasure of an account (U9). That none runs is checked before, and by the database.
    pub fn request(account: &Account, request: Request, act: &Act, changes: &mut Changeset) -> Result<Self, Refusal> {
        if account.user.status == Status::Erased {
            return Err(Refusal::UserErased(account.user.id.to_string()));
        }
        if act.is_by(account.user.id) {
            return Err(Refusal::OwnStatus);
        }
        let settings = &account.tenant.settings;
        let mut erasure = Self::new(&account.user, request, act);
        if settings.erasure_second_approver {
            erasure.state = ErasureState::AwaitingApproval;
        } else {
            erasure.cool_off(settings, act, changes);
        }
        erasure.tell(EventType::ErasureRequested, &account.user, act, changes);
        erasure.save(changes);
        Ok(erasure)
    }

    /// The deletion date of an account is reached (U10): erased now, whatever waits.
    pub fn by_date(account: &Account, running: Option<Self>, act: &Act, changes: &mut Changeset) -> Self {
        let mut erasure = running.unwrap_or_else(|| {
            let request = Request {
                reason: ErasureReason::EndOfRetention,
                note: String::new(),
            };
            let new = Self::new(&account.user, request, act);
            new.tell(EventType::ErasureRequested, &account.user, act, changes);
            new
        });
        if matches!(erasure.state, ErasureState::AwaitingApproval | ErasureState::CoolingOff) {
            erasure.state = ErasureState::CoolingOff;
            erasure.due_at = Some(act.now);
            erasure.set_timer(act.now, changes);
        }
        erasure.save(changes);
        erasure
    }

    fn new(user: &User, request: Request, act: &Act) -> Self {
        Self {
            tenant: user.tenant,
            id: ErasureId::mint(act.now),
            user: user.id,
            reason: request.reason,
            state: ErasureState::CoolingOff,
            requester: act.actor.clone(),
            approver: String::new(),
            canceller: String::new(),
            note: request.note,
            created_at: act.now,
            due_at: None,
            erased_at: None,
            remind_at: None,
            deadline: None,
            ended_at: None,
            traces: BTreeSet::new(),
            external_id: None,
            names: BTreeSet::new(),
            counts: BTreeMap::new(),
            services: BTreeMap::new(),
            certificate: None,
        }
    }

    /// Somebody else agrees: the cool-off begins.
    pub fn approve(&mut self, account: &Account, act: &Act, changes: &mut Changeset) -> Result<(), Refusal> {
        if self.state != ErasureState::AwaitingApproval {
            return Err(Refusal::ErasureNotAwaiting(self.id.to_string()));
        }
        if act.actor == self.requester {
            return Err(Refusal::SameApprover);
        }
        self.approver.clone_from(&act.actor);
        self.cool_off(&account.tenant.settings, act, changes);
        self.tell(EventType::ErasureApproved, &account.user, act, changes);
        self.save(changes);
        Ok(())
    }

    /// Cancels it before the deed. Cancelled twice, it stays so.
    pub fn cancel(&mut self, account: &Account, act: &Act, changes: &mut Changeset) -> Result<(), Refusal> {
        match self.state {
            ErasureState::AwaitingApproval | ErasureState::CoolingOff => {}
            ErasureState::Cancelled => return Ok(()),
            _ => return Err(Refusal::ErasureTooLate(self.id.to_string())),
        }
        self.state = ErasureState::Cancelled;
        self.canceller.clone_from(&act.actor);
        self.ended_at = Some(act.now);
        changes.clear_timer(self.timer_key());
        self.tell(EventType::ErasureCancelled, &account.user, act, changes);
        self.save(changes);
        Ok(())
    }

    /// The timer fired: calls the worker, reminds services, or waits on.
    pub fn on_timer(&mut self, account: &Account, act: &Act, changes: &mut Changeset) {
        match self.state {
            ErasureState::CoolingOff if self.due_at.is_some_and(|due| due > act.now) => self.wait(changes),
            ErasureState::CoolingOff | ErasureState::Erasing => {
                self.tell(EventType::ErasureDue, &account.user, act, changes);
            }
            ErasureState::Announced if self.is_over(act.now) => {
                self.tell(EventType::ErasureDue, &account.user, act, changes);
            }
            ErasureState::Announced => {
                if self.remind_at.is_some_and(|at| at <= act.now) {
                    self.remind_at = None;
                    self.tell(EventType::ErasureReminded, &account.user, act, changes);
                    self.save(changes);
                }
                self.wait(changes);
            }
            ErasureState::AwaitingApproval | ErasureState::Erased | ErasureState::Cancelled => {
                changes.clear_timer(self.timer_key());
            }
        }
    }

    /// The deed on the account, if it is due; answers whether it was done.
    pub fn erase(&mut self, account: &mut Account, act: &Act, changes: &mut Changeset) -> bool {
        let due = self.state == ErasureState::CoolingOff && self.due_at.is_some_and(|due| due <= act.now);
        if !due {
            return false;
        }
        let profile = &account.user.profile;
        self.traces = profile.email.forms().into_iter().collect();
        self.external_id.clone_from(&profile.external_id);
        self.names = full_names(profile);
        self.state = ErasureState::Erasing;
        self.erased_at = Some(act.now);
        self.note.clear();
        for (table, rows) in account.erase(act, changes) {
            *self.counts.entry(table.to_owned()).or_default() += rows;
        }
        self.save(changes);
        true
    }

    /// No trace is left here: tells the services that are asked, and is complete where there are none.
    pub fn announce(
        &mut self,
        services: &BTreeSet<String>,
        account: &Account,
        seal: impl Fn(&str) -> Vec<u8>,
        act: &Act,
        changes: &mut Changeset,
    ) {
        if self.state != ErasureState::Erasing {
            return;
        }
        let patience = account.tenant.settings.erasure_deadline();
        self.state = ErasureState::Announced;
        self.traces.clear();
        self.external_id = None;
        self.names.clear();
        self.services = services.iter().map(|service| (service.clone(), None)).collect();
        self.remind_at = Some(act.now + patience / 2);
        self.deadline = Some(act.now + patience);
        self.tell(EventType::ErasureAnnounced, &account.user, act, changes);
        self.wait(changes);
        self.save(changes);
        self.complete(&account.user, seal, act, changes);
    }

    /// A service has erased its part. Said twice, the first counts.
    pub fn acknowledge(
        &mut self,
        service: &str,
        account: &Account,
        seal: impl Fn(&str) -> Vec<u8>,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<(), Refusal> {
        match self.state {
            ErasureState::Announced | ErasureState::Erased => {}
            _ => return Err(Refusal::ErasureNotAnnounced(self.id.to_string())),
        }
        let acknowledged = self
            .services
            .get_mut(service)
            .ok_or_else(|| Refusal::SubscriberNotFound(service.to_owned()))?;
        // After the certificate it is of no consequence.
        if self.state == ErasureState::Announced && acknowledged.is_none() {
            *acknowledged = Some(act.now);
            self.save(changes);
            self.complete(&account.user, seal, act, changes);
        }
        Ok(())
    }

    /// Issues the certificate, once, if nobody is waited for any more; answers whether it did.
    pub fn complete(
        &mut self,
        user: &User,
        seal: impl Fn(&str) -> Vec<u8>,
        act: &Act,
        changes: &mut Changeset,
    ) -> bool {
        if self.state != ErasureState::Announced || !self.is_over(act.now) {
            return false;
        }
        if self.services.values().any(Option::is_none) {
            self.tell(EventType::ErasureOverdue, user, act, changes);
        }
        self.state = ErasureState::Erased;
        self.ended_at = Some(act.now);
        self.remind_at = None;
        let text = self.certificate_text(act.now);
        let digest = seal(&text);
        self.certificate = Some(Certificate {
            text,
            digest,
            at: act.now,
        });
        changes.clear_timer(self.timer_key());
        self.tell(EventType::ErasureCompleted, user, act, changes);
        self.save(changes);
        true
    }

    /// Whether nobody is waited for any more.
    fn is_over(&self, now: Timestamp) -> bool {
        self.services.values().all(Option::is_some) || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn certificate_text(&self, now: Timestamp) -> String {
        let time = |at: Timestamp| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let or_none = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), time);
        let mut text = String::from("Certificate of erasure\n");
        // Writing to a String cannot fail.
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name}: {value}");
        };
        line("tenant", &self.tenant.to_string());
        line("erasure", &self.id.to_string());
        line("account", &self.user.to_string());
        line("reason", self.reason.words());
        line("requested by", &self.requester);
        line("requested at", &time(self.created_at));
        if !self.approver.is_empty() {
            line("approved by", &self.approver);
        }
        line("erased at", &or_none(self.erased_at));
        for (table, rows) in &self.counts {
            line(&format!("erased from {table}"), &rows.to_string());
        }
        for (service, at) in &self.services {
            let at = at.map_or_else(|| "not acknowledged by the deadline".to_owned(), time);
            line(&format!("acknowledged by {service}"), &at);
        }
        line("issued at", &time(now));
        text
    }

    fn cool_off(&mut self, settings: &Settings, act: &Act, changes: &mut Changeset) {
        let due = act.now + settings.erasure_cool_off();
        self.state = ErasureState::CoolingOff;
        self.due_at = Some(due);
        self.set_timer(due, changes);
    }

    /// Sets the timer to what it waits for.
    fn wait(&self, changes: &mut Changeset) {
        let next = match self.state {
            ErasureState::CoolingOff => self.due_at,
            ErasureState::Announced => self.remind_at.or(self.deadline),
            _ => None,
        };
        if let Some(next) = next {
            self.set_timer(next, changes);
        }
    }

    fn set_timer(&self, due_at: Timestamp, changes: &mut Changeset) {
        changes.set_timer(Timer {
            key: self.timer_key(),
            user: Some(self.user),
            due_at,
            fired: 0,
        });
    }

    fn timer_key(&self) -> TimerKey {
        TimerKey {
            tenant: self.tenant,
            kind: TimerKind::Erasure,
            subject: self.id.0,
        }
    }

    fn tell(&self, kind: EventType, user: &User, act: &Act, changes: &mut Changeset) {
        changes.events.push(Event {
            erasure: Some(self.id),
            ..act.event(kind, self.tenant, Some(user))
        });
    }

    fn save(&self, changes: &mut Changeset) {
        changes.erasures.insert((self.tenant, self.id), self.clone());
    }
}

/// None without both names: one alone may be any word.
fn full_names(profile: &Profile) -> BTreeSet<String> {
    let (first, last) = (profile.first_name.to_lowercase(), profile.last_name.to_lowercase());
    if first.is_empty() || last.is_empty() {
        return BTreeSet::new();
    }
    [
        format!("{first} {last}"),
        format!("{last} {first}"),
        format!("{last}, {first}"),
    ]
    .into()
}
