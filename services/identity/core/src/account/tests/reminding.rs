//! The reminder ladder (L14): 3, 7 and 14 days after the mail was handed over, unless something stops it.

use super::*;

/// The one mail that waits.
fn waiting(stage: &Stage) -> Delivery {
    let live = stage.live();
    assert_eq!(live.len(), 1, "{live:?}");
    live[0].clone()
}

#[test]
fn l14_each_step_of_the_ladder_is_sent_once_and_counted_from_the_invitation() {
    let mut stage = Stage::invited();
    let from = stage.now;
    for (step, after) in [(1, 3), (2, 7), (3, 14)] {
        let reminder = waiting(&stage);
        assert_eq!((reminder.kind, reminder.reminder_step), (DeliveryKind::Reminder, step));
        assert_eq!(reminder.due_at, from + days(after));
        assert_eq!(stage.begin(reminder.id), Begin::NotNeeded(NotNeeded::NotDue));
        stage.now = reminder.due_at + TimeDelta::minutes(7);
        stage.fire(reminder.id);
        assert_eq!(stage.told(), [EventType::ReminderDue]);
        assert_eq!(stage.event(EventType::ReminderDue).reminder_step, step);
        stage.send(reminder.id);
    }
    assert!(stage.live().is_empty(), "the ladder has an end");
    assert_eq!(stage.account.deliveries.len(), 4);
}

#[test]
fn l14_a_step_is_scheduled_when_the_mail_before_it_ended_and_its_timer_is_set() {
    let mut stage = Stage::queued();
    assert_eq!(stage.live().len(), 1, "only the invitation");
    let mail = stage.newest().id;
    stage.send(mail);
    let reminder = waiting(&stage);
    assert_eq!(
        stage.timer(TimerKind::Delivery, reminder.id.0),
        Some(stage.now + days(3))
    );
}

#[test]
fn l14_steps_that_were_missed_are_not_sent_one_after_the_other() {
    let mut stage = Stage::invited();
    let first = waiting(&stage);
    stage.advance(days(10));
    stage.send(first.id);
    let next = waiting(&stage);
    assert_eq!((next.reminder_step, next.due_at), (2, stage.now), "one, at once");
    stage.send(next.id);
    let last = waiting(&stage);
    assert_eq!((last.reminder_step, last.due_at), (3, stage.now + days(4)));
}

#[test]
fn l14_a_reminder_that_stays_undelivered_for_now_does_not_stop_the_ladder() {
    let mut stage = Stage::invited();
    let first = waiting(&stage);
    stage.now = first.due_at;
    stage.work(first.id, &uncertain());
    assert_eq!(waiting(&stage).reminder_step, 2);
}

#[test]
fn l14_reminders_stop_at_acceptance_cancellation_expiry_of_the_link_and_bounce() {
    type Turn = fn(&mut Stage);
    let turns: [(&str, Turn); 4] = [
        ("accepted", |stage| stage.accept(stage.token()).unwrap()),
        ("cancelled", |stage| _ = stage.cancel().unwrap()),
        ("lapsed", |stage| {
            stage.advance(days(30));
            _ = stage.move_to("ana@example.net");
        }),
        ("bounced", |stage| {
            let reminder = waiting(stage);
            stage.now = reminder.due_at;
            stage.work(reminder.id, &hard_bounce());
        }),
    ];
    for (name, turn) in turns {
        let mut stage = Stage::invited();
        let reminder = waiting(&stage).id;
        turn(&mut stage);
        assert!(stage.live().is_empty(), "{name}");
        assert_eq!(stage.begin(reminder), Begin::NotNeeded(NotNeeded::Ended), "{name}");
    }
}

#[test]
fn l14_reminders_stop_at_deactivation() {
    let mut stage = Stage::invited();
    let reminder = waiting(&stage);
    stage.deactivate().unwrap();
    stage.now = reminder.due_at;
    stage.fire(reminder.id);
    assert_eq!(stage.told(), [EventType::DeliveryCancelled]);
    assert!(stage.live().is_empty());
}

#[test]
fn l14_reminders_stop_at_expiry() {
    let mut stage = Stage::invited();
    let reminder = waiting(&stage);
    stage.set_expiration(Some(days(1))).unwrap();
    stage.now = reminder.due_at;
    assert_eq!(stage.begin(reminder.id), Begin::NotNeeded(NotNeeded::Cancelled));
    assert_eq!(stage.told(), [EventType::UserExpired, EventType::DeliveryCancelled]);
}

#[test]
fn l14_a_step_dropped_while_deactivated_is_sent_after_the_reactivation_once() {
    let mut stage = Stage::invited();
    let first = waiting(&stage);
    stage.deactivate().unwrap();
    stage.now = first.due_at;
    stage.fire(first.id);
    stage.advance(days(1));
    stage.reactivate().unwrap();
    let again = waiting(&stage);
    assert_eq!((again.reminder_step, again.due_at), (1, stage.now));
    stage.send(again.id);
    assert_eq!(waiting(&stage).reminder_step, 2);
}

#[test]
fn l14_a_step_that_still_waits_is_kept_through_a_short_deactivation() {
    let mut stage = Stage::invited();
    let first = waiting(&stage);
    stage.deactivate().unwrap();
    stage.advance(days(1));
    stage.reactivate().unwrap();
    assert_eq!(waiting(&stage), first);
}

#[test]
fn l14_a_step_that_would_come_after_the_links_end_is_left_out() {
    let mut stage = Stage::pending();
    let mut tenant = (*stage.account.tenant).clone();
    tenant.settings.invitation_lifetime_seconds = 5 * 24 * 3600;
    stage.account.tenant = Arc::new(tenant);
    stage.invite().unwrap();
    let mail = stage.newest().id;
    stage.send(mail);
    let only = waiting(&stage);
    stage.now = only.due_at;
    stage.send(only.id);
    assert!(stage.live().is_empty());
}

#[test]
fn l14_a_tenant_without_a_ladder_sends_no_reminder() {
    let mut stage = Stage::pending();
    let mut tenant = (*stage.account.tenant).clone();
    tenant.settings.reminder_ladder_seconds.clear();
    stage.account.tenant = Arc::new(tenant);
    stage.invite().unwrap();
    let mail = stage.newest().id;
    stage.send(mail);
    assert!(stage.live().is_empty());
}

#[test]
fn l14_a_former_link_still_on_its_way_does_not_stop_the_ladder_of_the_new_one() {
    let mut stage = Stage::queued();
    let former = stage.newest().id;
    let claim = stage.begin_transmission(former);
    stage.resend().unwrap();
    let mail = stage.newest().id;
    stage.send(mail);
    stage.finish(former, claim, &sent()).unwrap();
    let reminder = waiting(&stage);
    assert_eq!((reminder.generation, reminder.reminder_step), (2, 1));
}
