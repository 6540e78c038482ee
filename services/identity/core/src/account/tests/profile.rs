//! Changes of the address and of other data.

use super::*;
use crate::invitation::InvitationState;

#[test]
fn a_changed_address_supersedes_the_open_invitation_and_the_new_one_keeps_its_text() {
    let text = Message {
        text: "Welcome".into(),
        ..Message::default()
    };
    let mut stage = Stage::pending();
    stage
        .decide(|account, act, changes| account.invite(Some(text.clone()), act, changes))
        .unwrap();
    let (old, old_mail) = (stage.token(), stage.newest().id);
    assert_eq!(stage.move_to("ana@example.net"), Effect::Changed);
    assert_eq!(
        stage.told(),
        [
            EventType::UserUpdated,
            EventType::InvitationSuperseded,
            EventType::DeliveryCancelled,
            EventType::InvitationQueued,
            EventType::InvitationDue,
        ]
    );
    assert_eq!(stage.event(EventType::UserUpdated).changed_fields, ["email"]);
    assert_eq!(stage.state(old_mail), DeliveryStateName::Cancelled);
    assert_eq!(stage.newest().email.as_str(), "ana@example.net");
    assert_eq!(stage.invitation().message, Some(text));
    assert_eq!(stage.accept(old), Err(Refusal::InvitationNotUsable));
    stage.accept(stage.token()).unwrap();
}

#[test]
fn an_address_that_differs_only_in_case_is_kept_as_given_and_supersedes_nothing() {
    let mut stage = Stage::invited();
    let token = stage.token();
    assert_eq!(stage.move_to("Ana@Example.org"), Effect::Changed);
    assert_eq!(stage.told(), [EventType::UserUpdated]);
    stage.accept(token).unwrap();
}

#[test]
fn a_closed_invitation_is_not_opened_by_a_changed_address() {
    let mut stage = Stage::invited();
    stage.cancel().unwrap();
    stage.move_to("ana@example.net");
    assert_eq!(stage.told(), [EventType::UserUpdated]);
    assert_eq!(stage.invitation().state, InvitationState::Cancelled);
}

#[test]
fn l2_a_one_time_password_never_lives_in_a_mailbox_that_the_account_left() {
    let mut stage = Stage::created(Some(Credential::OneTime { generation: 1 }), None);
    let old = stage.newest().id;
    stage.move_to("ana@example.net");
    assert_eq!(stage.state(old), DeliveryStateName::Cancelled);
    assert_eq!(stage.account.user.credential, Credential::OneTime { generation: 2 });
    let mail = stage.newest().clone();
    assert_eq!((mail.email.as_str(), mail.generation), ("ana@example.net", 2));
    stage.send(mail.id);

    // Also if the first mail had arrived already: the password in it is dead.
    stage.move_to("ana@example.com");
    assert_eq!(stage.account.user.credential, Credential::OneTime { generation: 3 });
    assert_eq!(stage.newest().email.as_str(), "ana@example.com");
}

#[test]
fn l2_a_notification_that_was_not_sent_yet_follows_the_changed_address() {
    let mut stage = Stage::active();
    let old = stage.newest().id;
    stage.move_to("ana@example.net");
    assert_eq!(stage.state(old), DeliveryStateName::Cancelled);
    let mail = stage.newest().clone();
    assert_eq!(mail.email.as_str(), "ana@example.net");
    stage.send(mail.id);

    stage.move_to("ana@example.com");
    assert!(
        stage.live().is_empty(),
        "who was told that the account exists is not told again"
    );
}

#[test]
fn l2_who_takes_an_address_back_while_its_notification_is_on_its_way_is_not_told_twice() {
    let mut stage = Stage::active();
    let mail = stage.newest().id;
    let claim = stage.begin_transmission(mail);
    stage.move_to("ana@example.net");
    stage.move_to(ADDRESS);
    assert_eq!(stage.live().len(), 1);
    stage.finish(mail, claim, &sent()).unwrap();
    assert!(stage.live().is_empty());
}

#[test]
fn nothing_changes_where_nothing_differs() {
    let mut stage = Stage::pending();
    assert_eq!(stage.move_to(ADDRESS), Effect::Unchanged);
    assert!(stage.changes.is_empty());
}

#[test]
fn labels_are_added_to_those_that_are_there() {
    let mut stage = Stage::pending();
    let add = |stage: &mut Stage, labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        stage.decide(|account, act, changes| account.add_labels(&labels, act, changes))
    };
    assert_eq!(add(&mut stage, &["b", "a"]), Ok(Effect::Changed));
    assert_eq!(add(&mut stage, &["a", "c"]), Ok(Effect::Changed));
    assert_eq!(stage.account.user.profile.labels, ["a", "b", "c"]);
    assert_eq!(add(&mut stage, &["a"]), Ok(Effect::Unchanged));
    let many: Vec<String> = (0..51).map(|n| format!("label {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(add(&mut stage, &many), Err(Refusal::InvalidFields(_))));
    assert_eq!(stage.account.user.profile.labels, ["a", "b", "c"]);
}
