//! Mail that may or may not have gone out (B12): never sent again by itself.

use super::*;
use crate::invitation::InvitationState;

#[test]
fn b12_a_transmission_that_nobody_reported_the_end_of_is_uncertain_and_never_called_again() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail).id;
    let until = stage.transmit(mail, claim).unwrap();
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), Some(until));
    stage.now = until - TimeDelta::microseconds(1);
    stage.fire(mail);
    assert_eq!(stage.state(mail), DeliveryStateName::Transmitting);
    stage.now = until;
    stage.fire(mail);
    assert_eq!(stage.state(mail), DeliveryStateName::Uncertain);
    assert_eq!(stage.told(), [EventType::DeliveryUncertain]);
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), None);
    for _ in 0..5 {
        stage.advance(TimeDelta::hours(1));
        stage.fire(mail);
        assert!(stage.told().is_empty());
        assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Ended));
    }
    assert_eq!(stage.status(), StatusName::Pending);
}

#[test]
fn b12_a_worker_that_comes_after_the_lapse_finds_the_mail_uncertain() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail).id;
    stage.now = stage.transmit(mail, claim).unwrap();
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Ended));
    assert_eq!(stage.told(), [EventType::DeliveryUncertain]);
}

#[test]
fn b12_the_ladder_goes_on_after_an_uncertain_mail() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.work(mail, &uncertain());
    assert_eq!(stage.invitation().ladder_from, Some(stage.now));
    let reminder = stage.newest().clone();
    assert_eq!((reminder.kind, reminder.reminder_step), (DeliveryKind::Reminder, 1));
    assert_eq!(reminder.due_at, stage.now + days(3));
    stage.now = reminder.due_at;
    stage.send(reminder.id);
    assert_eq!(
        stage.status(),
        StatusName::Invited,
        "the reminder was handed over for sure"
    );
    assert_eq!(stage.invitation().state, InvitationState::Sent);
}

#[test]
fn b12_a_late_report_of_success_settles_an_uncertain_mail_and_no_other_report_does() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail).id;
    stage.now = stage.transmit(mail, claim).unwrap();
    stage.fire(mail);
    let reminders = stage.live().len();
    for report in [deferred(), hard_bounce(), unreachable(), uncertain()] {
        stage.finish(mail, claim, &report).unwrap();
        assert_eq!(stage.state(mail), DeliveryStateName::Uncertain);
        assert!(stage.changes.is_empty());
    }
    stage.finish(mail, claim, &sent()).unwrap();
    assert_eq!(stage.state(mail), DeliveryStateName::Sent);
    assert_eq!(stage.status(), StatusName::Invited);
    assert_eq!(stage.live().len(), reminders, "the ladder goes on as it was");
}

#[test]
fn b12_an_operator_settles_an_uncertain_mail_as_sent() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.work(mail, &uncertain());
    stage.resolve(mail, Resolution::Sent).unwrap();
    assert_eq!(stage.state(mail), DeliveryStateName::Sent);
    assert_eq!(stage.status(), StatusName::Invited);
    assert_eq!(
        stage.resolve(mail, Resolution::Sent),
        Err(Refusal::DeliveryNotUncertain("SENT".into()))
    );
    let unknown = DeliveryId::mint(stage.now);
    assert!(matches!(
        stage.resolve(unknown, Resolution::Sent),
        Err(Refusal::DeliveryNotFound(_))
    ));
}

#[test]
fn b12_an_operator_has_an_uncertain_mail_sent_again_and_the_ladder_stays_single() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.work(mail, &uncertain());
    stage.resolve(mail, Resolution::SendAgain).unwrap();
    assert_eq!(stage.state(mail), DeliveryStateName::Queued);
    assert_eq!(stage.told(), [EventType::InvitationDue]);
    assert_eq!(stage.mail(mail).ended_at, None);
    stage.send(mail);
    assert_eq!(stage.live().len(), 1, "one reminder");
}

#[test]
fn b12_a_late_report_of_success_also_settles_a_mail_that_is_about_to_be_sent_again() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail).id;
    stage.now = stage.transmit(mail, claim).unwrap();
    stage.fire(mail);
    stage.resolve(mail, Resolution::SendAgain).unwrap();
    stage.finish(mail, claim, &sent()).unwrap();
    assert_eq!(
        stage.state(mail),
        DeliveryStateName::Sent,
        "it did go out: once is enough"
    );
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), None);
}
