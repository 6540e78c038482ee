//! Erasures: asked for, approved, cancelled, done, announced, certified.

use std::collections::BTreeSet;

use super::*;
use crate::erasure::{Erasure, ErasureReason, ErasureState, Request};

fn by(actor: &str, now: Timestamp) -> Act {
    Act {
        actor: actor.into(),
        ..act(now)
    }
}

impl Stage {
    fn ask(&mut self) -> Erasure {
        let request = Request {
            reason: ErasureReason::RightToErasure,
            note: "by letter".into(),
        };
        Erasure::request(&self.account, request, &by("head", self.now), &mut self.changes).unwrap()
    }

    fn settings(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut tenant = (*self.account.tenant).clone();
        change(&mut tenant.settings);
        self.account.tenant = Arc::new(tenant);
    }

    fn erase(&mut self, erasure: &mut Erasure) -> bool {
        let act = by("usher", self.now);
        erasure.erase(&mut self.account, &act, &mut self.changes)
    }

    fn announce(&mut self, erasure: &mut Erasure, services: &[&str]) {
        let services: BTreeSet<String> = services.iter().map(ToString::to_string).collect();
        let act = by("usher", self.now);
        erasure.announce(&services, &self.account, seal, &act, &mut self.changes);
    }
}

fn seal(text: &str) -> Vec<u8> {
    vec![u8::try_from(text.len() % 251).unwrap()]
}

/// S12: nothing of the person is left, and the seat is free.
#[test]
fn s12_an_erased_account_is_a_tombstone_whose_seat_is_free() {
    let mut stage = Stage::active();
    let profile = &mut stage.account.user.profile;
    (profile.first_name, profile.last_name) = ("Ana".into(), "Núñez".into());
    let mut erasure = stage.ask();
    stage.now += TimeDelta::days(7);
    assert!(stage.erase(&mut erasure));
    let user = &stage.account.user;
    assert_eq!(user.status, Status::Erased);
    assert_eq!(
        user.profile,
        Profile::of(EmailAddress::from_stored(String::new(), String::new()))
    );
    assert_eq!(user.profile.email.as_str(), "");
    assert_eq!(user.credential, Credential::None);
    assert_eq!(stage.changes.seats.last().unwrap().change, -1);
    assert!(erasure.note.is_empty() && erasure.traces.contains(ADDRESS));
    assert!(erasure.names.contains("ana núñez") && erasure.names.contains("núñez, ana"));
    assert!(!stage.erase(&mut erasure), "done once");
    assert!(stage.account.deliveries.iter().all(|it| !it.state.name().is_live()));
    let update = ProfileUpdate::default();
    let act = act(stage.now);
    assert!(matches!(
        stage.account.update(update, &act, &mut stage.changes),
        Err(Refusal::UserErased(_))
    ));
}

/// U9: not a moment before the end of the cool-off, and not after it was cancelled.
#[test]
fn u9_nothing_is_erased_in_the_cool_off_nor_once_it_was_cancelled() {
    let mut stage = Stage::pending();
    let mut erasure = stage.ask();
    stage.now += TimeDelta::days(7) - TimeDelta::seconds(1);
    assert!(!stage.erase(&mut erasure));
    let act = by("head", stage.now);
    erasure.cancel(&stage.account, &act, &mut stage.changes).unwrap();
    stage.now += TimeDelta::days(7);
    assert!(!stage.erase(&mut erasure));
    assert_eq!(stage.account.user.status, Status::PENDING);
    let mut late = stage.ask();
    stage.now += TimeDelta::days(7);
    assert!(stage.erase(&mut late));
    assert!(matches!(
        late.cancel(&stage.account, &act, &mut stage.changes),
        Err(Refusal::ErasureTooLate(_))
    ));
}

/// U9: whoever asked does not approve.
#[test]
fn u9_the_second_approver_is_somebody_else_and_the_cool_off_begins_then() {
    let mut stage = Stage::pending();
    stage.settings(|settings| settings.erasure_second_approver = true);
    let mut erasure = stage.ask();
    assert_eq!((erasure.state, erasure.due_at), (ErasureState::AwaitingApproval, None));
    let (head, deputy) = (by("head", stage.now), by("deputy", stage.now));
    let refused = erasure.approve(&stage.account, &head, &mut stage.changes);
    assert_eq!(refused, Err(Refusal::SameApprover));
    erasure.approve(&stage.account, &deputy, &mut stage.changes).unwrap();
    assert_eq!(erasure.due_at, Some(stage.now + TimeDelta::days(7)));
    let again = erasure.approve(&stage.account, &deputy, &mut stage.changes);
    assert!(matches!(again, Err(Refusal::ErasureNotAwaiting(_))));
}

/// U9: the certificate comes once: with the last acknowledgement, or at the deadline.
#[test]
fn u9_the_certificate_is_issued_once_and_names_who_did_not_acknowledge() {
    let mut stage = Stage::pending();
    let mut erasure = stage.ask();
    stage.now += TimeDelta::days(7);
    stage.erase(&mut erasure);
    stage.announce(&mut erasure, &["mail-archive", "progress"]);
    assert_eq!(erasure.state, ErasureState::Announced);
    assert!(erasure.traces.is_empty() && erasure.external_id.is_none() && erasure.names.is_empty());
    let act = by("progress", stage.now);
    let changes = &mut stage.changes;
    let unknown = erasure.acknowledge("shop", &stage.account, seal, &act, changes);
    assert!(matches!(unknown, Err(Refusal::SubscriberNotFound(_))));
    for _ in 0..2 {
        erasure
            .acknowledge("progress", &stage.account, seal, &act, changes)
            .unwrap();
    }
    assert!(erasure.certificate.is_none());
    let reminded = by("usher", stage.now + TimeDelta::days(15));
    erasure.on_timer(&stage.account, &reminded, changes);
    let over = by("usher", stage.now + TimeDelta::days(30));
    assert!(erasure.complete(&stage.account.user, seal, &over, changes));
    assert!(!erasure.complete(&stage.account.user, seal, &over, changes));
    let text = &erasure.certificate.as_ref().unwrap().text;
    assert!(
        text.contains("acknowledged by mail-archive: not acknowledged by the deadline"),
        "{text}"
    );
    assert!(text.contains("requested by: head") && !text.contains(ADDRESS), "{text}");
    let told = |kind| changes.events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(told(EventType::ErasureReminded), 1);
    assert_eq!(told(EventType::ErasureOverdue), 1);
    assert_eq!(told(EventType::ErasureCompleted), 1);
}

/// U10: the date has its timer, wherever it is set, and none where it is cleared.
#[test]
fn u10_the_deletion_date_sets_moves_and_clears_its_timer() {
    let mut stage = Stage::pending();
    let key = TimerKey {
        tenant: stage.account.user.tenant,
        kind: TimerKind::Deletion,
        subject: stage.account.user.id.0,
    };
    let day = stage.now + TimeDelta::days(30);
    for at in [Some(day), Some(day + TimeDelta::days(1)), None] {
        let update = ProfileUpdate {
            deletes_at: Some(at),
            ..ProfileUpdate::default()
        };
        let act = act(stage.now);
        stage.account.update(update, &act, &mut stage.changes).unwrap();
        let timer = stage.changes.timers.get(&key).unwrap();
        assert_eq!(timer.as_ref().map(|timer| timer.due_at), at);
    }
    let act = by("usher", day);
    let erasure = Erasure::by_date(&stage.account, None, &act, &mut stage.changes);
    assert_eq!(
        (erasure.reason, erasure.due_at),
        (ErasureReason::EndOfRetention, Some(day))
    );
    let waiting = Erasure::by_date(&stage.account, Some(erasure.clone()), &act, &mut stage.changes);
    assert_eq!(waiting.id, erasure.id, "the one that waits is taken");
}

/// B6: the end of the cool-off or the deletion date, whichever is first.
#[test]
fn b6_it_is_told_when_an_account_is_erased_and_that_an_erasure_waits_for_somebody() {
    let mut stage = Stage::pending();
    let asked = stage.ask();
    let at =
        |stage: &Stage, running: Option<&Erasure>| stage.account.erasure_step(running, stage.now).map(|step| step.at);
    let week = stage.now + TimeDelta::days(7);
    assert_eq!((at(&stage, None), at(&stage, Some(&asked))), (None, Some(week)));
    for days in [3, 9] {
        let date = stage.now + TimeDelta::days(days);
        stage.account.user.deletes_at = Some(date);
        assert_eq!(at(&stage, None), Some(date));
        assert_eq!(at(&stage, Some(&asked)), Some(date.min(week)));
    }
    assert_eq!(stage.account.erasure_summary(Some(&asked)), "");

    let mut stage = Stage::pending();
    stage.settings(|settings| settings.erasure_second_approver = true);
    let waits = stage.ask();
    assert_eq!(at(&stage, Some(&waits)), None);
    let told = stage.account.erasure_summary(Some(&waits));
    assert!(told.contains("somebody else has to approve it"), "{told}");
}
