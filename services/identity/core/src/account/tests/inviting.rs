//! Invitations: sent, sent again, cancelled, superseded, lapsed, accepted.

use super::*;
use crate::invitation::InvitationState;

#[test]
fn l1_an_invited_person_is_active_only_once_they_registered() {
    let mut stage = Stage::invited();
    assert_eq!(stage.access(), Access::NotRegistered);
    stage.accept(stage.token()).unwrap();
    assert_eq!(stage.access(), Access::Allowed { until: None });
    assert_eq!(stage.invitation().state, InvitationState::Accepted);
    assert_eq!(stage.invitation().accepted_at, Some(stage.now));
    assert_eq!(stage.account.user.activated_at, Some(stage.now));
    let profile = &stage.account.user.profile;
    assert_eq!(
        (profile.first_name.as_str(), profile.last_name.as_str()),
        ("Ana", "Núñez")
    );
    assert_eq!(
        stage.account.user.credential,
        Credential::Password("$argon2id$chosen".into())
    );
    let event = stage.event(EventType::UserActivated);
    assert_eq!(
        (event.from, event.to),
        (Some(StatusName::Invited), Some(StatusName::Active))
    );
}

#[test]
fn l1_a_link_that_reached_the_person_by_another_way_works_before_its_mail_was_sent() {
    let mut stage = Stage::queued();
    let mail = stage.newest().id;
    stage.accept(stage.token()).unwrap();
    assert_eq!(stage.event(EventType::UserActivated).from, Some(StatusName::Pending));
    assert_eq!(stage.state(mail), DeliveryStateName::Cancelled);
}

#[test]
fn l1_a_link_works_once() {
    let mut stage = Stage::invited();
    stage.accept(stage.token()).unwrap();
    assert_eq!(stage.accept(stage.token()), Err(Refusal::InvitationNotUsable));
}

#[test]
fn l2_a_one_time_password_is_mailed_and_not_after_it_was_changed() {
    let mut stage = Stage::created(Some(Credential::OneTime { generation: 1 }), None);
    let mail = stage.newest().clone();
    assert_eq!((mail.kind, mail.generation), (DeliveryKind::AccountCreated, 1));
    assert_eq!(stage.access(), Access::Allowed { until: None });
    stage
        .decide(|account, act, changes| account.set_password("$argon2id$own".into(), act, changes))
        .unwrap();
    assert_eq!(stage.begin(mail.id), Begin::NotNeeded(NotNeeded::Cancelled));
}

#[test]
fn l2_only_an_active_person_sets_a_password() {
    let set = |stage: &mut Stage| stage.decide(|account, act, changes| account.set_password("$h".into(), act, changes));
    assert_eq!(set(&mut Stage::pending()), Err(Refusal::WrongCredentials));
    let mut stage = Stage::active();
    stage.deactivate().unwrap();
    assert_eq!(set(&mut stage), Err(Refusal::AccountDeactivated));
    let mut stage = Stage::created(Some(Credential::OneTime { generation: 1 }), Some(days(1)));
    stage.advance(days(1));
    assert_eq!(set(&mut stage), Err(Refusal::AccountExpired));
}

#[test]
fn l3_inviting_an_active_person_is_refused_and_names_the_address() {
    let mut stage = Stage::active();
    assert_eq!(stage.invite(), Err(Refusal::UserAlreadyActive(ADDRESS.into())));
    assert!(stage.changes.is_empty());
}

#[test]
fn only_who_is_neither_shown_out_nor_expired_is_invited() {
    let mut stage = Stage::pending();
    let id = stage.account.user.id.to_string();
    stage.deactivate().unwrap();
    assert_eq!(stage.invite(), Err(Refusal::UserDeactivated(id.clone())));
    stage.set_expiration(Some(days(1))).unwrap();
    stage.advance(days(2));
    assert_eq!(stage.invite(), Err(Refusal::UserExpired(id)));
}

#[test]
fn l8_a_cancelled_link_is_dead_at_once_and_its_mail_is_not_sent() {
    let mut stage = Stage::queued();
    let (token, mail) = (stage.token(), stage.newest().id);
    assert_eq!(stage.cancel(), Ok(Effect::Changed));
    assert_eq!(
        stage.told(),
        [EventType::InvitationCancelled, EventType::DeliveryCancelled]
    );
    assert_eq!(stage.accept(token), Err(Refusal::InvitationNotUsable));
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Ended));
    assert_eq!(stage.cancel(), Ok(Effect::Unchanged));
    assert_eq!(stage.resend(), Err(Refusal::InvitationClosed));
}

#[test]
fn l8_a_resent_invitation_has_a_new_link_a_new_lifetime_and_a_ladder_from_the_start() {
    let mut stage = Stage::invited();
    let (old, reminder) = (stage.token(), stage.newest().id);
    stage.advance(days(2));
    stage.resend().unwrap();
    assert_eq!(stage.state(reminder), DeliveryStateName::Cancelled);
    let invitation = stage.invitation();
    assert_eq!((invitation.generation, invitation.state), (2, InvitationState::Queued));
    assert_eq!(invitation.lapses_at, stage.now + days(30));
    assert_eq!((invitation.last_step, invitation.ladder_from), (0, None));
    let lapse = stage.timer(TimerKind::Lapse, stage.invitation().id.0);
    assert_eq!(lapse, Some(stage.now + days(30)));
    assert_eq!(stage.status(), StatusName::Invited);
    assert_eq!(stage.accept(old), Err(Refusal::InvitationNotUsable));
    stage.accept(stage.token()).unwrap();
}

#[test]
fn l8_inviting_again_supersedes_the_open_invitation() {
    let mut stage = Stage::invited();
    let old = stage.token();
    stage.advance(days(1));
    stage.invite().unwrap();
    assert_ne!(stage.invitation().id, old.invitation);
    assert_eq!(stage.changes.invitations.len(), 2);
    assert_eq!(
        stage.told(),
        [
            EventType::InvitationSuperseded,
            EventType::DeliveryCancelled,
            EventType::InvitationQueued,
            EventType::InvitationDue,
        ]
    );
    assert_eq!(stage.accept(old), Err(Refusal::InvitationNotUsable));
}

#[test]
fn l8_of_invitations_of_one_instant_the_newest_was_created_last() {
    let mut stage = Stage::queued();
    let mut former = stage.invitation().created_at;
    for _ in 0..3 {
        stage.invite().unwrap();
        assert!(stage.invitation().created_at > former);
        former = stage.invitation().created_at;
    }
    assert!(former - stage.now < TimeDelta::milliseconds(1));
}

#[test]
fn l8_a_resent_invitation_keeps_its_text_unless_another_is_given() {
    let text = |text: &str| {
        Some(Message {
            text: text.into(),
            ..Message::default()
        })
    };
    let mut stage = Stage::pending();
    stage
        .decide(|account, act, changes| account.invite(text("first"), act, changes))
        .unwrap();
    stage.resend().unwrap();
    assert_eq!(stage.invitation().message, text("first"));
    let id = stage.invitation().id;
    stage
        .decide(|account, act, changes| account.resend(id, text("second"), act, changes))
        .unwrap();
    assert_eq!(stage.invitation().message, text("second"));
}

#[test]
fn an_invitation_that_is_not_the_newest_is_neither_cancelled_nor_resent() {
    let mut stage = Stage::invited();
    let old = stage.invitation().id;
    stage.invite().unwrap();
    assert_eq!(
        stage.decide(|account, act, changes| account.cancel_invitation(old, act, changes)),
        Err(Refusal::InvitationClosed)
    );
    assert_eq!(
        stage.decide(|account, act, changes| account.resend(old, None, act, changes)),
        Err(Refusal::InvitationClosed)
    );
    assert!(stage.invitation().is_open(stage.now));
}

#[test]
fn a_link_dies_at_the_end_of_its_lifetime_and_the_timer_writes_it_down() {
    let mut stage = Stage::invited();
    let (token, id) = (stage.token(), stage.invitation().id);
    stage.advance(days(30) - TimeDelta::microseconds(1));
    assert!(stage.account.check_link(token, stage.now).is_ok());
    stage.advance(TimeDelta::microseconds(1));
    assert_eq!(
        stage.account.check_link(token, stage.now).err(),
        Some(Refusal::InvitationNotUsable)
    );
    stage
        .decide(|account, act, changes| {
            account.on_lapse_timer(id, act, changes);
            Ok(())
        })
        .unwrap();
    assert_eq!(stage.invitation().state, InvitationState::Lapsed);
    assert!(stage.told().contains(&EventType::InvitationLapsed));
    assert_eq!(stage.timer(TimerKind::Lapse, id.0), None);
    assert!(stage.live().is_empty());
}

#[test]
fn a_lapse_is_the_clocks_doing_whoever_acts_when_it_is_written_down() {
    let mut stage = Stage::invited();
    stage.advance(days(31));
    stage.deactivate().unwrap();
    let lapsed = stage.event(EventType::InvitationLapsed);
    assert_eq!(lapsed.actor, "usher");
    assert_ne!(lapsed.reason, "asked for");
    assert_eq!(stage.event(EventType::UserDeactivated).actor, "administrator");
}

#[test]
fn a_lapse_timer_of_a_resent_invitation_waits_for_the_new_lifetime() {
    let mut stage = Stage::invited();
    let id = stage.invitation().id;
    stage.advance(days(29));
    stage.resend().unwrap();
    stage.advance(days(1));
    stage
        .decide(|account, act, changes| {
            account.on_lapse_timer(id, act, changes);
            Ok(())
        })
        .unwrap();
    assert!(stage.invitation().is_open(stage.now));
    assert_eq!(stage.timer(TimerKind::Lapse, id.0), Some(stage.now + days(29)));
}

#[test]
fn the_holder_of_a_living_link_is_told_that_the_account_is_shut() {
    let mut stage = Stage::invited();
    let (token, id) = (stage.token(), stage.account.user.id.to_string());
    stage.set_expiration(Some(days(2))).unwrap();
    stage.deactivate().unwrap();
    assert_eq!(stage.accept(token), Err(Refusal::UserDeactivated(id.clone())));
    stage.advance(days(2));
    assert_eq!(stage.accept(token), Err(Refusal::UserExpired(id)));
    let unknown = InvitationToken {
        invitation: InvitationId::mint(stage.now),
        generation: 1,
    };
    assert_eq!(stage.accept(unknown), Err(Refusal::InvitationNotUsable));
}

#[test]
fn b11_a_lapsed_link_offers_a_fresh_one_to_the_account() {
    let mut stage = Stage::invited();
    let lapsed = stage.token();
    stage.advance(days(30));
    assert_eq!(stage.refresh(lapsed), Effect::Changed);
    assert_eq!(stage.invitation().generation, 2);
    assert!(stage.told().contains(&EventType::InvitationQueued));
    let mail = stage.newest();
    assert_eq!(mail.kind, DeliveryKind::FreshLink);
    let mail = mail.id;
    stage.send(mail);
    stage.accept(stage.token()).unwrap();
}

#[test]
fn b11_asking_again_and_again_sends_one_mail() {
    let mut stage = Stage::invited();
    let lapsed = stage.token();
    stage.advance(days(30));
    stage.refresh(lapsed);
    let mails = stage.account.deliveries.len();
    for _ in 0..3 {
        stage.advance(TimeDelta::minutes(10));
        assert_eq!(stage.refresh(lapsed), Effect::Unchanged);
    }
    assert_eq!(stage.account.deliveries.len(), mails);
}

#[test]
fn b11_no_other_link_brings_a_fresh_one() {
    let mut stage = Stage::invited();
    assert_eq!(stage.refresh(stage.token()), Effect::Unchanged, "a living one");
    let forged = InvitationToken {
        generation: 9,
        ..stage.token()
    };
    stage.advance(days(30));
    assert_eq!(stage.refresh(forged), Effect::Unchanged, "of a generation yet to come");

    let mut stage = Stage::invited();
    stage.cancel().unwrap();
    assert_eq!(stage.refresh(stage.token()), Effect::Unchanged, "a cancelled one");

    let mut stage = Stage::invited();
    stage.accept(stage.token()).unwrap();
    assert_eq!(stage.refresh(stage.token()), Effect::Unchanged, "a used one");

    let mut stage = Stage::invited();
    stage.deactivate().unwrap();
    stage.advance(days(30));
    assert_eq!(stage.refresh(stage.token()), Effect::Unchanged, "of someone shown out");

    let mut stage = Stage::invited();
    stage.account.suppressed = true;
    stage.advance(days(30));
    assert_eq!(stage.refresh(stage.token()), Effect::Unchanged, "to a dead address");
}

#[test]
fn l13_a_suppressed_address_is_refused_before_anything_is_queued() {
    let mut stage = Stage::pending();
    stage.account.suppressed = true;
    assert_eq!(stage.invite(), Err(Refusal::AddressSuppressed(ADDRESS.into())));
    let mut stage = Stage::invited();
    stage.account.suppressed = true;
    assert_eq!(stage.resend(), Err(Refusal::AddressSuppressed(ADDRESS.into())));
    assert!(stage.changes.is_empty());
}
