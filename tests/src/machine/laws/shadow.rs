//! A second, simpler idea of a person, made of the events alone: three facts that do not know of each other.

use usher_core::clock::Timestamp;
use usher_core::event::{Event, EventType};
use usher_core::status::{Onboarding, Status, StatusName, Unexpired};
use usher_core::user::Access;

#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) version: i64,
    onboarding: Onboarding,
    deactivated: bool,
    expired: bool,
}

impl Shadow {
    pub(super) fn created(event: &Event) -> Option<Self> {
        let onboarding = match event.to? {
            StatusName::Pending => Onboarding::Pending,
            StatusName::Active => Onboarding::Active,
            _ => return None,
        };
        (event.user_version == 1).then_some(Self {
            version: 1,
            onboarding,
            deactivated: false,
            expired: false,
        })
    }

    /// Takes an event in. Those about the person each bear the next version, but for the activation that belongs to a
    /// creation; all others the present one.
    pub(super) fn follow(&mut self, event: &Event, at_creation: bool) -> Result<(), &'static str> {
        let before = self.name();
        match event.kind {
            EventType::UserCreated => return Err("created again"),
            EventType::UserActivated if at_creation => {}
            EventType::UserActivated => self.onboarding = Onboarding::Active,
            EventType::UserInvited if self.onboarding == Onboarding::Pending => self.onboarding = Onboarding::Invited,
            EventType::UserInvited => return Err("invited who was not pending"),
            EventType::UserDeactivated => self.deactivated = true,
            EventType::UserReactivated => self.deactivated = false,
            EventType::UserExpired => self.expired = true,
            EventType::UserRestored => self.expired = false,
            EventType::UserUpdated => {}
            _ => {
                let present = event.user_version == self.version;
                return present.then_some(()).ok_or("does not bear the present version");
            }
        }
        if !at_creation {
            self.version += 1;
            let (from, to) = match event.kind {
                EventType::UserUpdated => (None, None),
                _ => (Some(before), Some(self.name())),
            };
            if (event.from, event.to) != (from, to) {
                return Err("tells another status than the events before it lead to");
            }
        }
        let next = event.user_version == self.version;
        next.then_some(()).ok_or("does not bear the next version")
    }

    fn name(&self) -> StatusName {
        if self.expired {
            StatusName::Expired
        } else if self.deactivated {
            StatusName::Deactivated
        } else {
            self.onboarding.name()
        }
    }

    /// What must be written down.
    pub(super) fn status(&self) -> Status {
        let restores = self.onboarding;
        match (self.expired, self.deactivated) {
            (false, false) => Status::Onboarding(restores),
            (false, true) => Status::Deactivated { restores },
            (true, false) => Status::Expired {
                restores: Unexpired::Onboarding(restores),
            },
            (true, true) => Status::Expired {
                restores: Unexpired::Deactivated { restores },
            },
        }
    }

    /// What counts.
    pub(super) fn effective(&self, expires_at: Option<Timestamp>, now: Timestamp) -> Status {
        let expired = self.expired || expires_at.is_some_and(|at| at <= now);
        Self { expired, ..*self }.status()
    }

    pub(super) fn access(&self, expires_at: Option<Timestamp>, now: Timestamp) -> Access {
        if self.expired || expires_at.is_some_and(|at| at <= now) {
            Access::Expired
        } else if self.deactivated {
            Access::Deactivated
        } else if self.onboarding == Onboarding::Active {
            Access::Allowed { until: expires_at }
        } else {
            Access::NotRegistered
        }
    }
}
