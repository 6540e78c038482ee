//! Erased for good (S12): what is left is a tombstone, an id with a status. What hangs on the account elsewhere (older
//! invitations and mails, answers, jobs) is the store's to find: see `Erasures::erase_traces`.

use super::Account;
use crate::change::{Act, Changeset};
use crate::email::EmailAddress;
use crate::event::EventType;
use crate::invitation::InvitationState;
use crate::status::Status;
use crate::timer::TimerKind;
use crate::user::{Credential, Profile};

impl Account {
    /// Makes a tombstone of the account: the seat is freed, groups and roles are left, the open invitation is cancelled, no
    /// mail goes out any more. Answers what was erased: tables with numbers of rows. That it is due was checked before.
    pub fn erase(&mut self, act: &Act, changes: &mut Changeset) -> Vec<(&'static str, i64)> {
        if self.user.status == Status::Erased {
            return Vec::new();
        }
        if self.invitation.as_ref().is_some_and(|it| it.state.is_open()) {
            let cancelled = EventType::InvitationCancelled;
            self.close_invitation(InvitationState::Cancelled, cancelled, act, changes);
        }
        // One that is on its way is not waited for: its report comes to nothing.
        for index in 0..self.deliveries.len() {
            if self.deliveries[index].state.name().is_live() {
                self.cancel_delivery(index, act, changes);
            }
        }
        let belonging = self.belonging.clone();
        for group in &belonging.groups {
            self.leave(*group, act, changes);
        }
        for (role, scope) in &belonging.roles {
            self.revoke(*role, scope.clone(), act, changes);
        }
        if self.user.seat_waiting_since.take().is_some() {
            self.seats.wait(-1);
        }
        let user = &mut self.user;
        user.profile = Profile::of(EmailAddress::from_stored(String::new(), String::new()));
        user.credential = Credential::None;
        user.expires_at = None;
        user.deletes_at = None;
        user.activated_at = None;
        user.last_login_at = None;
        user.first_course_at = None;
        user.inactivity_warned_at = None;
        user.expiry_warnings = 0;
        user.edited_fields.clear();
        self.clear_timer(TimerKind::Expiration, self.user.id.0, changes);
        self.clear_timer(TimerKind::Deletion, self.user.id.0, changes);
        self.change_status(Status::Erased, EventType::UserErased, act, changes);
        let rows = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        vec![
            ("users", 1),
            ("group_members", rows(belonging.groups.len())),
            ("role_assignments", rows(belonging.roles.len())),
        ]
    }

    /// The timer of the deletion date is to be that of the account (U10).
    pub(super) fn set_deletion_timer(&self, changes: &mut Changeset) {
        match self.user.deletes_at {
            Some(at) => self.set_timer(TimerKind::Deletion, self.user.id.0, at, changes),
            None => self.clear_timer(TimerKind::Deletion, self.user.id.0, changes),
        }
    }
}
