//! What people do on the platform, as its services report it (S8, U4). Reports may come twice, late and in any order: the
//! latest sign-in and the earliest course count, so that any sequence of the same reports leaves the same row.

use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::event::EventType;
use crate::refusal::Refusal;
use crate::status::Status;

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivityKind {
    /// They signed in, by whatever way.
    SignIn,
    /// They opened a course.
    CourseOpened,
}

impl Account {
    /// Takes a report in. A sign-in is no change of the account; the first course is one, and is told once (S8).
    pub fn record_activity(
        &mut self,
        kind: ActivityKind,
        at: Timestamp,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Effect, Refusal> {
        if self.user.status == Status::Erased {
            return Err(Refusal::UserErased(self.name()));
        }
        let effect = match kind {
            ActivityKind::SignIn => self.sign_in(at, changes),
            ActivityKind::CourseOpened => self.open_course(at, act, changes),
        };
        Ok(effect)
    }

    fn sign_in(&mut self, at: Timestamp, changes: &mut Changeset) -> Effect {
        if self.user.last_login_at.is_some_and(|last| last >= at) {
            return Effect::Unchanged;
        }
        self.user.last_login_at = Some(at);
        // Whoever signs in after a warning is no longer inactive (B10). Written with the sign-in.
        self.user.inactivity_warned_at = self.user.inactivity_warned_at.filter(|warned| *warned > at);
        changes.put_login(self.user.tenant, self.user.id, at);
        // Nor is whoever had signed in before it, as is only known now: the next warning is not to wait for the end of this one.
        if !self.warning_holds() {
            self.withdraw_warning(changes);
        }
        Effect::Changed
    }

    fn open_course(&mut self, at: Timestamp, act: &Act, changes: &mut Changeset) -> Effect {
        match self.user.first_course_at {
            Some(first) if first <= at => return Effect::Unchanged,
            Some(_) => {
                // An earlier one came late: nothing new happened to the account.
                self.user.first_course_at = Some(at);
                self.save_user(changes);
            }
            None => {
                self.user.first_course_at = Some(at);
                self.touch(act, changes);
                changes.events.push(self.event(act, EventType::UserEngaged));
            }
        }
        Effect::Changed
    }
}
