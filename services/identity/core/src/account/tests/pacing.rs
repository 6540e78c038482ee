//! Mail that is held back: over night, for the next day (B8), and while the tenant's mail is paused (B15).

use super::*;
use crate::pacing::QuietHours;

/// The account's tenant with other settings.
fn arrange(stage: &mut Stage, change: impl FnOnce(&mut Settings)) {
    let mut tenant = (*stage.account.tenant).clone();
    change(&mut tenant.settings);
    stage.account.tenant = Arc::new(tenant);
}

fn pause(stage: &mut Stage) {
    let mut tenant = (*stage.account.tenant).clone();
    let mut changes = Changeset::default();
    assert!(tenant.pause_mail(&act(stage.now), &mut changes));
    assert!(!tenant.pause_mail(&act(stage.now), &mut changes), "it is paused");
    stage.account.tenant = Arc::new(tenant);
}

fn resume(stage: &mut Stage) {
    let mut tenant = (*stage.account.tenant).clone();
    let mut changes = Changeset::default();
    assert!(tenant.resume_mail(&act(stage.now), &mut changes));
    assert_eq!(changes.timers.len(), 1, "what was held is looked for");
    stage.account.tenant = Arc::new(tenant);
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A person of Paris whose first reminder is due at 02:00 in their night.
fn due_at_night() -> (Stage, DeliveryId) {
    let mut stage = Stage::queued();
    stage.account.user.profile.time_zone = "Europe/Paris".into();
    stage.now = at("2026-03-26T01:00:00Z");
    let mail = stage.newest().id;
    stage.send(mail);
    let reminder = stage.newest().id;
    assert_eq!(stage.mail(reminder).due_at, at("2026-03-29T01:00:00Z"));
    stage.now = stage.mail(reminder).due_at;
    // It was scheduled before the tenant had any.
    arrange(&mut stage, |settings| {
        settings.quiet_hours = QuietHours::parse("20:00", "08:00");
    });
    (stage, reminder)
}

#[test]
fn b8_an_invitation_goes_out_at_night_since_somebody_asks_for_it() {
    let mut stage = Stage::queued();
    arrange(&mut stage, |settings| {
        settings.quiet_hours = QuietHours::parse("00:00", "23:59");
    });
    let mail = stage.newest().id;
    stage.claim(mail);
}

#[test]
fn b8_a_reminder_that_is_due_at_night_waits_for_the_recipients_morning() {
    // In this night the clock is put forward.
    let morning = at("2026-03-29T06:00:00Z");
    let (mut stage, reminder) = due_at_night();
    assert_eq!(stage.account.next_steps(&[], stage.now)[0].at, morning);
    stage.fire(reminder);
    assert_eq!(stage.told(), [], "no worker is called");
    assert_eq!(stage.timer(TimerKind::Delivery, reminder.0), Some(morning));
    assert_eq!(stage.begin(reminder), Begin::NotNeeded(NotNeeded::NotDue));
    stage.now = morning;
    stage.fire(reminder);
    assert_eq!(stage.told(), [EventType::ReminderDue]);
    stage.send(reminder);
}

#[test]
fn b8_a_worker_that_begins_at_night_is_told_to_wait_and_uses_up_no_attempt() {
    let (mut stage, reminder) = due_at_night();
    assert_eq!(stage.begin(reminder), Begin::NotNeeded(NotNeeded::NotDue));
    assert_eq!(
        (stage.mail(reminder).attempts, stage.mail(reminder).due_at),
        (0, at("2026-03-29T06:00:00Z"))
    );
}

#[test]
fn b8_a_retry_does_not_go_out_at_night_either() {
    let (mut stage, reminder) = due_at_night();
    stage.now = at("2026-03-29T17:59:59Z");
    stage.work(reminder, &deferred());
    let retry = stage.mail(reminder).due_at;
    stage.now = retry.max(at("2026-03-29T18:00:00Z"));
    assert_eq!(stage.begin(reminder), Begin::NotNeeded(NotNeeded::NotDue));
    assert_eq!(stage.mail(reminder).due_at, at("2026-03-30T06:00:00Z"));
}

#[test]
fn b8_a_reminder_whose_link_dies_over_night_is_not_sent_at_all() {
    let (mut stage, reminder) = due_at_night();
    if let Some(invitation) = &mut stage.account.invitation {
        invitation.lapses_at = stage.now + TimeDelta::hours(2);
    }
    stage.fire(reminder);
    stage.now = at("2026-03-29T06:00:00Z");
    stage.fire(reminder);
    assert_eq!(stage.state(reminder), DeliveryStateName::Cancelled);
}

fn mails_at(instants: &[&str]) -> Vec<(Timestamp, DeliveryKind)> {
    let mails = instants.iter().map(|text| (at(text), DeliveryKind::Invitation));
    mails.collect()
}

#[test]
fn b8_who_had_as_many_mails_as_the_cap_allows_gets_the_reminder_the_next_day() {
    let (mut stage, reminder) = due_at_night();
    arrange(&mut stage, |settings| settings.daily_mail_cap = 2);
    stage.now = at("2026-03-29T10:00:00Z");
    // The day before does not count, nor does what is sent tomorrow.
    stage.account.mailed_at = mails_at(&["2026-03-28T22:59:59Z", "2026-03-29T07:00:00Z"]);
    assert!(matches!(stage.begin(reminder), Begin::Claimed(_)));

    let (mut stage, reminder) = due_at_night();
    arrange(&mut stage, |settings| settings.daily_mail_cap = 2);
    stage.now = at("2026-03-29T10:00:00Z");
    stage.account.mailed_at = mails_at(&["2026-03-28T23:00:00Z", "2026-03-29T07:00:00Z"]);
    assert_eq!(stage.begin(reminder), Begin::NotNeeded(NotNeeded::NotDue));
    assert_eq!(
        stage.mail(reminder).due_at,
        at("2026-03-30T06:00:00Z"),
        "in their morning"
    );
    arrange(&mut stage, |settings| settings.quiet_hours = None);
    stage.now = at("2026-03-29T11:00:00Z");
    assert_eq!(
        stage.account.may_go_at(stage.mail(reminder), stage.now),
        at("2026-03-29T22:00:00Z"),
        "at midnight"
    );
}

#[test]
fn b15_a_paused_tenant_sends_nothing_and_a_worker_that_has_a_mail_drops_it() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail);
    pause(&mut stage);
    assert_eq!(stage.transmit(mail, claim.id), Err(Refusal::ClaimLost));
    stage.now = claim.lease_until;
    stage.fire(mail);
    assert_eq!((stage.told(), stage.state(mail)), (vec![], DeliveryStateName::Queued));
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::NotDue));
    assert!(
        stage
            .account
            .next_steps(&[], stage.now)
            .iter()
            .all(|step| step.action != crate::account::NextAction::SendInvitation)
    );
    assert!(stage.account.summary(stage.now).contains("Mail is paused"));
}

#[test]
fn b15_what_was_held_goes_out_once_when_mail_goes_on() {
    let mut stage = Stage::pending();
    pause(&mut stage);
    stage.invite().unwrap();
    let mail = stage.newest().id;
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::NotDue));
    // Longer than links live, and than notifications are worth trying.
    for _ in 0..40 {
        stage.advance(days(1));
        stage.fire(mail);
        stage
            .decide(|account, act, changes| {
                account.on_lapse_timer(account.invitation.as_ref().expect("there is one").id, act, changes);
                Ok(())
            })
            .unwrap();
    }
    assert!(
        stage.invitation().is_open(stage.now),
        "a link that was not sent does not die"
    );
    resume(&mut stage);
    let turn = stage.now + TimeDelta::seconds(3);
    stage
        .decide(|account, _, changes| {
            account.release(mail, turn, changes);
            Ok(())
        })
        .unwrap();
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), Some(turn));
    assert_eq!(
        stage.begin(mail),
        Begin::NotNeeded(NotNeeded::NotDue),
        "not before its turn"
    );
    stage.now = turn;
    stage.send(mail);
    assert_eq!(stage.status(), StatusName::Invited);
    assert_eq!(
        stage
            .account
            .deliveries
            .iter()
            .filter(|mail| mail.state.name() == DeliveryStateName::Sent)
            .count(),
        1
    );
}

fn release(stage: &mut Stage, mail: DeliveryId, turn: Timestamp) {
    stage
        .decide(|account, _, changes| {
            account.release(mail, turn, changes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn b15_a_mail_that_was_held_waits_for_its_turn_whatever_calls_for_it_before() {
    let mut stage = Stage::pending();
    pause(&mut stage);
    stage.invite().unwrap();
    let mail = stage.newest().id;
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::NotDue));
    let look = stage.timer(TimerKind::Delivery, mail.0).unwrap();
    stage.now = look - TimeDelta::minutes(5);
    resume(&mut stage);
    let resumed = stage.now;
    stage.now = look;
    stage.fire(mail);
    assert_eq!(stage.told(), [], "no worker is called");
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::NotDue));
    release(&mut stage, mail, look + TimeDelta::seconds(1));
    stage.now = look + TimeDelta::seconds(1);
    stage.fire(mail);
    assert_eq!(stage.told(), [EventType::InvitationDue]);
    stage.send(mail);

    // Should its turn never come, it is not held for good.
    let mut stage = Stage::pending();
    pause(&mut stage);
    stage.invite().unwrap();
    let mail = stage.newest().id;
    stage.now = resumed;
    resume(&mut stage);
    stage.fire(mail);
    let by = stage.timer(TimerKind::Delivery, mail.0).unwrap();
    assert_eq!(by, resumed + days(1));
    stage.now = by;
    stage.send(mail);
}

#[test]
fn b15_what_is_queued_after_a_pause_or_was_begun_before_it_waits_for_no_turn() {
    let mut stage = Stage::pending();
    pause(&mut stage);
    stage.advance(days(1));
    resume(&mut stage);
    stage.invite().unwrap();
    let mail = stage.newest().id;
    stage.send(mail);

    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail);
    pause(&mut stage);
    stage.advance(TimeDelta::seconds(1));
    resume(&mut stage);
    stage.now = claim.lease_until;
    stage.fire(mail);
    assert_eq!(stage.told(), [EventType::InvitationDue], "its worker died");
    stage.send(mail);
}

#[test]
fn b8_b15_turns_of_the_night_keep_their_places_in_the_morning() {
    let morning = at("2026-03-29T06:00:00Z");
    let (mut stage, reminder) = due_at_night();
    pause(&mut stage);
    resume(&mut stage);
    let resumed = stage.now;
    let mut due = |after: TimeDelta| {
        release(&mut stage, reminder, resumed + after);
        assert_eq!(
            stage.timer(TimerKind::Delivery, reminder.0),
            Some(stage.mail(reminder).due_at)
        );
        stage.mail(reminder).due_at
    };
    for place in [10, 20, 3_000, 3_599_990] {
        let place = TimeDelta::milliseconds(place);
        assert_eq!(due(place), morning + place);
    }
    // However many there are, all have theirs within the hour.
    assert_eq!(
        due(TimeDelta::milliseconds(3_600_010)),
        morning + TimeDelta::milliseconds(10)
    );
    // Never into the next quiet hours, nor the next day.
    for (start, end, by) in [
        ("08:30", "08:00", morning),
        ("20:00", "23:30", at("2026-03-29T21:30:00Z")),
    ] {
        let (mut stage, reminder) = due_at_night();
        stage.now = if end == "23:30" {
            at("2026-03-29T19:00:00Z")
        } else {
            stage.now
        };
        arrange(&mut stage, |settings| {
            settings.quiet_hours = QuietHours::parse(start, end);
        });
        pause(&mut stage);
        resume(&mut stage);
        let turn = stage.now + TimeDelta::minutes(45);
        release(&mut stage, reminder, turn);
        assert_eq!(stage.mail(reminder).due_at, by);
    }
}

#[test]
fn b15_a_notification_that_was_held_for_long_is_tried_as_if_it_were_new() {
    let mut stage = Stage::active();
    pause(&mut stage);
    let mail = stage.newest().id;
    stage.advance(days(20));
    stage.fire(mail);
    assert_eq!(stage.state(mail), DeliveryStateName::Queued);
    resume(&mut stage);
    let turn = stage.now;
    stage
        .decide(|account, _, changes| {
            account.release(mail, turn, changes);
            Ok(())
        })
        .unwrap();
    stage.work(mail, &deferred());
    assert_eq!(stage.state(mail), DeliveryStateName::Deferred, "it is tried again");
}
