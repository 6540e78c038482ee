//! What is due is taken once, by whoever is first, and comes again if nothing came of it.

use std::collections::BTreeSet;

use anyhow::Result;
use usher_core::change::Changeset;
use usher_core::ids::UserId;
use usher_core::ports::{StoreError, Timers as _};
use usher_core::timer::{Timer, TimerKey, TimerKind, refire_pause};
use uuid::Uuid;

use super::on_both;
use super::stage::{Stage, creating};

on_both! {
    the_most_overdue_are_taken_first_and_come_again_after_a_pause,
    a_timer_is_replaced_and_cleared,
    the_expiration_of_a_new_user_is_set_with_them,
    two_replicas_take_each_timer_once,
}

fn timer(stage: &Stage, number: u128, due_in: i64) -> Timer {
    Timer {
        key: TimerKey {
            tenant: stage.tenant,
            kind: TimerKind::ALL[usize::try_from(number % 3).expect("small")],
            subject: Uuid::from_u128(number),
        },
        user: number.is_multiple_of(2).then(|| UserId(Uuid::from_u128(7))),
        due_at: stage.after(due_in),
        fired: 0,
    }
}

fn setting(timers: impl IntoIterator<Item = Timer>) -> Changeset {
    let mut changes = Changeset::default();
    for timer in timers {
        changes.set_timer(timer);
    }
    changes
}

async fn the_most_overdue_are_taken_first_and_come_again_after_a_pause(stage: Stage) -> Result<()> {
    assert_eq!(stage.store.next_due().await?, None);
    let (late, later, coming) = (timer(&stage, 1, -20), timer(&stage, 2, -10), timer(&stage, 3, 10));
    stage
        .write(setting([coming.clone(), later.clone(), late.clone()]))
        .await?;
    assert_eq!(stage.store.next_due().await?, Some(late.due_at));
    assert_eq!(stage.store.take_due(stage.now, 1).await?, std::slice::from_ref(&late));
    assert_eq!(stage.store.take_due(stage.now, 10).await?, std::slice::from_ref(&later));
    assert_eq!(stage.store.take_due(stage.now, 10).await?, []);
    assert_eq!(stage.store.next_due().await?, Some(coming.due_at));
    let mut cleared = Changeset::default();
    cleared.clear_timer(coming.key);
    cleared.clear_timer(later.key);
    stage.write(cleared).await?;
    // The pause doubles up to an hour, as `refire_pause` says.
    let mut taken_at = stage.now;
    for fired in 1..=9 {
        let due_at = taken_at + refire_pause(fired - 1);
        assert_eq!(stage.store.next_due().await?, Some(due_at), "after {fired} times");
        assert_eq!(
            stage
                .store
                .take_due(due_at - chrono::TimeDelta::microseconds(1), 10)
                .await?,
            []
        );
        let again = stage.store.take_due(due_at, 10).await?;
        let expected = Timer {
            due_at,
            fired,
            ..late.clone()
        };
        assert_eq!(again, [expected]);
        taken_at = due_at;
    }
    Ok(())
}

async fn a_timer_is_replaced_and_cleared(stage: Stage) -> Result<()> {
    let first = timer(&stage, 1, -5);
    stage.write(setting([first.clone(), timer(&stage, 2, -5)])).await?;
    stage.store.take_due(stage.now, 10).await?;
    let moved = Timer {
        due_at: stage.after(30),
        fired: 0,
        ..first
    };
    let mut changes = setting([moved.clone()]);
    changes.clear_timer(timer(&stage, 2, 0).key);
    changes.clear_timer(timer(&stage, 99, 0).key);
    stage.write(changes).await?;
    assert_eq!(stage.store.take_due(stage.after(3_600), 10).await?, [moved]);
    Ok(())
}

/// S13.
async fn the_expiration_of_a_new_user_is_set_with_them(stage: Stage) -> Result<()> {
    let (ana, ben) = (stage.person("ana"), stage.person("ben"));
    let mut changes = creating([&ana, &ben]);
    let key = |user: UserId| TimerKey {
        tenant: stage.tenant,
        kind: TimerKind::Expiration,
        subject: user.0,
    };
    changes.clear_timer(key(ana.id));
    changes.set_timer(Timer {
        key: key(ben.id),
        user: Some(ben.id),
        due_at: stage.now,
        fired: 0,
    });
    stage.write(changes).await?;
    let taken = stage.store.take_due(stage.now, 10).await?;
    assert_eq!(taken.iter().map(|timer| timer.user).collect::<Vec<_>>(), [Some(ben.id)]);
    Ok(())
}

async fn two_replicas_take_each_timer_once(stage: Stage) -> Result<()> {
    const TIMERS: u128 = 400;
    stage
        .write(setting((0..TIMERS).map(|number| timer(&stage, number, -1))))
        .await?;
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let (store, now) = (stage.replica().await?, stage.now);
        tasks.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                // Rows that the other one holds are skipped, so an empty answer may come early there.
                let timers = store.take_due(now, 15).await?;
                if timers.is_empty() {
                    return Ok::<_, StoreError>(taken);
                }
                taken.extend(timers.into_iter().map(|timer| timer.key));
            }
        }));
    }
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await??);
    }
    let distinct: BTreeSet<TimerKey> = taken.iter().copied().collect();
    assert_eq!((taken.len(), distinct.len()), (400, 400));
    Ok(())
}
