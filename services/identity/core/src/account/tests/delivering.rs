//! Mails: claimed, transmitted, ended, and what becomes of the person.

use super::*;
use crate::delivery::DeliveryState;
use crate::invitation::InvitationState;

#[test]
fn s2_a_person_is_invited_only_once_the_mail_was_handed_to_a_mail_server() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    assert_eq!(stage.invitation().state, InvitationState::Queued);
    let claim = stage.claim(mail).id;
    assert_eq!(stage.status(), StatusName::Pending);
    stage.transmit(mail, claim).unwrap();
    assert_eq!(stage.status(), StatusName::Pending);
    stage.advance(TimeDelta::seconds(3));
    stage.finish(mail, claim, &sent()).unwrap();
    assert_eq!(stage.status(), StatusName::Invited);
    assert_eq!(stage.invitation().state, InvitationState::Sent);
    assert_eq!(stage.invitation().sent_at, Some(stage.now));
    assert_eq!(
        stage.told(),
        [
            EventType::DeliverySent,
            EventType::UserInvited,
            EventType::InvitationSent
        ]
    );
    let attempt = stage.changes.attempts.values().next().unwrap();
    assert_eq!((attempt.outcome, attempt.smtp_code), (Some(Outcome::Sent), 250));
}

#[test]
fn s2_no_other_end_of_a_mail_makes_a_person_invited() {
    for report in [
        deferred(),
        unreachable(),
        uncertain(),
        hard_bounce(),
        refused_by_policy(),
    ] {
        let mut stage = Stage::queued();
        let mail = stage.newest().id;
        stage.work(mail, &report);
        assert_eq!(stage.status(), StatusName::Pending, "{report:?}");
        assert_ne!(stage.invitation().state, InvitationState::Sent, "{report:?}");
    }
}

#[test]
fn s2_a_mail_handed_over_below_a_deactivation_shows_after_it() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.begin_transmission(mail);
    stage.deactivate().unwrap();
    let since = stage.now;
    stage.advance(TimeDelta::minutes(1));
    stage.finish(mail, claim, &sent()).unwrap();
    let event = stage.event(EventType::UserInvited);
    assert_eq!(
        (event.from, event.to),
        (Some(StatusName::Deactivated), Some(StatusName::Deactivated))
    );
    assert_eq!(stage.account.user.status_since, since, "deactivated since before");
    stage.reactivate().unwrap();
    assert_eq!(stage.status(), StatusName::Invited);
}

#[test]
fn s2_a_mail_handed_over_below_an_expiry_shows_after_it() {
    let mut stage = Stage::queued();
    stage.set_expiration(Some(TimeDelta::minutes(1))).unwrap();
    let mail = stage.newest().id;
    let claim = stage.begin_transmission(mail);
    stage.advance(TimeDelta::minutes(1));
    stage.finish(mail, claim, &sent()).unwrap();
    assert_eq!(stage.status(), StatusName::Expired);
    stage.set_expiration(None).unwrap();
    assert_eq!(stage.status(), StatusName::Invited);
}

#[test]
fn a_mail_that_was_taken_back_in_mid_send_still_makes_the_person_invited() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.begin_transmission(mail);
    stage.cancel().unwrap();
    assert_eq!(
        stage.state(mail),
        DeliveryStateName::Transmitting,
        "it cannot be called back"
    );
    stage.finish(mail, claim, &sent()).unwrap();
    assert_eq!(stage.state(mail), DeliveryStateName::Sent);
    assert_eq!(stage.status(), StatusName::Invited);
    assert_eq!(stage.invitation().state, InvitationState::Cancelled);
    assert!(stage.live().is_empty(), "no ladder");
}

#[test]
fn a_mail_has_one_worker_at_a_time() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let first = stage.claim(mail);
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Claimed));
    assert!(stage.changes.is_empty());
    stage.now = first.lease_until;
    let second = stage.claim(mail);
    assert_ne!(first.id, second.id);
    assert_eq!(stage.mail(mail).attempts, 2);
    assert_eq!(stage.transmit(mail, first.id), Err(Refusal::ClaimLost));
    assert_eq!(stage.finish(mail, first.id, &sent()), Err(Refusal::ClaimLost));
    assert_eq!(stage.state(mail), DeliveryStateName::Claimed);
    stage.transmit(mail, second.id).unwrap();
    stage.finish(mail, second.id, &sent()).unwrap();
}

#[test]
fn a_claim_that_nobody_gave_is_lost() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let foreign = ClaimId::mint(stage.now);
    assert_eq!(stage.finish(mail, foreign, &sent()), Err(Refusal::ClaimLost));
    assert_eq!(stage.transmit(mail, foreign), Err(Refusal::ClaimLost));
    stage.claim(mail);
    assert_eq!(stage.finish(mail, foreign, &sent()), Err(Refusal::ClaimLost));
    let unknown = DeliveryId::mint(stage.now);
    assert_eq!(stage.finish(unknown, foreign, &sent()), Err(Refusal::ClaimLost));
    assert_eq!(stage.begin(unknown), Begin::NotNeeded(NotNeeded::Ended));
}

#[test]
fn a_worker_that_died_before_the_content_is_followed_by_another() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let lease = stage.claim(mail).lease_until;
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), Some(lease));
    stage.now = lease;
    stage.fire(mail);
    assert_eq!(stage.state(mail), DeliveryStateName::Queued);
    assert_eq!(stage.told(), [EventType::InvitationDue]);
    stage.send(mail);
}

#[test]
fn a_transmission_may_not_begin_after_the_lease() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail);
    stage.now = claim.lease_until;
    assert_eq!(stage.transmit(mail, claim.id), Err(Refusal::ClaimLost));
}

#[test]
fn a_repeated_report_changes_nothing() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail).id;
    let until = stage.transmit(mail, claim).unwrap();
    stage.advance(TimeDelta::seconds(1));
    assert_eq!(stage.transmit(mail, claim), Ok(until));
    assert!(stage.changes.is_empty());
    for report in [sent(), sent(), hard_bounce(), deferred()] {
        stage.finish(mail, claim, &report).unwrap();
        assert_eq!(stage.state(mail), DeliveryStateName::Sent);
    }
    assert!(stage.changes.is_empty());
    assert!(!stage.account.suppressed);

    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.begin_transmission(mail);
    stage.finish(mail, claim, &deferred()).unwrap();
    let after = stage.account.clone();
    stage.finish(mail, claim, &deferred()).unwrap();
    assert_eq!(stage.account, after);
}

#[test]
fn content_is_not_transmitted_to_someone_who_is_no_longer_wanted() {
    type Turn = fn(&mut Stage);
    let turns: [(&str, Turn); 5] = [
        ("deactivated", |stage| _ = stage.deactivate().unwrap()),
        ("cancelled", |stage| _ = stage.cancel().unwrap()),
        ("resent", |stage| stage.resend().unwrap()),
        ("accepted", |stage| stage.accept(stage.token()).unwrap()),
        ("moved", |stage| _ = stage.move_to("ana@example.net")),
    ];
    for (name, turn) in turns {
        let mut stage = Stage::queued();
        let mail = stage.newest().id;
        let claim = stage.claim(mail).id;
        turn(&mut stage);
        assert_eq!(stage.transmit(mail, claim), Err(Refusal::ClaimLost), "{name}");
    }
    let mut stage = Stage::queued();
    stage.set_expiration(Some(TimeDelta::minutes(1))).unwrap();
    let mail = stage.newest().id;
    let claim = stage.claim(mail).id;
    stage.advance(TimeDelta::minutes(1));
    assert_eq!(stage.transmit(mail, claim), Err(Refusal::ClaimLost), "expired");
}

#[test]
fn s11_an_invitation_cancelled_while_deactivated_is_queued_anew_on_reactivation() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.deactivate().unwrap();
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Cancelled));
    assert_eq!(stage.told(), [EventType::DeliveryCancelled]);
    stage.advance(days(2));
    stage.reactivate().unwrap();
    assert_eq!(stage.told(), [EventType::UserReactivated, EventType::InvitationDue]);
    let again = stage.newest().clone();
    assert_ne!(again.id, mail);
    assert_eq!((again.kind, again.generation), (DeliveryKind::Invitation, 1));
    stage.send(again.id);
    assert_eq!(stage.status(), StatusName::Invited);
}

#[test]
fn s7_an_invitation_cancelled_while_expired_is_queued_anew_on_restoration() {
    let mut stage = Stage::queued();
    stage.set_expiration(Some(TimeDelta::minutes(1))).unwrap();
    let mail = stage.newest().id;
    stage.advance(TimeDelta::minutes(2));
    stage.fire(mail);
    assert_eq!(stage.state(mail), DeliveryStateName::Cancelled);
    stage.set_expiration(None).unwrap();
    assert_eq!(stage.told(), [EventType::UserRestored, EventType::InvitationDue]);
}

#[test]
fn s11_a_mail_that_still_waits_is_not_queued_twice_on_reactivation() {
    let mut stage = Stage::queued();
    stage.deactivate().unwrap();
    stage.reactivate().unwrap();
    assert_eq!(stage.account.deliveries.len(), 1);
}

#[test]
fn s11_a_former_link_still_on_its_way_does_not_keep_the_new_one_back_on_reactivation() {
    let mut stage = Stage::queued();
    let former = stage.newest().id;
    stage.begin_transmission(former);
    stage.resend().unwrap();
    let mail = stage.newest().id;
    stage.deactivate().unwrap();
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Cancelled));
    stage.reactivate().unwrap();
    assert_eq!(stage.told(), [EventType::UserReactivated, EventType::InvitationDue]);
    assert_eq!(stage.newest().generation, 2);
}

#[test]
fn l13_a_hard_bounce_suppresses_the_address_and_ends_the_invitation() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let token = stage.token();
    stage.work(mail, &hard_bounce());
    assert_eq!(stage.state(mail), DeliveryStateName::Failed);
    assert_eq!(stage.invitation().state, InvitationState::Undeliverable);
    assert_eq!(
        stage.told(),
        [EventType::DeliveryFailed, EventType::InvitationUndeliverable]
    );
    let key = (stage.account.tenant.id, ADDRESS.to_owned());
    assert_eq!(stage.changes.suppressed[&key].0, "5.1.1 no such user");
    assert_eq!(stage.resend(), Err(Refusal::AddressSuppressed(ADDRESS.into())));
    assert_eq!(stage.accept(token), Err(Refusal::InvitationNotUsable));
    stage.account.suppressed = false;
    stage.resend().unwrap();
}

#[test]
fn l13_a_refusal_by_policy_ends_the_invitation_but_suppresses_nothing() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.work(mail, &refused_by_policy());
    assert_eq!(stage.invitation().state, InvitationState::Undeliverable);
    assert!(stage.changes.suppressed.is_empty() && !stage.account.suppressed);
    stage.resend().unwrap();
}

#[test]
fn l13_a_mail_that_waits_is_held_back_once_its_address_is_suppressed() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.account.suppressed = true;
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Suppressed));
    assert_eq!(
        stage.told(),
        [EventType::DeliverySuppressed, EventType::InvitationUndeliverable]
    );
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), None);
}

#[test]
fn a_mail_that_was_put_off_is_tried_again_when_it_is_due_and_not_before() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.work(mail, &deferred());
    assert_eq!(stage.state(mail), DeliveryStateName::Deferred);
    assert_eq!(stage.mail(mail).attempts, 1);
    let due = stage.mail(mail).due_at;
    assert!(due > stage.now && due < stage.now + TimeDelta::seconds(5));
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), Some(due));
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::NotDue));
    stage.fire(mail);
    assert!(stage.told().is_empty(), "fired too early, it waits on");
    assert_eq!(stage.timer(TimerKind::Delivery, mail.0), Some(due));
    stage.now = due;
    stage.fire(mail);
    assert_eq!(stage.told(), [EventType::InvitationDue]);
    stage.send(mail);
    assert_eq!(stage.mail(mail).attempts, 2);
}

#[test]
fn a_mail_server_that_cannot_be_reached_uses_up_no_attempt() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    for _ in 0..20 {
        stage.now = stage.mail(mail).due_at;
        stage.work(mail, &unreachable());
        assert_eq!(stage.mail(mail).attempts, 0);
        assert!(stage.mail(mail).due_at < stage.now + TimeDelta::seconds(5));
    }
    assert_eq!(stage.state(mail), DeliveryStateName::Queued);
}

#[test]
fn a_mail_is_put_off_until_the_link_in_it_would_be_dead() {
    let mut stage = Stage::queued();
    let (mail, lapse) = (stage.newest().id, stage.invitation().lapses_at);
    stage.now = lapse - TimeDelta::milliseconds(100);
    stage.work(mail, &deferred());
    assert_eq!(stage.state(mail), DeliveryStateName::Failed);
    assert_eq!(stage.status(), StatusName::Pending);
    assert!(!stage.account.suppressed);
}

#[test]
fn an_attempt_that_begins_and_ends_in_one_changeset_keeps_both_its_ends() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    let claim = stage.claim(mail).id;
    let (began, mut changes) = (stage.now, std::mem::take(&mut stage.changes));
    stage.advance(TimeDelta::seconds(2));
    stage.finish(mail, claim, &sent()).unwrap();
    changes.extend(std::mem::take(&mut stage.changes));
    let attempt = changes.attempts.values().next().unwrap();
    assert_eq!(changes.attempts.len(), 1);
    assert_eq!((attempt.worker.as_str(), attempt.started_at), ("worker-1", began));
    assert_eq!(
        (attempt.outcome, attempt.ended_at),
        (Some(Outcome::Sent), Some(stage.now))
    );
}

#[test]
fn a_test_mail_goes_the_same_way_without_an_account() {
    let stage = Stage::queued();
    let act = act(stage.now);
    let delivery = Delivery {
        user: None,
        invitation: None,
        kind: DeliveryKind::Test,
        state: DeliveryState::Failed,
        ..stage.newest().clone()
    };
    let mut changes = Changeset::default();
    let mut test = super::super::Detached(delivery).queue(&act, &mut changes);
    assert_eq!(changes.events[0].kind, EventType::InvitationDue);
    assert_eq!(changes.events[0].user, None);
    let Begin::Claimed(claim) = test.begin("worker-1", Leases::default(), &act, &mut changes) else {
        panic!("not claimed");
    };
    test.transmitting(claim.id, Leases::default(), &act, &mut changes)
        .unwrap();
    test.finish(claim.id, &sent(), &act, &mut changes).unwrap();
    assert_eq!(test.0.state, DeliveryState::Sent);
    assert_eq!(changes.events.last().unwrap().kind, EventType::DeliverySent);
    assert!(changes.timers.values().all(Option::is_none));
}

#[test]
fn s11_a_notification_is_held_while_deactivated_and_sent_after_the_reactivation() {
    let mut stage = Stage::created(Some(Credential::OneTime { generation: 1 }), None);
    let mail = stage.newest().clone();
    stage.deactivate().unwrap();
    assert_eq!(stage.begin(mail.id), Begin::NotNeeded(NotNeeded::NotDue));
    stage.fire(mail.id);
    assert!(stage.told().is_empty());
    assert_eq!(stage.timer(TimerKind::Delivery, mail.id.0), Some(mail.give_up_at));
    stage.advance(days(2));
    stage.reactivate().unwrap();
    assert_eq!(stage.told(), [EventType::UserReactivated, EventType::InvitationDue]);
    stage.send(mail.id);

    let mut stage = Stage::created(Some(Credential::OneTime { generation: 1 }), None);
    let mail = stage.newest().clone();
    stage.deactivate().unwrap();
    stage.now = mail.give_up_at;
    stage.fire(mail.id);
    assert_eq!(stage.state(mail.id), DeliveryStateName::Cancelled, "its time is up");
}

#[test]
fn l13_of_a_suppression_and_its_lifting_in_one_changeset_the_later_counts() {
    let tenant = TenantId::mint(Stage::pending().now);
    let key = (tenant, ADDRESS.to_owned());
    let mut suppressed = Changeset::default();
    suppressed.suppress(tenant, &address(ADDRESS), "5.1.1", Stage::pending().now);
    let mut lifted = Changeset::default();
    lifted.unsuppressed.insert(key.clone());

    let mut changes = suppressed.clone();
    changes.extend(lifted.clone());
    assert!(changes.suppressed.is_empty() && changes.unsuppressed.contains(&key));
    changes.extend(suppressed);
    assert!(changes.suppressed.contains_key(&key) && changes.unsuppressed.is_empty());
}
