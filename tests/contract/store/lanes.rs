//! Every lane has one owner at a time, and owners come to about the same number each.

use std::collections::BTreeSet;

use anyhow::Result;
use usher_core::ports::{LaneLease, Outbox as _};

use super::on_both;
use super::stage::Stage;

on_both! {
    lanes_are_shared_out_and_never_have_two_owners,
    the_lanes_of_an_owner_that_died_or_left_are_taken_over_in_a_new_epoch,
    owners_that_come_at_the_same_time_get_different_lanes,
}

fn count(lease: &LaneLease) -> usize {
    assert_eq!(lease.lanes.len(), lease.epochs.len());
    lease.lanes.len()
}

async fn lanes_are_shared_out_and_never_have_two_owners(stage: Stage) -> Result<()> {
    let lease = async |owner: &str, at: i64| {
        stage
            .store
            .lease_lanes(owner, stage.after(at), stage.after(at + 10))
            .await
    };
    let first = lease("a", 0).await?;
    assert_eq!((count(&first), first.until), (64, stage.after(10)));
    assert_eq!(count(&lease("b", 1).await?), 0, "none is free yet");
    // The first one gives half of them back when it comes again, since the other one counts.
    assert_eq!(count(&lease("a", 2).await?), 32);
    assert_eq!(count(&lease("b", 3).await?), 32);
    assert_eq!(count(&lease("c", 4).await?), 0);
    let (a, b, c) = (lease("a", 5).await?, lease("b", 5).await?, lease("c", 5).await?);
    assert_eq!((count(&a), count(&b), count(&c)), (22, 22, 20));
    let all: BTreeSet<i16> = [a.lanes, b.lanes, c.lanes].concat().into_iter().collect();
    assert_eq!(all.len(), 64);
    Ok(())
}

async fn the_lanes_of_an_owner_that_died_or_left_are_taken_over_in_a_new_epoch(stage: Stage) -> Result<()> {
    let lease = async |owner: &str, at: i64| {
        stage
            .store
            .lease_lanes(owner, stage.after(at), stage.after(at + 10))
            .await
    };
    let a = lease("a", 0).await?;
    let renewed = lease("a", 5).await?;
    assert_eq!(renewed.epochs, a.epochs, "renewing changes no epoch");
    // It died: its leases end at 15.
    assert_eq!(count(&lease("b", 14).await?), 0);
    let b = lease("b", 15).await?;
    assert_eq!(count(&b), 64);
    assert!(b.lanes.iter().all(|lane| b.epochs[lane] == a.epochs[lane] + 1));
    // The other one leaves: at once.
    stage.store.release_lanes("b").await?;
    let c = lease("c", 16).await?;
    assert_eq!(count(&c), 64);
    assert!(c.lanes.iter().all(|lane| c.epochs[lane] > b.epochs[lane]));
    stage.store.release_lanes("nobody").await?;
    Ok(())
}

async fn owners_that_come_at_the_same_time_get_different_lanes(stage: Stage) -> Result<()> {
    let mut tasks = Vec::new();
    for owner in ["a", "b", "c", "d"] {
        let (store, now, until) = (stage.replica().await?, stage.now, stage.after(10));
        tasks.push(tokio::spawn(async move {
            let mut lease = store.lease_lanes(owner, now, until).await?;
            for _ in 0..5 {
                lease = store.lease_lanes(owner, now, until).await?;
            }
            Ok::<_, usher_core::ports::StoreError>(lease)
        }));
    }
    for task in tasks {
        task.await??;
    }
    // Whatever was given back meanwhile is taken on the next round.
    let mut lanes = Vec::new();
    for owner in ["a", "b", "c", "d", "a", "b", "c", "d"] {
        let lease = stage.store.lease_lanes(owner, stage.now, stage.after(10)).await?;
        lanes.push(lease.lanes);
    }
    let last: Vec<i16> = lanes.split_off(4).concat();
    assert_eq!((last.len(), last.iter().collect::<BTreeSet<_>>().len()), (64, 64));
    Ok(())
}
