//! What has to hold of everybody's year.

use std::collections::HashSet;

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Timelike as _};
use usher_core::account::WARNING_PERIOD;
use usher_core::clock::Timestamp;
use usher_core::event::EventType;
use usher_core::status::StatusName;
use usher_proto::identity::v1::{DeliveryKind, DeliveryState};

use super::dossier::{Dossier, Mail};
use super::people::Order;

/// How often a tenant is looked at for inactivity.
const INACTIVITY_PERIOD: TimeDelta = TimeDelta::hours(1);
/// After what time a run that was parked has been approved.
const APPROVAL: TimeDelta = TimeDelta::days(3);

/// All of them, of one person.
pub(super) fn check(dossier: &Dossier<'_>) -> Result<()> {
    mails_were_sent_as_the_ledger_says(dossier).context("mails were sent as the ledger says")?;
    nobody_gets_mail_at_night(dossier).context("B8: nobody gets mail at night")?;
    nobody_gets_more_than_the_cap(dossier).context("B8: nobody gets more than the cap")?;
    nobody_gets_mail_in_a_pause(dossier).context("B15: nobody gets mail in a pause")?;
    nobody_gets_mail_after_leaving(dossier).context("L14: nobody gets mail after leaving")?;
    nobody_gets_two_mails_for_one_step(dossier).context("nobody gets two mails for one step")?;
    expirations_happen_once_and_on_time(dossier).context("S5: expirations happen once and on time")?;
    warnings_happen_once_and_on_time(dossier).context("B9: warnings happen once and on time")?;
    the_inactive_are_warned_once(dossier).context("B10: the inactive are warned once")?;
    the_inactive_are_deactivated_once(dossier).context("B10: the inactive are deactivated once")?;
    deletions_happen_once_and_on_time(dossier).context("S12, U10: deletions happen once and on time")
}

fn is_automatic(mail: &Mail) -> bool {
    matches!(
        mail.kind,
        DeliveryKind::Reminder
            | DeliveryKind::ExpiryWarning
            | DeliveryKind::ExpiryWarningToAdministrators
            | DeliveryKind::InactivityWarning
    )
}

fn mails_were_sent_as_the_ledger_says(dossier: &Dossier<'_>) -> Result<()> {
    let mut seen = HashSet::new();
    for (posted, mail) in &dossier.posted {
        let mail = &dossier.mails[*mail];
        ensure!(seen.insert(&posted.message_id), "{mail:?} was handed over twice");
        let state = if posted.uncertain {
            DeliveryState::Uncertain
        } else {
            DeliveryState::Sent
        };
        // A mail that comes back had been sent, whether it was known or not (L13).
        let returned = dossier.of(EventType::DeliveryBounced);
        let mut returned = returned.chain(dossier.of(EventType::DeliveryComplained));
        let is_settled =
            posted.uncertain && mail.state == DeliveryState::Sent && returned.any(|event| Some(event.at) == mail.ended);
        ensure!(is_settled || mail.state == state, "{posted:?} is {mail:?}");
        ensure!(
            is_settled || mail.ended == Some(posted.at),
            "{posted:?} ended at another time: {mail:?}"
        );
        ensure!(
            !posted.to_the_dead,
            "L13: {mail:?} went to an address that was known to be dead"
        );
    }
    for mail in &dossier.mails {
        let went = matches!(mail.state, DeliveryState::Sent | DeliveryState::Uncertain);
        ensure!(
            went == seen.contains(&mail.message_id),
            "of {mail:?} the mail server knows otherwise"
        );
        let waits = matches!(mail.state, DeliveryState::Claimed | DeliveryState::Transmitting);
        ensure!(!waits, "{mail:?} has not ended");
    }
    Ok(())
}

fn nobody_gets_mail_at_night(dossier: &Dossier<'_>) -> Result<()> {
    let Some((start, end)) = dossier.rules.quiet else {
        return Ok(());
    };
    for (posted, mail) in &dossier.posted {
        let mail = &dossier.mails[*mail];
        let local = posted.at.with_timezone(&dossier.person.zone);
        let minute = local.hour() * 60 + local.minute();
        let quiet = if start < end {
            (start..end).contains(&minute)
        } else {
            minute >= start || minute < end
        };
        ensure!(!quiet || !is_automatic(mail), "{mail:?} was sent at {local}");
    }
    Ok(())
}

fn nobody_gets_more_than_the_cap(dossier: &Dossier<'_>) -> Result<()> {
    if dossier.rules.cap == 0 {
        return Ok(());
    }
    let day = |at: Timestamp| at.with_timezone(&dossier.person.zone).date_naive();
    for (index, (posted, mail)) in dossier.posted.iter().enumerate() {
        let mail = &dossier.mails[*mail];
        let before = dossier.posted[..index].iter();
        let before = before.filter(|(other, _)| day(other.at) == day(posted.at)).count();
        let allowed = !is_automatic(mail) || before < dossier.rules.cap;
        ensure!(allowed, "{mail:?} is number {} of the day of {}", before + 1, posted.at);
    }
    Ok(())
}

fn nobody_gets_mail_in_a_pause(dossier: &Dossier<'_>) -> Result<()> {
    let Some((from, to)) = dossier.rules.pause else {
        return Ok(());
    };
    let (Some(from), Some(to)) = (dossier.tick(from), dossier.tick(to)) else {
        return Ok(());
    };
    for (posted, mail) in &dossier.posted {
        let mail = &dossier.mails[*mail];
        ensure!(
            posted.at < from || posted.at >= to,
            "{mail:?} was sent at {}",
            posted.at
        );
    }
    // Nothing is lost either.
    let long_ago = dossier.end() - TimeDelta::days(10);
    for mail in &dossier.mails {
        let waits = matches!(mail.state, DeliveryState::Queued | DeliveryState::Deferred);
        let is_late = waits && to < long_ago && mail.created < from && mail.kind != DeliveryKind::Reminder;
        ensure!(
            !is_late || mail.kind == DeliveryKind::AccountCreated,
            "{mail:?} waits still"
        );
    }
    Ok(())
}

fn nobody_gets_mail_after_leaving(dossier: &Dossier<'_>) -> Result<()> {
    for (posted, mail) in &dossier.posted {
        let mail = &dossier.mails[*mail];
        let wanted = |status: &StatusName| match mail.kind {
            DeliveryKind::Invitation | DeliveryKind::Reminder | DeliveryKind::FreshLink => {
                matches!(status, StatusName::Pending | StatusName::Invited)
            }
            _ => *status == StatusName::Active,
        };
        let statuses = dossier.statuses_at(posted.at);
        ensure!(
            statuses.iter().any(wanted),
            "{mail:?} was sent at {} to {statuses:?}",
            posted.at
        );
        let expired = dossier.expiration_at(posted.at).is_some_and(|(at, _)| at <= posted.at);
        ensure!(!expired, "{mail:?} was sent at {}, after the expiration", posted.at);
    }
    Ok(())
}

fn nobody_gets_two_mails_for_one_step(dossier: &Dossier<'_>) -> Result<()> {
    let mut steps = HashSet::new();
    for (posted, mail) in &dossier.posted {
        let mail = &dossier.mails[*mail];
        let what = match mail.kind {
            DeliveryKind::ExpiryWarning => {
                let expiration = dossier.expiration_at(mail.created).context("nothing to warn of")?;
                format!("{expiration:?}")
            }
            DeliveryKind::InactivityWarning => format!("{:?}", dossier.inactive_since(mail.created)),
            // B9: all of a day in one.
            DeliveryKind::ExpiryWarningToAdministrators => {
                ensure!(dossier.person.is_administrator, "{mail:?} to somebody who is none");
                posted.at.with_timezone(&dossier.person.zone).date_naive().to_string()
            }
            _ => format!("{:?}", mail.link),
        };
        ensure!(steps.insert((mail.kind, mail.step, what)), "{mail:?} comes again");
    }
    Ok(())
}

fn expirations_happen_once_and_on_time(dossier: &Dossier<'_>) -> Result<()> {
    let mut told: Vec<Timestamp> = dossier.of(EventType::UserExpired).map(|event| event.at).collect();
    for (at, _, until) in dossier.expirations() {
        let Some(tick) = dossier.tick(at) else { continue };
        let erased = dossier.erased();
        if until < at || erased.is_some_and(|erased| erased < at) {
            continue;
        }
        match told.iter().position(|told| *told == tick) {
            Some(index) => _ = told.remove(index),
            None => ensure!(erased == Some(tick), "{at} passed, and nobody told so at {tick}"),
        }
    }
    ensure!(told.is_empty(), "expired at {told:?} for no reason");
    Ok(())
}

fn warnings_happen_once_and_on_time(dossier: &Dossier<'_>) -> Result<()> {
    let warnings = &dossier.rules.warnings;
    let is_warning = |mail: &&Mail| mail.kind == DeliveryKind::ExpiryWarning;
    let ahead = |step: i32| warnings.get(usize::try_from(step - 1).unwrap_or(usize::MAX)).copied();
    let mut given = HashSet::new();
    for mail in dossier.mails.iter().filter(is_warning) {
        let (at, since) = dossier.expiration_at(mail.created).context("no expiration")?;
        let ahead = ahead(mail.step).context("no such step")?;
        ensure!(mail.created >= at - ahead && mail.created < at, "{mail:?} of {at}");
        ensure!(given.insert((since, mail.step)), "{mail:?} of {at} is given twice");
    }
    for (at, since, until) in dossier.expirations() {
        for step in 1..=i32::try_from(warnings.len())? {
            let due = at - ahead(step).context("a step")?;
            let Some(by) = dossier.noticed(due, WARNING_PERIOD) else {
                continue;
            };
            // Where the next step is due as well, only that one is given.
            let next = ahead(step + 1).map_or(at, |ahead| at - ahead);
            let expected = since <= due && by < until && by < next && dossier.is_active_through(due, by);
            ensure!(!expected || given.contains(&(since, step)), "no warning {step} of {at}");
        }
    }
    Ok(())
}

fn the_inactive_are_warned_once(dossier: &Dossier<'_>) -> Result<()> {
    let wait = dossier.rules.warn_after;
    let mut warned = HashSet::new();
    for event in dossier.of(EventType::UserInactivityWarned) {
        ensure!(!dossier.person.is_administrator, "administrators are exempt");
        let since = dossier.inactive_since(event.at).context("never active")?;
        ensure!(since + wait <= event.at, "warned at {} for {since}", event.at);
        ensure!(warned.insert(since), "warned twice for {since}");
    }
    // Whoever was active for so long without a sign-in had to be warned.
    let begins = dossier
        .events
        .iter()
        .filter(|event| event.to == Some(StatusName::Active));
    let begins = begins
        .map(|event| event.at)
        .chain(dossier.person.orders.iter().filter_map(|order| match order.1 {
            Order::SignedIn(at) => Some(at),
            _ => None,
        }));
    for begin in begins {
        let Some(by) = dossier.noticed(begin + wait, INACTIVITY_PERIOD) else {
            continue;
        };
        let is_it = dossier.inactive_since(by) == Some(begin) && dossier.is_active_through(begin + wait, by);
        let missing = is_it && !dossier.person.is_administrator && !warned.contains(&begin);
        ensure!(!missing, "inactive since {begin}, and not warned by {by}");
    }
    Ok(())
}

fn the_inactive_are_deactivated_once(dossier: &Dossier<'_>) -> Result<()> {
    let (wait, grace) = (dossier.rules.warn_after, dossier.rules.grace);
    let warned: Vec<Timestamp> = dossier
        .of(EventType::UserInactivityWarned)
        .map(|event| event.at)
        .collect();
    // When the mail of a warning went out; one that never did counts from its queueing.
    let given = |warned: Timestamp| {
        let mails = dossier.posted.iter().filter(|(_, mail)| {
            let mail = &dossier.mails[*mail];
            mail.kind == DeliveryKind::InactivityWarning && mail.created == warned
        });
        mails.map(|(posted, _)| posted.at).max().unwrap_or(warned)
    };
    let mut done = HashSet::new();
    let deeds = dossier
        .of(EventType::UserDeactivated)
        .filter(|event| event.reason == "inactivity");
    for event in deeds {
        let warned = warned
            .iter()
            .filter(|warned| **warned < event.at)
            .max()
            .context("without a warning")?;
        let since = dossier.inactive_since(event.at).context("never active")?;
        ensure!(since + wait <= *warned, "the warning of {warned} was not for {since}");
        let given = given(*warned);
        ensure!(
            given + grace <= event.at,
            "the warning of {warned} went out at {given}, deactivated at {}",
            event.at
        );
        ensure!(done.insert(*warned), "twice for the warning of {warned}");
    }
    for warned in warned {
        let mail = dossier.mails.iter();
        let mail = mail.filter(|mail| mail.kind == DeliveryKind::InactivityWarning && mail.created == warned);
        let Some(ended) = mail.filter_map(|mail| mail.ended).max() else {
            continue;
        };
        let due = ended.max(given(warned) + grace) + APPROVAL;
        let Some(by) = dossier.noticed(due, INACTIVITY_PERIOD) else {
            continue;
        };
        let stays = dossier.is_active_through(warned, by);
        let back = dossier.inactive_since(by).is_none_or(|since| since + wait > warned);
        ensure!(!stays || back, "warned at {warned}, and active still at {by}");
    }
    Ok(())
}

fn deletions_happen_once_and_on_time(dossier: &Dossier<'_>) -> Result<()> {
    let erased: Vec<Timestamp> = dossier.of(EventType::UserErased).map(|event| event.at).collect();
    ensure!(erased.len() <= 1, "erased at {erased:?}");
    let certified = dossier.of(EventType::ErasureCompleted).count();
    ensure!(certified == erased.len(), "{certified} certificates");
    let (mut asked, mut date) = (None, None);
    let mut causes = Vec::new();
    for (given, order) in &dossier.person.orders {
        // Orders are carried out before what is due at the same instant: until the deed, it can be called off.
        let is_past = |due: &Timestamp| dossier.tick(*due).is_some_and(|tick| tick < *given);
        causes.extend([asked, date].into_iter().flatten().filter(is_past));
        match order {
            Order::ErasureAsked(due) => asked = Some(*due),
            Order::ErasureCancelled => asked = None,
            Order::Deletes(at) => date = Some(*at),
            Order::Expires(_) | Order::SignedIn(_) => {}
        }
    }
    causes.extend([asked, date].into_iter().flatten());
    let due = causes.into_iter().min().and_then(|due| dossier.tick(due));
    ensure!(erased.first().copied() == due, "due at {due:?}, erased at {erased:?}");
    Ok(())
}
