//! What must be unique is, whoever comes first; the second is told so and can try again.

use anyhow::Result;
use usher_core::change::{Changeset, StoredResponse};
use usher_core::delivery::{DeliveryKind, DeliveryState};
use usher_core::ids::TenantId;
use usher_core::ports::{Keys, StoreError};
use usher_core::status::Status;

use super::on_both;
use super::stage::{Stage, creating, mailing};

on_both! {
    a_second_account_with_the_same_address_is_a_conflict,
    a_second_account_with_the_same_external_id_is_a_conflict,
    a_user_who_was_to_be_new_and_exists_is_a_conflict,
    a_second_mail_of_one_generation_is_a_conflict_unless_the_first_was_cancelled,
    a_repeated_request_finds_its_first_answer_and_cannot_store_another,
}

fn assert_conflict(result: &Result<(), StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
}

async fn a_second_account_with_the_same_address_is_a_conflict(stage: Stage) -> Result<()> {
    let mut first = stage.person("ana");
    stage.write(creating([&first])).await?;
    assert_conflict(&stage.write(creating([&stage.person("ANA")])).await);
    // Another one moves to it.
    let mut other = stage.person("other");
    stage.write(creating([&other])).await?;
    other.profile.email = first.profile.email.clone();
    let mut moving = Changeset::default();
    moving.users.insert((other.tenant, other.id), other);
    assert_conflict(&stage.write(moving.clone()).await);
    // In another tenant it is free, and here it is once the first account was erased (S12).
    let tenant = TenantId::mint(stage.now);
    let mut elsewhere = stage.person("ana");
    elsewhere.tenant = tenant;
    let mut changes = stage.new_tenant(tenant);
    changes.extend(creating([&elsewhere]));
    stage.write(changes).await?;
    first.status = Status::Erased;
    let mut erasing = Changeset::default();
    erasing.users.insert((first.tenant, first.id), first);
    stage.write(erasing).await?;
    stage.write(moving).await?;
    Ok(())
}

async fn a_second_account_with_the_same_external_id_is_a_conflict(stage: Stage) -> Result<()> {
    let (mut first, mut second) = (stage.person("ana"), stage.person("ben"));
    first.profile.external_id = Some("sis-1".into());
    second.profile.external_id = Some("sis-1".into());
    stage.write(creating([&first])).await?;
    assert_conflict(&stage.write(creating([&second])).await);
    second.profile.external_id = None;
    stage.write(creating([&second, &stage.person("cleo")])).await?;
    Ok(())
}

async fn a_user_who_was_to_be_new_and_exists_is_a_conflict(stage: Stage) -> Result<()> {
    let mut ana = stage.person("ana");
    stage.write(creating([&ana])).await?;
    ana.profile.first_name = "Another".into();
    // Together with one that is new: neither is written.
    let ben = stage.person("ben");
    assert_conflict(&stage.write(creating([&ben, &ana])).await);
    assert_eq!(stage.user(ben.id).await?, None);
    assert_conflict(&stage.write(stage.new_tenant(stage.tenant)).await);
    Ok(())
}

async fn a_second_mail_of_one_generation_is_a_conflict_unless_the_first_was_cancelled(stage: Stage) -> Result<()> {
    let invitation = stage.invitation(&stage.person("ana"));
    let (mut first, second) = (stage.mail(&invitation), stage.mail(&invitation));
    stage.write(mailing([&first])).await?;
    for state in [DeliveryState::Sent, DeliveryState::Uncertain, DeliveryState::Failed] {
        first.state = state;
        stage.write(mailing([&first])).await?;
        assert_conflict(&stage.write(mailing([&second])).await);
    }
    // A reminder, the next generation, and mails without an invitation are others.
    let mut reminder = stage.mail(&invitation);
    (reminder.kind, reminder.reminder_step) = (DeliveryKind::Reminder, 1);
    let mut next = stage.mail(&invitation);
    next.generation = 2;
    let (mut one, mut two) = (stage.mail(&invitation), stage.mail(&invitation));
    (one.invitation, two.invitation) = (None, None);
    stage.write(mailing([&reminder, &next, &one, &two])).await?;
    // Cancelled and replaced in one go, whichever has the lower id.
    first.state = DeliveryState::Cancelled;
    stage.write(mailing([&second, &first])).await?;
    let mut third = stage.mail(&invitation);
    third.id = usher_core::ids::DeliveryId(uuid::Uuid::from_u128(1));
    let mut cancelled = second;
    cancelled.state = DeliveryState::Cancelled;
    stage.write(mailing([&third, &cancelled])).await?;
    Ok(())
}

/// B1: of two at the same time one stores its answer; the other finds it when it tries again.
async fn a_repeated_request_finds_its_first_answer_and_cannot_store_another(stage: Stage) -> Result<()> {
    let answer = StoredResponse {
        tenant: stage.tenant,
        request_id: "import-1:row 7".into(),
        fingerprint: vec![0, 255, 1],
        response: b"\x00first\xff".to_vec(),
        at: stage.now,
    };
    let keys = Keys {
        requests: [
            (stage.tenant, answer.request_id.clone()),
            (stage.tenant, "other".into()),
        ]
        .into(),
        ..Keys::default()
    };
    assert!(stage.load(&keys).await?.responses.is_empty());
    let mut changes = Changeset {
        responses: vec![answer.clone()],
        ..Changeset::default()
    };
    stage.write(changes.clone()).await?;
    let found = stage.load(&keys).await?.responses;
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [((stage.tenant, answer.request_id.clone()), answer)]
    );
    changes.responses[0].response = b"second".to_vec();
    assert_conflict(&stage.write(changes).await);
    Ok(())
}
