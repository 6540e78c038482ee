//! What must hold after every step, whatever came before. The tables are the whole of what is allowed; `shadow` keeps its
//! own idea of a person from the events alone, which what was written must agree with.

mod shadow;
mod tables;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shadow::Shadow;
pub use tables::{DELIVERIES, INVITATIONS, Transition, USERS};
use usher_core::change::Changeset;
use usher_core::clock::Timestamp;
use usher_core::delivery::{Delivery, DeliveryKind, DeliveryStateName};
use usher_core::event::{Event, EventType};
use usher_core::ids::{DeliveryId, InvitationId, UserId};
use usher_core::invitation::InvitationState;
use usher_core::refusal::Refusal;
use usher_core::status::{Onboarding, Status};

use super::memory::Memory;
use super::script::{Answer, Task};

type Law = Result<(), String>;

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Laws {
    people: HashMap<UserId, Shadow>,
    deliveries: HashMap<DeliveryId, DeliveryStateName>,
    invitations: HashMap<InvitationId, (InvitationState, i32)>,
    /// Rows of [`USERS`] that happened.
    pub users_seen: BTreeSet<usize>,
    /// Rows of [`DELIVERIES`] that happened.
    pub deliveries_seen: BTreeSet<usize>,
    /// Rows of [`INVITATIONS`] that happened.
    pub invitations_seen: BTreeSet<usize>,
}

fn law(holds: bool, fault: impl FnOnce() -> String) -> Law {
    if holds { Ok(()) } else { Err(fault()) }
}

impl Laws {
    /// After a command.
    pub fn check_step(
        &mut self,
        memory: &Memory,
        now: Timestamp,
        task: &Task,
        answer: &Result<Answer, Refusal>,
        changes: &Changeset,
    ) -> Law {
        law(answer.is_ok() || changes.is_empty(), || {
            format!("a refusal left a trace: {answer:?} {changes:?}")
        })?;
        for (index, event) in changes.events.iter().enumerate() {
            self.check_event(event, &changes.events[..index], memory, task)?;
        }
        for user in changes.users.values() {
            let shadow = &self.people[&user.id];
            law(user.status == shadow.status(), || {
                format!(
                    "{:?} is written down, the events say {:?}",
                    user.status,
                    shadow.status()
                )
            })?;
            law(user.version == shadow.version, || {
                format!(
                    "version {} is written down, the events say {}",
                    user.version, shadow.version
                )
            })?;
        }
        self.check_deliveries(memory, now, task, changes)?;
        self.check_invitations(memory, now, task, answer, changes)?;
        waiting::check_timers(memory, now)?;
        check_seats(memory)?;
        self.check_answer(memory, now, task, answer)
    }

    /// After every step, also if only the clock moved.
    pub fn check_clock(&self, memory: &Memory, now: Timestamp) -> Law {
        for user in memory.users.values() {
            let shadow = &self.people[&user.id];
            let expected = shadow.access(user.expires_at, now);
            let access = user.standing().access(now);
            law(access == expected, || format!("access is {access:?}, not {expected:?}"))?;
            law(user.status != Status::Erased, || "nobody asked to be erased".into())?;
        }
        waiting::check_nothing_forgotten(memory, now)
    }

    fn check_event(&mut self, event: &Event, before: &[Event], memory: &Memory, task: &Task) -> Law {
        let json = serde_json::to_string(event).map_err(|error| error.to_string())?;
        law(!json.contains('@'), || format!("an event bears personal data: {json}"))?;
        let user = event.user.ok_or("an event about nobody")?;
        if event.kind == EventType::UserCreated {
            let created = Shadow::created(event).ok_or_else(|| format!("created as what? {json}"))?;
            law(self.people.insert(user, created).is_none(), || "created twice".into())?;
        } else {
            let shadow = self.people.get_mut(&user).ok_or("an event before the creation")?;
            let at_creation = before
                .last()
                .is_some_and(|before| before.kind == EventType::UserCreated);
            shadow
                .follow(event, at_creation)
                .map_err(|fault| format!("{fault}: {json}"))?;
        }
        let row = (event.kind, event.from, event.to);
        if event.kind.as_str().starts_with("user.") {
            let index = USERS.iter().position(|allowed| *allowed == row);
            self.users_seen
                .insert(index.ok_or_else(|| format!("{row:?} is not in the table"))?);
        } else {
            law(event.from.is_none() && event.to.is_none(), || {
                format!("tells of a status: {json}")
            })?;
        }
        match event.kind {
            EventType::UserActivated => law(matches!(task, Task::Create(_) | Task::Accept(_)), || {
                format!("activated by {task:?}")
            }),
            EventType::UserInvited => {
                let handed_over = before.iter().any(|before| {
                    before.kind == EventType::DeliverySent
                        && before
                            .delivery
                            .and_then(|id| memory.delivery(id))
                            .is_some_and(is_onboarding)
                });
                law(handed_over, || "invited without a mail handed over".into())
            }
            EventType::InvitationDue | EventType::ReminderDue => {
                let mail = event.delivery.and_then(|id| memory.delivery(id));
                law(mail.is_some_and(|mail| mail.state.name().is_live()), || {
                    format!("work is called for on a mail that ended: {json}")
                })
            }
            _ => Ok(()),
        }
    }

    fn check_deliveries(&mut self, memory: &Memory, now: Timestamp, task: &Task, changes: &Changeset) -> Law {
        for delivery in changes.deliveries.values() {
            let (state, id) = (delivery.state.name(), delivery.id);
            let before = self.deliveries.insert(id, state);
            if before != Some(state) {
                let row = (before, state);
                let index = DELIVERIES.iter().position(|allowed| *allowed == row);
                self.deliveries_seen
                    .insert(index.ok_or_else(|| format!("a mail went {row:?}"))?);
            }
            let may_have_gone = before.is_some_and(may_be_out) && before != Some(state);
            let known = state == DeliveryStateName::Sent || may_have_gone && state != DeliveryStateName::Uncertain;
            law(!known || matches!(task, Task::Finish(..) | Task::Resolve(..)), || {
                format!("a mail went from {before:?} to {state:?} without a word from anybody")
            })?;
            law(state.is_live() == delivery.ended_at.is_none(), || {
                format!("a {state:?} mail ended at {:?}", delivery.ended_at)
            })?;
            law(delivery.ended_at.is_none_or(|at| at <= now), || {
                "ended yet to come".into()
            })?;
            let invitation = delivery.invitation.and_then(|id| memory.invitation(id));
            let dropped = before != Some(state)
                && state == DeliveryStateName::Cancelled
                && delivery.kind == DeliveryKind::Reminder
                && invitation.is_some_and(|it| {
                    it.is_open(now) && it.generation == delivery.generation && it.last_step == delivery.reminder_step
                });
            law(!dropped, || {
                "a step of the ladder was dropped and counts as sent".into()
            })?;
        }
        if changes.deliveries.is_empty() {
            return Ok(());
        }
        let mut live = BTreeSet::new();
        let mut counted = BTreeSet::new();
        for delivery in &memory.deliveries {
            let key = (
                (delivery.user, delivery.invitation, delivery.generation),
                (delivery.kind.as_str(), delivery.reminder_step, delivery.email.key()),
            );
            let state = delivery.state.name();
            law(!state.is_live() || live.insert(key), || {
                format!("two live mails {key:?}")
            })?;
            // Only a notice without a link and without a password may be repeated: to an address that was taken back.
            let bears_secret = delivery.kind != DeliveryKind::AccountCreated || delivery.generation > 0;
            let counts = !matches!(state, DeliveryStateName::Cancelled | DeliveryStateName::Suppressed);
            law(!bears_secret || !counts || counted.insert(key), || {
                format!("two mails that are out or on their way {key:?}")
            })?;
        }
        Ok(())
    }

    fn check_invitations(
        &mut self,
        memory: &Memory,
        now: Timestamp,
        task: &Task,
        answer: &Result<Answer, Refusal>,
        changes: &Changeset,
    ) -> Law {
        for invitation in changes.invitations.values() {
            let now_is = (invitation.state, invitation.generation);
            let before = self.invitations.insert(invitation.id, now_is);
            let row = (before.map(|(state, _)| state), invitation.state);
            let index = INVITATIONS.iter().position(|allowed| *allowed == row);
            self.invitations_seen
                .insert(index.ok_or_else(|| format!("an invitation went {row:?}"))?);
            let Some((state, generation)) = before.filter(|(state, _)| state.is_open()) else {
                continue;
            };
            // The link was open and is dead now. Only an operator may have asked for such a mail in the same breath.
            let dead = !invitation.state.is_open() || invitation.generation > generation;
            if dead && !matches!(task, Task::Resolve(..)) {
                let left = memory.deliveries.iter().find(|mail| {
                    let name = mail.state.name();
                    let of_it = mail.invitation == Some(invitation.id) && mail.generation <= generation;
                    of_it && name.is_live() && name != DeliveryStateName::Transmitting
                });
                law(left.is_none(), || {
                    format!("a {state:?} link died and its mail lives: {left:?}")
                })?;
            }
        }
        let mut open = BTreeMap::new();
        for invitation in memory
            .invitations
            .iter()
            .filter(|invitation| invitation.state.is_open())
        {
            law(open.insert(invitation.user, invitation.id).is_none(), || {
                "two open invitations".into()
            })?;
            law(
                memory.invitations_of(invitation.user).last().map(|newest| newest.id) == Some(invitation.id),
                || "an older invitation is open".into(),
            )?;
        }
        if let (Task::Accept(token), Ok(_)) = (task, answer) {
            let used = memory.invitation(token.invitation).ok_or("a link of no invitation")?;
            law(
                used.generation == token.generation && now < used.lapses_at && used.accepted_at == Some(now),
                || "a dead link was used".into(),
            )?;
        }
        Ok(())
    }

    /// No mail is claimed, and no content sent, for someone who is not wanted, or to where they are no longer.
    fn check_answer(&self, memory: &Memory, now: Timestamp, task: &Task, answer: &Result<Answer, Refusal>) -> Law {
        let ((Task::Begin(mail), Ok(Answer::Claimed)) | (Task::Transmit(mail, _), Ok(Answer::Transmitting))) =
            (task, answer)
        else {
            return Ok(());
        };
        let mail = memory.delivery(*mail).ok_or("a claim on no mail")?;
        let user = mail
            .user
            .and_then(|user| memory.users.get(&(mail.tenant, user)))
            .ok_or("a mail to nobody")?;
        let status = self.people[&user.id].effective(user.expires_at, now);
        let invitation = mail.invitation.and_then(|id| memory.invitation(id));
        let wanted = match mail.kind {
            DeliveryKind::AccountCreated => status == Status::Onboarding(Onboarding::Active),
            _ => {
                matches!(status, Status::Onboarding(Onboarding::Pending | Onboarding::Invited))
                    && invitation.is_some_and(|it| it.is_open(now) && it.generation == mail.generation)
            }
        };
        law(wanted, || {
            format!("{answer:?} for somebody who is {status:?}: {mail:?}")
        })?;
        law(mail.email == user.profile.email, || {
            "to an address that they left".into()
        })?;
        let address = (mail.tenant, mail.email.key().to_owned());
        law(
            *answer != Ok(Answer::Claimed) || !memory.suppressed.contains_key(&address),
            || "to a suppressed address".into(),
        )
    }
}

/// B13: the ledger adds up to those who are active.
fn check_seats(memory: &Memory) -> Law {
    let sum: i64 = memory.seats.iter().map(|entry| entry.change).sum();
    let active = memory.users.values().filter(|user| user.status == Status::ACTIVE);
    let active = i64::try_from(active.count()).unwrap_or(i64::MAX);
    law(sum == active, || {
        format!("the ledger adds up to {sum}, and {active} are active")
    })
}

fn is_onboarding(mail: &Delivery) -> bool {
    mail.kind.has_link()
}

fn may_be_out(state: DeliveryStateName) -> bool {
    matches!(
        state,
        DeliveryStateName::Sent | DeliveryStateName::Uncertain | DeliveryStateName::Transmitting
    )
}
