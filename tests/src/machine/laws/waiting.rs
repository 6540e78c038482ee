//! Nothing is forgotten: whatever waits has a timer that fires in time, and whoever waits for a mail will get one.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use usher_core::clock::Timestamp;
use usher_core::delivery::{Delivery, DeliveryKind, DeliveryState};
use usher_core::invitation::next_reminder;
use usher_core::status::{Onboarding, Status};
use usher_core::timer::{TimerKey, TimerKind, refire_pause};

use super::{Law, law};
use crate::machine::memory::Memory;

/// Exactly what waits has a timer. It fires within a minute of its moment, and then again and again.
pub(super) fn check_timers(memory: &Memory, now: Timestamp) -> Law {
    let mut waiting = BTreeMap::new();
    for delivery in memory.deliveries.iter().filter(|mail| mail.state.name().is_live()) {
        let key = TimerKey {
            tenant: delivery.tenant,
            kind: TimerKind::Delivery,
            subject: delivery.id.0,
        };
        waiting.insert(key, moment(delivery, memory));
    }
    for invitation in memory
        .invitations
        .iter()
        .filter(|invitation| invitation.state.is_open())
    {
        let key = TimerKey {
            tenant: invitation.tenant,
            kind: TimerKind::Lapse,
            subject: invitation.id.0,
        };
        waiting.insert(key, invitation.lapses_at);
    }
    for user in memory.users.values() {
        if let (Some(at), Some(_)) = (user.expires_at, user.status.expired()) {
            let key = TimerKey {
                tenant: user.tenant,
                kind: TimerKind::Expiration,
                subject: user.id.0,
            };
            waiting.insert(key, at);
        }
    }
    for (key, moment) in &waiting {
        let timer = memory.timers.get(key);
        let timer = timer.ok_or_else(|| format!("{:?} {} has no timer", key.kind, key.subject))?;
        let latest = match timer.fired {
            0 => now.max(*moment) + TimeDelta::minutes(1),
            fired => now + refire_pause(fired - 1),
        };
        law(timer.due_at <= latest, || {
            format!("{:?} waits for {moment}, its timer for {}", key.kind, timer.due_at)
        })?;
    }
    let idle = memory.timers.keys().find(|key| !waiting.contains_key(key));
    law(idle.is_none(), || format!("nothing waits for the timer {idle:?}"))
}

fn moment(mail: &Delivery, memory: &Memory) -> Timestamp {
    let user = mail.user.and_then(|user| memory.users.get(&(mail.tenant, user)));
    let shut = user.is_some_and(|user| !matches!(user.status, Status::Onboarding(_)));
    match &mail.state {
        DeliveryState::Claimed(claim) | DeliveryState::Transmitting(claim) => claim.lease_until,
        // Held until the account is open again.
        _ if shut && mail.kind == DeliveryKind::AccountCreated => mail.due_at.max(mail.give_up_at),
        _ => mail.due_at,
    }
}

/// Who has an open invitation and may use it will get a mail with its newest link, or has got the last of its ladder.
pub(super) fn check_nothing_forgotten(memory: &Memory, now: Timestamp) -> Law {
    for user in memory.users.values() {
        let Status::Onboarding(Onboarding::Pending | Onboarding::Invited) = user.effective_status(now) else {
            continue;
        };
        let newest = memory.invitations_of(user.id).last();
        let Some(invitation) = newest.filter(|invitation| invitation.is_open(now)) else {
            continue;
        };
        let under_way = memory.deliveries.iter().any(|mail| {
            mail.invitation == Some(invitation.id)
                && mail.generation == invitation.generation
                && mail.email == user.profile.email
                && mail.state.name().is_live()
        });
        let ladder = &memory.tenants[&user.tenant].settings.reminder_ladder_seconds;
        let at_the_end = invitation
            .ladder_from
            .is_some_and(|from| next_reminder(ladder, invitation.last_step, from, invitation.lapses_at, now).is_none());
        law(under_way || at_the_end, || {
            format!("nothing will ever be sent for the open {invitation:?}")
        })?;
    }
    Ok(())
}
