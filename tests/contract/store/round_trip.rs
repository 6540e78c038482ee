//! What is written is what is read.

use std::sync::Arc;

use anyhow::Result;
use usher_core::change::Changeset;
use usher_core::delivery::{
    Attempt, Claim, Delivery, DeliveryKind, DeliveryState, DeliveryStateName, Outcome, Phase, TestContent,
};
use usher_core::email::EmailAddress;
use usher_core::event::EventType;
use usher_core::ids::{ClaimId, DeliveryId, EventId};
use usher_core::invitation::{InvitationState, Message};
use usher_core::ports::{DeliveryQuery, Directory as _, Keys, Outbox as _, Store as _};
use usher_core::status::{Onboarding, Status};
use usher_core::user::Credential;

use super::on_both;
use super::stage::{Stage, creating, inviting, mailing, telling};

on_both! {
    a_tenant_comes_back_as_it_was_written_and_changed,
    a_user_in_every_status_comes_back_as_written,
    a_user_is_found_by_address_and_by_external_id,
    an_invitation_in_every_state_comes_back_as_written,
    a_mail_in_every_state_comes_back_as_written,
    the_end_of_an_attempt_keeps_its_beginning,
    an_event_comes_back_as_written,
    what_was_not_committed_is_not_there,
}

async fn a_tenant_comes_back_as_it_was_written_and_changed(stage: Stage) -> Result<()> {
    let mut tenant = stage.store.tenant(stage.tenant).await?.expect("it was created");
    assert_eq!(tenant.settings.display_name, "Lycée Voltaire");
    assert_eq!(tenant.created_at, stage.now);
    tenant.version = 2;
    tenant.settings.reminder_ladder_seconds = vec![60, 3_600];
    tenant.settings.reply_to = "école@example.org".into();
    let mut changes = Changeset::default();
    changes.tenants.insert(tenant.id, Arc::new(tenant.clone()));
    stage.write(changes).await?;
    assert_eq!(stage.store.tenant(stage.tenant).await?, Some(tenant));
    Ok(())
}

/// Every status with everything that it remembers, S1 to S7.
async fn a_user_in_every_status_comes_back_as_written(stage: Stage) -> Result<()> {
    let mut statuses = vec![Status::Erased];
    for restores in [Onboarding::Pending, Onboarding::Invited, Onboarding::Active] {
        let unexpired = [Status::Onboarding(restores), Status::Deactivated { restores }];
        statuses.extend(unexpired);
        statuses.extend(unexpired.into_iter().filter_map(Status::expired));
    }
    let mut users = Vec::new();
    for (number, status) in statuses.into_iter().enumerate() {
        let mut user = stage.person(&format!("person{number}"));
        user.status = status;
        if number % 2 == 0 {
            user.profile.email = EmailAddress::parse(&format!("Zoë{number}@München.example").replace('ë', "e"))?;
            user.profile.external_id = Some(format!("sis-{number}'\\\"{{}}"));
            user.profile.first_name = "Nguyễn “O’Connor”".into();
            user.profile.last_name = "山田, {NULL}".into();
            user.profile.language = "zh-Hant-TW".into();
            user.profile.labels = vec!["3°B".into(), "a \"quoted\" \\ label".into()];
            user.expires_at = Some(stage.after(10));
            user.activated_at = Some(stage.after(-10));
        }
        user.credential = match number % 3 {
            0 => Credential::None,
            1 => Credential::Password("$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA".into()),
            _ => Credential::OneTime { generation: 7 },
        };
        users.push(user);
    }
    stage.write(creating(&users)).await?;
    for user in &users {
        let read = stage.user(user.id).await?.expect("it was created");
        assert_eq!(&read, user);
        assert_eq!(read.profile.email.as_str(), user.profile.email.as_str());
    }
    // Changed together, each into what another was.
    let mut changes = Changeset::default();
    for index in 0..users.len() {
        let (status, credential) = (users[index].status, users[index].credential.clone());
        let next = (index + 1) % users.len();
        let user = &mut users[next];
        (user.status, user.credential, user.version) = (status, credential, 2);
        user.expires_at = None;
        changes.users.insert((user.tenant, user.id), user.clone());
    }
    stage.write(changes).await?;
    let ids: Vec<_> = users.iter().map(|user| (user.tenant, user.id)).collect();
    let mut read = stage.store.users(&ids).await?;
    read.sort_by_key(|user| user.id);
    users.sort_by_key(|user| user.id);
    assert_eq!(read, users);
    Ok(())
}

async fn a_user_is_found_by_address_and_by_external_id(stage: Stage) -> Result<()> {
    let mut ana = stage.person("ana");
    ana.profile.external_id = Some("sis-1".into());
    let mut gone = stage.person("gone");
    gone.status = Status::Erased;
    stage.write(creating([&ana, &gone])).await?;
    let found = stage.store.user_by_email(stage.tenant, "ana@example.org").await?;
    assert_eq!(found.as_ref(), Some(&ana));
    let found = stage.store.user_by_external_id(stage.tenant, "sis-1").await?;
    assert_eq!(found.as_ref(), Some(&ana));
    assert_eq!(stage.store.user_by_email(stage.tenant, "gone@example.org").await?, None);
    assert_eq!(stage.store.user_by_external_id(stage.tenant, "SIS-1").await?, None);
    assert_eq!(
        stage
            .store
            .user_by_email(usher_core::ids::TenantId::mint(stage.now), "ana@example.org")
            .await?,
        None
    );
    Ok(())
}

async fn an_invitation_in_every_state_comes_back_as_written(stage: Stage) -> Result<()> {
    let user = stage.person("ana");
    let mut invitations = Vec::new();
    for (number, state) in InvitationState::ALL.into_iter().enumerate() {
        let mut invitation = stage.invitation(&user);
        invitation.state = state;
        if number % 2 == 0 {
            invitation.message = Some(Message {
                language: "ar".into(),
                subject: "مرحبا {{ name }}".into(),
                text: "line\nline\ttab '\"\\".into(),
            });
            invitation.sent_at = Some(stage.after(1));
            invitation.ladder_from = Some(stage.after(2));
            invitation.accepted_at = Some(stage.after(3));
        }
        invitation.generation = 4;
        invitation.last_step = 2;
        invitations.push(invitation);
    }
    stage.write(inviting(&invitations)).await?;
    for invitation in invitations {
        let read = stage.store.invitation(stage.tenant, invitation.id).await?;
        assert_eq!(read, Some(invitation));
    }
    Ok(())
}

async fn a_mail_in_every_state_comes_back_as_written(stage: Stage) -> Result<()> {
    let user = stage.person("ana");
    let claim = Claim {
        id: ClaimId::mint(stage.now),
        lease_until: stage.after(120),
    };
    let states = [
        DeliveryState::Queued,
        DeliveryState::Claimed(claim.clone()),
        DeliveryState::Transmitting(claim.clone()),
        DeliveryState::Deferred,
        DeliveryState::Sent,
        DeliveryState::Failed,
        DeliveryState::Uncertain,
        DeliveryState::Suppressed,
        DeliveryState::Cancelled,
    ];
    assert_eq!(states.len(), DeliveryStateName::ALL.len());
    let mut mails: Vec<Delivery> = Vec::new();
    for (step, state) in (1..).zip(states) {
        let mut mail = stage.mail(&stage.invitation(&user));
        mail.kind = DeliveryKind::Reminder;
        mail.reminder_step = step;
        mail.ended_at = (!state.name().is_live()).then(|| stage.after(9));
        mail.last_claim = Some(claim.id);
        mail.state = state;
        mails.push(mail);
    }
    let mut test = stage.mail(&stage.invitation(&user));
    (test.user, test.invitation, test.kind) = (None, None, DeliveryKind::Test);
    test.test = Some(TestContent {
        language: "fr".into(),
        first_name: "Zoë".into(),
        message: None,
    });
    mails.push(test);
    stage.write(mailing(&mails)).await?;
    for mail in mails {
        let found = stage.store.list_deliveries(&query(&stage, mail.id)).await?;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].delivery, mail);
    }
    Ok(())
}

/// L16: the beginning stands even if the end came in another transaction, and an unfinished try is seen.
async fn the_end_of_an_attempt_keeps_its_beginning(stage: Stage) -> Result<()> {
    let user = stage.person("ana");
    let mail = stage.mail(&stage.invitation(&user));
    stage.write(mailing([&mail])).await?;
    let begun = |seconds: i64| Attempt {
        tenant: stage.tenant,
        delivery: mail.id,
        claim: ClaimId::mint(stage.after(seconds)),
        worker: format!("worker-{seconds}"),
        started_at: stage.after(seconds),
        ended_at: None,
        outcome: None,
        response: String::new(),
        smtp_code: 0,
        phase: Phase::Unknown,
    };
    let (first, second) = (begun(1), begun(2));
    for attempt in [&first, &second] {
        let mut changes = Changeset::default();
        changes.put_attempt(attempt.clone());
        stage.write(changes).await?;
    }
    let mut changes = Changeset::default();
    changes.put_attempt(Attempt {
        worker: String::new(),
        started_at: stage.after(5),
        ended_at: Some(stage.after(5)),
        outcome: Some(Outcome::Deferred),
        response: "451 4.7.1 Try again later".into(),
        smtp_code: 451,
        phase: Phase::Recipient,
        ..first.clone()
    });
    stage.write(changes).await?;
    let found = stage.store.list_deliveries(&query(&stage, mail.id)).await?;
    let ended = Attempt {
        ended_at: Some(stage.after(5)),
        outcome: Some(Outcome::Deferred),
        response: "451 4.7.1 Try again later".into(),
        smtp_code: 451,
        phase: Phase::Recipient,
        ..first
    };
    assert_eq!(found[0].attempts, [ended, second]);
    Ok(())
}

async fn an_event_comes_back_as_written(stage: Stage) -> Result<()> {
    let user = stage.person("ana");
    let mut cursor = stage.store.end().await?;
    let mut event = stage.event(EventType::UserUpdated, &user);
    event.reason = "moved to 3°B\n\"quoted\" \u{1F393}".into();
    event.changed_fields = vec!["labels".into()];
    event.expires_at = Some(stage.after(60));
    event.trace_parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    let mut of_nobody = stage.event(EventType::DeliverySent, &user);
    of_nobody.id = EventId::mint(stage.now);
    of_nobody.user = None;
    of_nobody.delivery = Some(DeliveryId::mint(stage.now));
    stage.write(telling([event.clone(), of_nobody.clone()])).await?;
    assert_eq!(stage.follow(&mut cursor).await?, [event, of_nobody]);
    Ok(())
}

async fn what_was_not_committed_is_not_there(stage: Stage) -> Result<()> {
    let ana = stage.person("ana");
    let mut cursor = stage.store.end().await?;
    let mut changes = creating([&ana]);
    changes.events.push(stage.event(EventType::UserCreated, &ana));
    let mut transaction = stage.store.begin().await?;
    transaction.apply(&changes).await?;
    let keys = Keys {
        users: [(stage.tenant, ana.id)].into(),
        ..Keys::default()
    };
    assert_eq!(
        transaction.load(&keys).await?.accounts.len(),
        1,
        "it sees its own writes"
    );
    drop(transaction);
    assert_eq!(stage.user(ana.id).await?, None);
    assert!(stage.follow(&mut cursor).await?.is_empty());
    // And the same can be written again.
    stage.write(changes).await?;
    assert_eq!(stage.follow(&mut cursor).await?.len(), 1);
    Ok(())
}

fn query(stage: &Stage, delivery: DeliveryId) -> DeliveryQuery {
    DeliveryQuery {
        groups: Vec::new(),
        tenant: stage.tenant,
        user: None,
        delivery: Some(delivery),
        states: Vec::new(),
        after: None,
        limit: 10,
    }
}
