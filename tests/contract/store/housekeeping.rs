//! What operators watch and what is thrown away.

use anyhow::Result;
use usher_core::change::{Changeset, StoredResponse};
use usher_core::delivery::{DeliveryState, DeliveryStateName};
use usher_core::event::EventType;
use usher_core::ids::InvitationId;
use usher_core::ports::{Backlog, Directory as _, Keys, Outbox as _, Timers as _};
use usher_core::timer::{Timer, TimerKey, TimerKind};

use super::on_both;
use super::stage::{Stage, mailing, telling};

on_both! {
    the_backlog_counts_what_waits,
    old_answers_are_pruned_and_the_history_is_not,
    the_databases_clock_goes_on,
}

async fn the_backlog_counts_what_waits(stage: Stage) -> Result<()> {
    assert_eq!(stage.store.backlog(stage.now).await?, Backlog::default());
    let ana = stage.person("ana");
    let mut changes = telling([EventType::UserCreated, EventType::UserUpdated].map(|kind| stage.event(kind, &ana)));
    let mut mails = Vec::new();
    for state in [
        DeliveryState::Queued,
        DeliveryState::Queued,
        DeliveryState::Uncertain,
        DeliveryState::Sent,
        DeliveryState::Cancelled,
    ] {
        let mut invitation = stage.invitation(&ana);
        invitation.id = InvitationId::mint(stage.now);
        let mut mail = stage.mail(&invitation);
        mail.state = state;
        mails.push(mail);
    }
    changes.extend(mailing(&mails));
    for (kind, due_in) in [(TimerKind::Delivery, 0), (TimerKind::Lapse, 1)] {
        changes.set_timer(Timer {
            key: TimerKey {
                tenant: stage.tenant,
                kind,
                subject: ana.id.0,
            },
            user: Some(ana.id),
            due_at: stage.after(due_in),
            fired: 0,
        });
    }
    stage.write(changes).await?;
    let waits = Backlog {
        outbox_depth: 2,
        outbox_age_seconds: 0.0,
        timers_overdue: 1,
        deliveries: [(DeliveryStateName::Queued, 2), (DeliveryStateName::Uncertain, 1)].into(),
    };
    assert_eq!(stage.store.backlog(stage.now).await?, waits);
    let later = stage.store.backlog(stage.after(90)).await?;
    assert!((later.outbox_age_seconds - 90.0).abs() < 0.001);
    assert_eq!(later.timers_overdue, 2);
    let rows = stage.store.unpublished(&(0..64).collect::<Vec<_>>(), &[], 10).await?;
    let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
    stage.store.mark_published(&sequences, stage.now).await?;
    let published = stage.store.backlog(stage.after(90)).await?;
    assert_eq!((published.outbox_depth, published.outbox_age_seconds), (0, 0.0));
    Ok(())
}

async fn old_answers_are_pruned_and_the_history_is_not(stage: Stage) -> Result<()> {
    let ana = stage.person("ana");
    let mut changes = telling([stage.event(EventType::UserCreated, &ana)]);
    changes.responses = (0..5_i64)
        .map(|number| StoredResponse {
            tenant: stage.tenant,
            request_id: format!("request {number}"),
            fingerprint: Vec::new(),
            response: Vec::new(),
            at: stage.after(number),
        })
        .collect();
    stage.write(changes).await?;
    let rows = stage.store.unpublished(&(0..64).collect::<Vec<_>>(), &[], 10).await?;
    stage.store.mark_published(&[rows[0].sequence], stage.now).await?;
    assert_eq!(stage.store.prune(stage.now, stage.after(3), 2).await?, 2);
    assert_eq!(
        stage.store.prune(stage.after(1), stage.after(3), 2).await?,
        2,
        "an answer and the event"
    );
    assert_eq!(stage.store.prune(stage.after(1), stage.after(3), 2).await?, 0);
    let keys = Keys {
        requests: (0..5)
            .map(|number| (stage.tenant, format!("request {number}")))
            .collect(),
        ..Keys::default()
    };
    assert_eq!(stage.load(&keys).await?.responses.len(), 2);
    assert_eq!(stage.store.history(stage.tenant, ana.id, 10).await?.len(), 1);
    stage.write(Changeset::default()).await?;
    Ok(())
}

async fn the_databases_clock_goes_on(stage: Stage) -> Result<()> {
    let first = stage.store.now().await?;
    assert!(
        first.timestamp() > 1_772_442_000,
        "it is later than when this was written"
    );
    let mut second = first;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while second == first && std::time::Instant::now() < deadline {
        second = stage.store.now().await?;
    }
    assert!(second > first);
    Ok(())
}
