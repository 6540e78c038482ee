//! What comes back after a mail server took a mail (L13).

use super::*;
use crate::account::Heard;
use crate::bounce::{Bounce, BounceKind};
use crate::invitation::InvitationState;

fn came_back(kind: BounceKind) -> Bounce {
    Bounce {
        kind,
        status: String::new(),
        diagnostic: "no such user".into(),
        at: None,
    }
}

impl Stage {
    fn bounce(&mut self, id: DeliveryId, kind: BounceKind) -> Heard {
        let act = act(self.now);
        self.changes = Changeset::default();
        self.account.bounce(id, &came_back(kind), &act, &mut self.changes)
    }

    /// The mail that went out, as a report loads it: also after its end.
    fn went_out() -> (Self, DeliveryId) {
        let mut stage = Self::queued();
        let mail = stage.newest().id;
        stage.send(mail);
        stage.advance(TimeDelta::hours(1));
        (stage, mail)
    }
}

#[test]
fn l13_a_hard_bounce_suppresses_the_address_and_ends_the_invitation_and_its_reminders() {
    let (mut stage, mail) = Stage::went_out();
    assert_eq!(stage.bounce(mail, BounceKind::Hard), Heard::Suppressed);
    assert_eq!(stage.invitation().state, InvitationState::Undeliverable);
    assert_eq!(stage.status(), StatusName::Invited, "it was handed over (S2)");
    assert!(stage.account.suppressed && stage.changes.suppressed.len() == 1);
    let live = |delivery: &Delivery| delivery.state.name().is_live();
    assert!(!stage.account.deliveries.iter().any(live), "L14: no reminder waits");
    assert_eq!(
        stage.told(),
        [
            EventType::DeliveryBounced,
            EventType::InvitationUndeliverable,
            EventType::DeliveryCancelled
        ]
    );
    assert!(stage.invite().is_err());
}

#[test]
fn l13_a_repeated_report_changes_nothing_even_after_the_suppression_was_lifted() {
    let (mut stage, mail) = Stage::went_out();
    stage.bounce(mail, BounceKind::Hard);
    let act = act(stage.now);
    stage.account.lift_suppression(&act, &mut Changeset::default());
    assert_eq!(stage.bounce(mail, BounceKind::Hard), Heard::Repeated);
    assert!(stage.changes.is_empty() && !stage.account.suppressed);
}

#[test]
fn l13_a_soft_bounce_is_only_written_down() {
    let (mut stage, mail) = Stage::went_out();
    for _ in 0..3 {
        assert_eq!(stage.bounce(mail, BounceKind::Soft), Heard::Recorded);
        assert!(stage.changes.suppressed.is_empty() && stage.changes.events.is_empty());
        let entries: Vec<_> = stage.changes.attempts.values().collect();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].outcome, Some(Outcome::SoftBounced));
    }
    assert!(!stage.account.suppressed && stage.invitation().state == InvitationState::Sent);
}

#[test]
fn l13_a_complaint_suppresses_whatever_the_state_and_leaves_the_invitation_alone() {
    let (mut stage, mail) = Stage::went_out();
    let status = stage.status();
    assert_eq!(stage.bounce(mail, BounceKind::Complaint), Heard::Suppressed);
    assert_eq!(stage.told(), [EventType::DeliveryComplained]);
    assert!(stage.account.suppressed);
    assert_eq!(
        (stage.status(), stage.invitation().state),
        (status, InvitationState::Sent)
    );
    assert_eq!(stage.bounce(mail, BounceKind::Hard), Heard::Repeated);
}

#[test]
fn l13_a_bounce_from_an_address_that_was_given_up_suppresses_that_one_only() {
    let (mut stage, mail) = Stage::went_out();
    stage.account.user.profile.email = address("new@example.org");
    assert_eq!(stage.bounce(mail, BounceKind::Hard), Heard::Suppressed);
    assert!(!stage.account.suppressed);
    let suppressed: Vec<_> = stage.changes.suppressed.keys().map(|(_, key)| key.as_str()).collect();
    assert_eq!(suppressed, [ADDRESS]);
}

#[test]
fn l13_what_was_never_tried_cannot_come_back() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    assert_eq!(stage.bounce(mail, BounceKind::Hard), Heard::NeverSent);
    let unknown = DeliveryId::mint(stage.now);
    assert_eq!(stage.bounce(unknown, BounceKind::Complaint), Heard::NeverSent);
    assert!(stage.changes.is_empty());
}

#[test]
fn b12_an_uncertain_mail_that_came_back_went_out() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.work(mail, &uncertain());
    assert_eq!(stage.bounce(mail, BounceKind::Hard), Heard::Suppressed);
    assert_eq!(stage.status(), StatusName::Invited);
    assert_eq!(stage.invitation().state, InvitationState::Undeliverable);
    let delivery = stage.changes.deliveries.values().find(|d| d.id == mail).unwrap();
    assert_eq!(delivery.state.name(), DeliveryStateName::Sent);
}

#[test]
fn b6_mail_to_an_address_that_gets_none_does_not_come_next() {
    let mut stage = Stage::invited();
    let mails = |stage: &Stage| {
        let steps = stage.account.next_steps(&[], stage.now).into_iter();
        steps.filter(|step| step.action == NextAction::SendReminder).count()
    };
    assert_eq!(mails(&stage), 1);
    stage.account.suppressed = true;
    assert_eq!(mails(&stage), 0);
    let told = stage.account.summary(stage.now);
    assert!(told.ends_with("Their address gets no mail."), "{told}");
}
