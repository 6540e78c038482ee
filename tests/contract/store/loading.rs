//! What a transaction sees, and that nobody else changes it meanwhile.

use std::time::Duration;

use anyhow::Result;
use tokio::time::timeout;
use usher_core::change::Changeset;
use usher_core::delivery::{DeliveryKind, DeliveryState};
use usher_core::ids::{DeliveryId, InvitationId, TenantId, UserId};
use usher_core::invitation::InvitationState;
use usher_core::ports::{Directory as _, Keys, Store as _};
use usher_core::status::Status;

use super::on_both;
use super::stage::{Stage, address, creating, inviting, mailing};

on_both! {
    an_account_is_loaded_by_every_key_that_leads_to_it,
    an_account_comes_with_its_newest_invitation_and_the_mails_that_have_not_ended,
    an_address_that_gets_no_mail_is_known_with_and_without_an_account,
    a_test_mail_belongs_to_nobody,
    nothing_of_another_tenant_is_loaded,
    a_loaded_account_waits_for_nobody_and_the_next_transaction_sees_what_it_wrote,
    overlapping_batches_neither_deadlock_nor_lose_an_update,
}

async fn an_account_is_loaded_by_every_key_that_leads_to_it(stage: Stage) -> Result<()> {
    let mut ana = stage.person("ana");
    ana.profile.external_id = Some("sis-1".into());
    let mut gone = stage.person("gone");
    gone.status = Status::Erased;
    let (older, mut newer) = (stage.invitation(&ana), stage.invitation(&ana));
    newer.created_at = stage.after(1);
    let mail = stage.mail(&older);
    let mut changes = creating([&ana, &gone]);
    changes.extend(inviting([&older, &newer]));
    changes.extend(mailing([&mail]));
    stage.write(changes).await?;

    let tenant = stage.tenant;
    let email = |name: &str| (tenant, address(name).key().to_owned());
    let by = Keys::default;
    for keys in [
        Keys {
            users: [(tenant, ana.id)].into(),
            ..by()
        },
        Keys {
            emails: [email("ana")].into(),
            ..by()
        },
        Keys {
            invitations: [(tenant, newer.id)].into(),
            ..by()
        },
        Keys {
            invitations: [(tenant, older.id)].into(),
            ..by()
        },
        Keys {
            deliveries: [(tenant, mail.id)].into(),
            ..by()
        },
    ] {
        for with_mail in [true, false] {
            let keys = Keys {
                with_mail,
                ..keys.clone()
            };
            let loaded = stage.load(&keys).await?;
            assert_eq!(loaded.accounts.len(), 1, "{keys:?}");
            assert_eq!(loaded.accounts[&(tenant, ana.id)].user, ana);
            assert_eq!(loaded.tenants.len(), 1);
            for key in &keys.invitations {
                assert_eq!(loaded.invitations[key], ana.id);
            }
            for key in &keys.deliveries {
                assert_eq!(loaded.deliveries[key], ana.id);
                assert_eq!(
                    loaded.accounts[&(tenant, ana.id)].deliveries,
                    std::slice::from_ref(&mail)
                );
            }
            for key in &keys.emails {
                assert_eq!(loaded.emails[key], ana.id);
            }
        }
    }
    let unknown = Keys {
        tenants: [tenant, TenantId::mint(stage.now)].into(),
        users: [(tenant, UserId::mint(stage.now))].into(),
        emails: [email("nobody"), email("gone")].into(),
        external_ids: [(tenant, "sis-1".into()), (tenant, "sis-2".into())].into(),
        invitations: [(tenant, InvitationId::mint(stage.now))].into(),
        deliveries: [(tenant, DeliveryId::mint(stage.now))].into(),
        with_mail: true,
        ..Keys::default()
    };
    let loaded = stage.load(&unknown).await?;
    assert!(loaded.accounts.is_empty() && loaded.emails.is_empty() && loaded.detached.is_empty());
    assert_eq!(loaded.tenants.len(), 1);
    assert_eq!(
        loaded.external_ids.into_iter().collect::<Vec<_>>(),
        [((tenant, "sis-1".into()), ana.id)]
    );
    assert!(stage.load(&Keys::default()).await?.tenants.is_empty());
    Ok(())
}

async fn an_account_comes_with_its_newest_invitation_and_the_mails_that_have_not_ended(stage: Stage) -> Result<()> {
    let (ana, ben) = (stage.person("ana"), stage.person("ben"));
    let mut superseded = stage.invitation(&ana);
    superseded.state = InvitationState::Superseded;
    // Of the same instant: the one that is open is the newer one.
    let open = stage.invitation(&ana);
    let mut sent = stage.mail(&superseded);
    sent.state = DeliveryState::Sent;
    let live = stage.mail(&open);
    let mut uncertain = stage.mail(&open);
    (uncertain.kind, uncertain.reminder_step, uncertain.state) = (DeliveryKind::Reminder, 1, DeliveryState::Uncertain);
    let mut changes = creating([&ana, &ben]);
    changes.extend(inviting([&superseded, &open]));
    changes.extend(mailing([&sent, &live, &uncertain]));
    stage.write(changes).await?;

    let account = stage
        .store
        .account(stage.tenant, ana.id)
        .await?
        .expect("it was created");
    assert_eq!(account.invitation.as_ref(), Some(&open));
    assert_eq!(account.deliveries, std::slice::from_ref(&live));
    let keys = Keys {
        users: [(stage.tenant, ana.id), (stage.tenant, ben.id)].into(),
        deliveries: [(stage.tenant, sent.id)].into(),
        with_mail: true,
        ..Keys::default()
    };
    let loaded = stage.load(&keys).await?;
    let mut mails = loaded.accounts[&(stage.tenant, ana.id)].deliveries.clone();
    mails.sort_by_key(|mail| mail.id != sent.id);
    assert_eq!(mails, [sent, live]);
    let other = &loaded.accounts[&(stage.tenant, ben.id)];
    assert!(other.invitation.is_none() && other.deliveries.is_empty());
    Ok(())
}

/// L13.
async fn an_address_that_gets_no_mail_is_known_with_and_without_an_account(stage: Stage) -> Result<()> {
    let ana = stage.person("ana");
    let mut changes = creating([&ana]);
    for name in ["ana", "nobody"] {
        changes.suppress(stage.tenant, &address(name), "550 5.1.1 no such user", stage.now);
    }
    stage.write(changes).await?;
    let keys = |with_mail| Keys {
        users: [(stage.tenant, ana.id)].into(),
        emails: ["nobody", "other"]
            .map(|name| (stage.tenant, address(name).key().to_owned()))
            .into(),
        with_mail,
        ..Keys::default()
    };
    let loaded = stage.load(&keys(true)).await?;
    assert!(loaded.accounts[&(stage.tenant, ana.id)].suppressed);
    assert_eq!(
        loaded.suppressed.into_iter().collect::<Vec<_>>(),
        [(stage.tenant, "nobody@example.org".into())]
    );
    let mut changes = Changeset::default();
    changes.unsuppressed.insert((stage.tenant, "ana@example.org".into()));
    stage.write(changes).await?;
    assert!(!stage.load(&keys(true)).await?.accounts[&(stage.tenant, ana.id)].suppressed);
    Ok(())
}

/// L12.
async fn a_test_mail_belongs_to_nobody(stage: Stage) -> Result<()> {
    let mut mail = stage.mail(&stage.invitation(&stage.person("ana")));
    (mail.user, mail.invitation, mail.kind) = (None, None, DeliveryKind::Test);
    stage.write(mailing([&mail])).await?;
    let keys = Keys {
        deliveries: [(stage.tenant, mail.id)].into(),
        with_mail: true,
        ..Keys::default()
    };
    let loaded = stage.load(&keys).await?;
    assert!(loaded.accounts.is_empty() && loaded.deliveries.is_empty());
    assert_eq!(loaded.detached[&(stage.tenant, mail.id)].0, mail);
    Ok(())
}

async fn nothing_of_another_tenant_is_loaded(stage: Stage) -> Result<()> {
    let ana = stage.person("ana");
    let invitation = stage.invitation(&ana);
    let mail = stage.mail(&invitation);
    let other = TenantId::mint(stage.now);
    let mut changes = stage.new_tenant(other);
    changes.extend(creating([&ana]));
    changes.extend(inviting([&invitation]));
    changes.extend(mailing([&mail]));
    stage.write(changes).await?;
    let keys = Keys {
        users: [(other, ana.id)].into(),
        emails: [(other, "ana@example.org".into())].into(),
        invitations: [(other, invitation.id)].into(),
        deliveries: [(other, mail.id)].into(),
        with_mail: true,
        ..Keys::default()
    };
    let loaded = stage.load(&keys).await?;
    assert!(loaded.accounts.is_empty() && loaded.invitations.is_empty() && loaded.deliveries.is_empty());
    assert_eq!(stage.store.invitation(other, invitation.id).await?, None);
    assert!(stage.store.users(&[(other, ana.id)]).await?.is_empty());
    Ok(())
}

async fn a_loaded_account_waits_for_nobody_and_the_next_transaction_sees_what_it_wrote(stage: Stage) -> Result<()> {
    let mut ana = stage.person("ana");
    stage.write(creating([&ana])).await?;
    let keys = Keys {
        emails: [(stage.tenant, "ana@example.org".into())].into(),
        ..Keys::default()
    };
    let mut first = stage.store.begin().await?;
    first.load(&keys).await?;
    let mut second = {
        let (store, keys) = (stage.store.clone(), keys.clone());
        tokio::spawn(async move {
            let mut transaction = store.begin().await?;
            transaction.load(&keys).await
        })
    };
    let waits = timeout(Duration::from_millis(200), &mut second).await;
    assert!(waits.is_err(), "the second transaction waits for the first");
    // Reads outside of transactions do not.
    assert!(stage.user(ana.id).await?.is_some());
    ana.version = 2;
    ana.profile.first_name = "Ana".into();
    let mut changes = Changeset::default();
    changes.users.insert((ana.tenant, ana.id), ana.clone());
    first.apply(&changes).await?;
    first.commit().await?;
    let loaded = second.await??;
    assert_eq!(loaded.accounts[&(stage.tenant, ana.id)].user, ana);
    Ok(())
}

async fn overlapping_batches_neither_deadlock_nor_lose_an_update(stage: Stage) -> Result<()> {
    const TASKS: usize = 6;
    const ROUNDS: usize = 15;
    let people: Vec<_> = (0..8).map(|number| stage.person(&format!("person{number}"))).collect();
    stage.write(creating(&people)).await?;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (store, people, tenant) = (stage.store.clone(), people.clone(), stage.tenant);
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                // Three of them, by different keys: their order in the keys says nothing about that of their ids.
                let mut keys = Keys::default();
                for offset in [0, 3, 5] {
                    let person = &people[(task + round + offset) % people.len()];
                    match offset {
                        0 => drop(keys.users.insert((tenant, person.id))),
                        _ => drop(keys.emails.insert((tenant, person.profile.email.key().to_owned()))),
                    }
                }
                let mut transaction = store.begin().await?;
                let loaded = transaction.load(&keys).await?;
                let mut changes = Changeset::default();
                for (key, account) in loaded.accounts {
                    let mut user = account.user;
                    user.version += 1;
                    changes.users.insert(key, user);
                }
                transaction.apply(&changes).await?;
                transaction.commit().await?;
            }
            Ok::<_, usher_core::ports::StoreError>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let ids: Vec<_> = people.iter().map(|person| (person.tenant, person.id)).collect();
    let versions: i64 = stage.store.users(&ids).await?.iter().map(|user| user.version - 1).sum();
    assert_eq!(versions, i64::try_from(TASKS * ROUNDS * 3)?);
    Ok(())
}
