//! Inactivity (B10): whoever does not sign in for long is warned, and deactivated if that changes nothing.
//!
//! Days are counted from the last sign-in, or from the instant since which the account is `ACTIVE` if that is later: who
//! never signed in counts from the activation, and who was let in again has the whole time once more. Nobody is
//! deactivated without a warning that lay with them for at least `deactivate_after_days - warn_after_days`, counted from the
//! instant at which its mail was handed to a mail server, or may have been. As long as the mail is under way, they stay. Where
//! it can never be sent, since the address is suppressed or every try failed, the days count from its queueing: an account
//! whose address is dead must not be open for good. What is due is gathered into a run; one that would touch too many is
//! parked until somebody decides.
//!
//! A warning is one of the policy that is in force: whatever was given before the policy was switched on, or sooner than it
//! warns now, does not count, is taken back, and is given anew when it is due.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{InactivityRunId, TenantId, UserId};
use crate::refusal::{FieldViolation, Refusal};

/// Days of a policy at most.
const MAX_DAYS: i64 = 3_650;
/// What a policy without a share allows, in percent.
const DEFAULT_SHARE: i64 = 10;
/// Runs that a decision looks at: more than a day can have.
pub const RECENT_RUNS: u32 = 50;

/// What a tenant does about inactivity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InactivityPolicy {
    /// Days without a sign-in after which people are warned; 0: the policy is off.
    pub warn_after_days: i64,
    /// Days without a sign-in after which they are deactivated: more than `warn_after_days`.
    pub deactivate_after_days: i64,
    /// Holders of the role administrator, wherever, are left alone.
    pub exempt_administrators: bool,
    /// The share of the active users that a day may deactivate by itself, in percent.
    pub max_share_percent: i64,
}

impl Default for InactivityPolicy {
    fn default() -> Self {
        Self {
            warn_after_days: 0,
            deactivate_after_days: 0,
            exempt_administrators: true,
            max_share_percent: DEFAULT_SHARE,
        }
    }
}

impl InactivityPolicy {
    /// Whether it does anything.
    pub fn is_on(&self) -> bool {
        self.warn_after_days > 0
    }

    /// From the last sign-in to the warning.
    pub fn until_warning(&self) -> TimeDelta {
        TimeDelta::days(self.warn_after_days)
    }

    /// From the last sign-in to the deactivation.
    pub fn until_deactivation(&self) -> TimeDelta {
        TimeDelta::days(self.deactivate_after_days)
    }

    /// From the warning to the deactivation.
    pub fn grace(&self) -> TimeDelta {
        TimeDelta::days(self.deactivate_after_days - self.warn_after_days)
    }

    /// Every fault of the numbers.
    pub fn violations(&self, field: &str) -> Vec<FieldViolation> {
        let mut violations = Vec::new();
        let mut add = |part: &str, text: &str| violations.push(FieldViolation::new(format!("{field}.{part}"), text));
        if !(0..MAX_DAYS).contains(&self.warn_after_days) {
            add("warn_after_days", "must be 1 to 3,649, or 0 for no policy");
        }
        let days = self.warn_after_days + 1..=MAX_DAYS;
        if self.is_on() && !days.contains(&self.deactivate_after_days) {
            add(
                "deactivate_after_days",
                "must be more than warn_after_days, and at most 3,650",
            );
        }
        if !(1..=100).contains(&self.max_share_percent) {
            add("max_share_percent", "must be 1 to 100, or 0 for 10");
        }
        violations
    }

    /// Whether a warning that was given at an instant counts for somebody who has been inactive since another: with the policy
    /// being on since `on_since`, if that is known.
    pub fn holds(&self, inactive_since: Timestamp, warned_at: Timestamp, on_since: Option<Timestamp>) -> bool {
        self.is_on()
            && inactive_since + self.until_warning() <= warned_at
            && on_since.is_none_or(|since| since <= warned_at)
    }

    /// When somebody is or was to be warned and deactivated, if nothing changes and nobody parks it: inactive since an
    /// instant, and perhaps warned at another.
    pub fn schedule(&self, inactive_since: Timestamp, warned_at: Option<Timestamp>, now: Timestamp) -> Schedule {
        let warn_at = warned_at.unwrap_or_else(|| now.max(inactive_since + self.until_warning()));
        Schedule {
            warn_at,
            deactivate_at: (inactive_since + self.until_deactivation()).max(warn_at + self.grace()),
        }
    }
}

/// When somebody is warned and deactivated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The warning.
    pub warn_at: Timestamp,
    /// The end of access.
    pub deactivate_at: Timestamp,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InactivityRunState {
    /// It would touch too many: somebody has to decide.
    Parked,
    /// It is being carried out.
    Running,
    /// It was.
    Done,
    /// Somebody decided against it, or the policy was switched off.
    Dismissed,
}

impl InactivityRunState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Parked, Self::Running, Self::Done, Self::Dismissed];

    /// As in columns: `PARKED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "PARKED",
            Self::Running => "RUNNING",
            Self::Done => "DONE",
            Self::Dismissed => "DISMISSED",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// The deactivations that were due at one moment. A tenant has at most one that is parked or running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InactivityRun {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: InactivityRunId,
    /// How far it is.
    pub state: InactivityRunState,
    /// When they were due.
    pub created_at: Timestamp,
    /// It is about those who were warned until then.
    pub covers: Timestamp,
    /// The last one that was dealt with: when they were warned, and who.
    pub position: Option<(Timestamp, UserId)>,
    /// How many were due.
    pub due: i64,
    /// How many users were active.
    pub active: i64,
    /// How many were deactivated so far: each is looked at again right before.
    pub deactivated: i64,
    /// When somebody approved or dismissed it.
    pub decided_at: Option<Timestamp>,
    /// Who; empty: nobody had to.
    pub decided_by: String,
    /// When it was done or dismissed.
    pub ended_at: Option<Timestamp>,
}

impl InactivityRun {
    /// Whether it is parked or running.
    pub fn is_open(&self) -> bool {
        matches!(self.state, InactivityRunState::Parked | InactivityRunState::Running)
    }

    /// Lets a parked one go on.
    pub fn approve(&mut self, actor: &str, now: Timestamp) -> Result<(), Refusal> {
        self.decide(InactivityRunState::Running, actor, now)
    }

    /// Nobody is deactivated. Whom it is about is considered again after the time between warning and deactivation.
    pub fn dismiss(&mut self, actor: &str, now: Timestamp) -> Result<(), Refusal> {
        self.decide(InactivityRunState::Dismissed, actor, now)?;
        self.ended_at = Some(now);
        Ok(())
    }

    fn decide(&mut self, state: InactivityRunState, actor: &str, now: Timestamp) -> Result<(), Refusal> {
        if self.state != InactivityRunState::Parked {
            return Err(Refusal::InactivityRunNotParked(self.state.as_str().to_owned()));
        }
        self.state = state;
        self.decided_at = Some(now);
        actor.clone_into(&mut self.decided_by);
        Ok(())
    }
}

/// Until when those were warned whom a dismissed run spares for now; `None`: nobody is spared. `runs` are the newest ones.
pub fn spared_until(policy: &InactivityPolicy, runs: &[InactivityRun], now: Timestamp) -> Option<Timestamp> {
    let spares = |run: &&InactivityRun| {
        run.state == InactivityRunState::Dismissed && run.decided_at.is_some_and(|at| at + policy.grace() > now)
    };
    runs.iter().filter(spares).map(|run| run.covers).max()
}

/// Until when a dismissed run spares somebody who was warned at an instant; `None`: they are not spared. `runs` are the newest
/// ones.
fn spared_for(
    policy: &InactivityPolicy,
    runs: &[InactivityRun],
    warned_at: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let dismissed = runs
        .iter()
        .filter(|run| run.state == InactivityRunState::Dismissed && run.covers >= warned_at);
    let until = dismissed.filter_map(|run| Some(run.decided_at? + policy.grace()));
    until.filter(|until| *until > now).max()
}

/// When somebody who was warned is deactivated, as the newest runs stand: not before their schedule says, nor while a dismissed
/// run spares them. Also the run that is parked, where nothing but the decision about it is waited for.
pub fn deactivation<'r>(
    policy: &InactivityPolicy,
    runs: &'r [InactivityRun],
    warned_at: Timestamp,
    scheduled: Timestamp,
    now: Timestamp,
) -> (Timestamp, Option<&'r InactivityRun>) {
    let spared = spared_for(policy, runs, warned_at, now);
    let at = scheduled.max(now).max(spared.unwrap_or(now));
    let mut parked = runs.iter().filter(|run| run.state == InactivityRunState::Parked);
    (at, parked.next().filter(|_| at <= now))
}

/// The run for those who are due now: `due` of `active` users. `None` if there is nobody, or another is open. It is parked if
/// with those of the last 24 hours that nobody approved it would touch more than the stated share.
pub fn next_run(
    tenant: TenantId,
    policy: &InactivityPolicy,
    runs: &[InactivityRun],
    (due, active): (i64, i64),
    now: Timestamp,
) -> Option<InactivityRun> {
    if due == 0 || runs.iter().any(InactivityRun::is_open) {
        return None;
    }
    let today = runs
        .iter()
        .filter(|run| run.created_at > now - TimeDelta::days(1) && run.decided_at.is_none());
    let (before, gone) = today.fold((0, 0), |(before, gone), run| (before + run.due, gone + run.deactivated));
    let too_many = (before + due) * 100 > policy.max_share_percent * (active + gone);
    Some(InactivityRun {
        tenant,
        id: InactivityRunId::mint(now),
        state: if too_many {
            InactivityRunState::Parked
        } else {
            InactivityRunState::Running
        },
        created_at: now,
        covers: now - policy.grace(),
        position: None,
        due,
        active,
        deactivated: 0,
        decided_at: None,
        decided_by: String::new(),
        ended_at: None,
    })
}

#[cfg(test)]
mod tests;
