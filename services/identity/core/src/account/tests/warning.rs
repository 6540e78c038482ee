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
    let next = stage.account.next_steps(stage.now);
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
