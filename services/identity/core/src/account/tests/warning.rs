//! Warnings ahead of the expiration (B9).

use super::*;
use crate::account::NextAction;
use crate::pacing::QuietHours;

/// Active for the next 40 days; warned 30 and 7 days ahead.
fn stage() -> Stage {
    let mut stage = Stage::created(Some(Credential::Password("$argon2id$given".into())), Some(days(40)));
    let mut tenant = (*stage.account.tenant).clone();
    tenant.settings.expiry_warning_seconds = vec![30 * 86_400, 7 * 86_400];
    stage.account.tenant = Arc::new(tenant);
    let created = stage.newest().id;
    stage.send(created);
    stage
}

fn warn(stage: &mut Stage) -> Effect {
    stage
        .decide(|account, act, changes| Ok(account.warn_of_expiry(act, changes)))
        .unwrap()
}

#[test]
fn b9_each_warning_is_queued_once_and_never_early() {
    let mut stage = stage();
    let (version, from) = (stage.account.user.version, stage.now);
    assert_eq!(warn(&mut stage), Effect::Unchanged);
    let next = stage.account.next_steps(&[], stage.now);
    assert_eq!(
        (next[0].action, next[0].at),
        (NextAction::SendExpiryWarning, from + days(10))
    );
    for (after, step) in [(10, 1), (33, 2)] {
        stage.now = from + days(after);
        assert_eq!(warn(&mut stage), Effect::Changed);
        let mail = stage.newest().clone();
        assert_eq!((mail.kind, mail.reminder_step), (DeliveryKind::ExpiryWarning, step));
        assert_eq!(stage.told(), [EventType::ReminderDue]);
        assert_eq!(warn(&mut stage), Effect::Unchanged);
        stage.send(mail.id);
    }
    assert_eq!(
        stage.account.user.version, version,
        "a warning is no change of the account"
    );
    stage.now = from + days(40);
    assert_eq!(
        (warn(&mut stage), stage.status()),
        (Effect::Unchanged, StatusName::Expired)
    );
}

#[test]
fn b9_warnings_that_were_missed_are_one_and_a_moved_expiration_begins_anew() {
    let mut stage = stage();
    stage.advance(days(35));
    assert_eq!(warn(&mut stage), Effect::Changed);
    let mail = stage.newest().clone();
    assert_eq!(mail.reminder_step, 2);
    // Before it goes out the date is moved: what it says is no longer so.
    stage.set_expiration(Some(days(60))).unwrap();
    assert_eq!(stage.begin(mail.id), Begin::NotNeeded(NotNeeded::Cancelled));
    assert_eq!(warn(&mut stage), Effect::Unchanged);
    stage.advance(days(30));
    assert_eq!(warn(&mut stage), Effect::Changed);
    assert_eq!(stage.newest().reminder_step, 1);
}

#[test]
fn b9_whoever_is_not_active_is_not_warned() {
    let mut stage = stage();
    stage.deactivate().unwrap();
    stage.advance(days(20));
    assert_eq!(warn(&mut stage), Effect::Unchanged);
    stage.reactivate().unwrap();
    assert_eq!(warn(&mut stage), Effect::Changed, "it is late, but not lost");
    let mail = stage.newest().id;
    stage.deactivate().unwrap();
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Cancelled));
}

#[test]
fn b9_b8_warnings_keep_to_quiet_hours() {
    let mut stage = stage();
    let mut tenant = (*stage.account.tenant).clone();
    tenant.settings.quiet_hours = QuietHours::parse("00:00", "23:00");
    stage.account.tenant = Arc::new(tenant);
    stage.advance(days(10));
    warn(&mut stage);
    let mail = stage.newest().clone();
    assert!(mail.due_at > stage.now);
    assert_eq!(stage.begin(mail.id), Begin::NotNeeded(NotNeeded::NotDue));
    stage.now = mail.due_at;
    stage.send(mail.id);
}

fn tell(stage: &mut Stage) -> Effect {
    stage
        .decide(|account, act, changes| Ok(account.tell_of_expiries(act, changes)))
        .unwrap()
}

#[test]
fn b9_a_mail_to_an_administrator_that_waits_is_joined_and_one_that_a_worker_has_is_not() {
    let mut stage = stage();
    let from = stage.now;
    assert_eq!(
        (tell(&mut stage), tell(&mut stage)),
        (Effect::Changed, Effect::Unchanged)
    );
    let first = stage.newest().clone();
    assert_eq!(
        (first.kind, first.created_at, first.due_at),
        (
            DeliveryKind::ExpiryWarningToAdministrators,
            from,
            from + crate::account::WARNING_PERIOD
        )
    );
    let next = stage.account.next_steps(&[], stage.now);
    assert_eq!(
        (next[0].action, next[0].at),
        (NextAction::SendExpiryWarningToAdministrators, first.due_at)
    );
    stage.now = first.due_at;
    assert!(matches!(stage.begin(first.id), Begin::Claimed(_)));
    assert_eq!(tell(&mut stage), Effect::Changed);
    let second = stage.newest().clone();
    assert_eq!((second.created_at, second.id != first.id), (stage.now, true));
    // The first is under way, then was sent: the second is for the next day.
    stage.now = second.due_at;
    assert_eq!(stage.begin(second.id), Begin::NotNeeded(NotNeeded::NotDue));
    let tomorrow = crate::pacing::next_day(stage.now, chrono_tz::Tz::UTC);
    assert_eq!(stage.mail(second.id).due_at, tomorrow);
    stage.account.deliveries.retain(|mail| mail.id != first.id);
    stage.account.mailed_at = vec![(first.due_at, first.kind), (tomorrow, DeliveryKind::Reminder)];
    stage.now = tomorrow - TimeDelta::seconds(1);
    stage.fire(second.id);
    assert_eq!(stage.mail(second.id).due_at, tomorrow);
    stage.now = tomorrow;
    assert!(matches!(stage.begin(second.id), Begin::Claimed(_)));
}

#[test]
fn b9_only_active_administrators_are_told_and_only_where_the_tenant_wants_it() {
    let with = |change: fn(&mut Stage)| {
        let mut stage = stage();
        change(&mut stage);
        tell(&mut stage)
    };
    let settings = |stage: &mut Stage, change: fn(&mut crate::tenant::Settings)| {
        change(&mut Arc::make_mut(&mut stage.account.tenant).settings);
    };
    assert_eq!(with(|stage| stage.account.suppressed = true), Effect::Unchanged);
    assert_eq!(
        with(|stage| stage.account.user.status = Status::PENDING),
        Effect::Unchanged
    );
    assert_eq!(with(|stage| stage.now += days(41)), Effect::Unchanged);

    let mut off = stage();
    tell(&mut off);
    let mail = off.newest().id;
    settings(&mut off, |settings| settings.expiry_warnings_to_administrators = false);
    assert_eq!(tell(&mut off), Effect::Unchanged);
    off.advance(days(1));
    assert_eq!(off.begin(mail), Begin::NotNeeded(NotNeeded::Cancelled));
}

#[test]
fn b9_a_mail_with_nothing_to_say_ends_for_its_claim_only() {
    let mut stage = stage();
    tell(&mut stage);
    let mail = stage.newest().id;
    stage.advance(days(1));
    let Begin::Claimed(claim) = stage.begin(mail) else {
        panic!("not claimed");
    };
    let other = crate::ids::ClaimId::mint(stage.now);
    for (claim, state) in [
        (other, DeliveryStateName::Claimed),
        (claim.id, DeliveryStateName::Cancelled),
    ] {
        stage
            .decide(|account, act, changes| {
                account.withdraw_delivery(mail, claim, act, changes);
                Ok(())
            })
            .unwrap();
        assert_eq!(stage.state(mail), state);
    }
    assert_eq!(stage.told(), [EventType::DeliveryCancelled]);
}
