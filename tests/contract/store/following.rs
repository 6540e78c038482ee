//! The outbox: nothing that was committed is skipped, nothing comes twice, one user's events come in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::TimeDelta;
use usher_core::change::Changeset;
use usher_core::event::{Event, EventType, LANES};
use usher_core::ids::TenantId;
use usher_core::ports::{Cursor, Keys, Outbox as _, Store as _, StoreError, Timers as _};
use usher_core::user::User;

use super::on_both;
use super::stage::{Stage, creating, telling};

on_both! {
    events_come_in_order_page_by_page_and_from_every_cursor,
    a_follower_of_one_tenant_sees_nothing_of_another,
    the_end_is_after_what_was_written_and_before_what_comes,
    events_of_many_writers_come_once_each_and_in_order_for_each_user,
    a_cursor_that_is_none_of_this_store_is_told,
    a_follower_that_missed_pruned_events_is_told_and_one_that_did_not_goes_on,
    users_who_changed_are_told_to_caches,
    unpublished_events_are_those_of_the_lanes_that_are_not_marked,
    a_queue_of_the_bus_finds_its_position_again,
}

fn users_told(stage: &Stage, count: usize) -> Vec<User> {
    (0..count)
        .map(|number| stage.person(&format!("person{number}")))
        .collect()
}

async fn events_come_in_order_page_by_page_and_from_every_cursor(stage: Stage) -> Result<()> {
    let start = stage.store.beginning().await?;
    let users = users_told(&stage, 25);
    let written: Vec<Event> = users
        .iter()
        .map(|user| stage.event(EventType::UserCreated, user))
        .collect();
    stage.write(telling(written.clone())).await?;
    let mut cursors = vec![start.clone()];
    let mut cursor = start;
    let mut read = Vec::new();
    loop {
        let followed = stage.store.follow(&cursor, None, 10).await?.expect("known");
        assert!(followed.events.len() <= 10);
        for (at, event) in followed.events {
            cursors.push(at);
            read.push(event);
        }
        cursor = followed.cursor;
        if !followed.more {
            break;
        }
    }
    assert_eq!(read, written);
    for (passed, cursor) in cursors.into_iter().enumerate() {
        let followed = stage.store.follow(&cursor, None, 100).await?.expect("known");
        let rest: Vec<Event> = followed.events.into_iter().map(|(_, event)| event).collect();
        assert_eq!(rest, written[passed..]);
    }
    let idle = stage.store.follow(&cursor, None, 10).await?.expect("known");
    assert!(idle.events.is_empty() && !idle.more);
    assert_eq!(idle.cursor, cursor);
    Ok(())
}

async fn a_follower_of_one_tenant_sees_nothing_of_another(stage: Stage) -> Result<()> {
    let start = stage.store.end().await?;
    let ours = stage.person("ana");
    let mut theirs = stage.person("ben");
    theirs.tenant = TenantId::mint(stage.now);
    let of = |user: &User| stage.event(EventType::UserCreated, user);
    stage.write(telling([of(&theirs), of(&ours), of(&theirs)])).await?;
    let followed = stage
        .store
        .follow(&start, Some(stage.tenant), 10)
        .await?
        .expect("known");
    let told: Vec<_> = followed.events.iter().map(|(_, event)| event.user).collect();
    assert_eq!(told, [Some(ours.id)]);
    let rest = stage.store.follow(&followed.cursor, None, 10).await?.expect("known");
    assert!(rest.events.is_empty(), "what is not theirs was passed over");
    Ok(())
}

async fn the_end_is_after_what_was_written_and_before_what_comes(stage: Stage) -> Result<()> {
    let user = stage.person("ana");
    stage
        .write(telling([stage.event(EventType::UserCreated, &user)]))
        .await?;
    let mut end = stage.store.end().await?;
    assert!(stage.follow(&mut end.clone()).await?.is_empty());
    let next = stage.event(EventType::UserUpdated, &user);
    stage.write(telling([next.clone()])).await?;
    assert_eq!(stage.follow(&mut end).await?, [next]);
    Ok(())
}

/// The heart of B5: a transaction that was first to get its numbers is last to commit.
#[tokio::test]
async fn what_commits_late_is_neither_skipped_nor_told_twice() -> Result<()> {
    let stage = Stage::postgres().await?;
    let (ana, ben) = (stage.person("ana"), stage.person("ben"));
    let mut cursor = stage.store.end().await?;
    let start = cursor.clone();
    let late = stage.event(EventType::UserCreated, &ana);
    let mut open = stage.store.begin().await?;
    open.apply(&telling([late.clone()])).await?;

    let early = stage.event(EventType::UserCreated, &ben);
    stage.write(telling([early.clone()])).await?;
    let mut told = stage.follow(&mut cursor).await?;
    assert!(told.is_empty(), "what comes after the open transaction is held back");
    // The end is not past it either.
    let mut end = stage.store.end().await?;
    // Caches cannot wait for order: they are told at once (B4), and again later.
    let (touched, at) = stage.store.touched(&start).await?;
    assert_eq!(touched, [(stage.tenant, ben.id)]);

    open.commit().await?;
    told.extend(stage.follow(&mut cursor).await?);
    assert_eq!(told, [late.clone(), early]);
    assert!(stage.follow(&mut end).await?.contains(&late));
    let (touched, _) = stage.store.touched(&at).await?;
    assert!(touched.contains(&(stage.tenant, ana.id)));
    assert!(stage.follow(&mut cursor).await?.is_empty());
    Ok(())
}

/// A transaction that came to nothing leaves a gap in the numbers, which nobody waits for.
#[tokio::test]
async fn a_transaction_that_was_rolled_back_holds_nobody_up() -> Result<()> {
    let stage = Stage::postgres().await?;
    let user = stage.person("ana");
    let mut cursor = stage.store.end().await?;
    let mut open = stage.store.begin().await?;
    open.apply(&telling([stage.event(EventType::UserCreated, &user)]))
        .await?;
    let told = stage.event(EventType::UserUpdated, &user);
    stage.write(telling([told.clone()])).await?;
    assert!(stage.follow(&mut cursor).await?.is_empty());
    drop(open);
    // The rollback is sent when its connection goes back: a writer that uses it comes after.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut followed = Vec::new();
    while followed.is_empty() && tokio::time::Instant::now() < deadline {
        followed = stage.follow(&mut cursor).await?;
    }
    assert_eq!(followed, [told]);
    Ok(())
}

async fn events_of_many_writers_come_once_each_and_in_order_for_each_user(stage: Stage) -> Result<()> {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 30;
    let people = users_told(&stage, 5);
    stage.write(creating(&people)).await?;
    let mut cursor = stage.store.end().await?;
    let at_work = Arc::new(AtomicUsize::new(WRITERS));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (store, people, at_work) = (stage.replica().await?, people.clone(), at_work.clone());
        let (tenant, now) = (stage.tenant, stage.now);
        tasks.push(tokio::spawn(async move {
            let _leaves = Leaves(at_work);
            for round in 0..ROUNDS {
                let users = [writer, writer + round].map(|index| (tenant, people[index % people.len()].id));
                let keys = Keys {
                    users: users.into(),
                    ..Keys::default()
                };
                let mut transaction = store.begin().await?;
                let loaded = transaction.load(&keys).await?;
                let mut changes = Changeset::default();
                for (key, account) in loaded.accounts {
                    let mut user = account.user;
                    user.version += 1;
                    let act = usher_core::change::Act::by_usher(now, "");
                    changes
                        .events
                        .push(act.event(EventType::UserUpdated, tenant, Some(&user)));
                    changes.users.insert(key, user);
                }
                transaction.apply(&changes).await?;
                transaction.commit().await?;
            }
            Ok::<_, StoreError>(())
        }));
    }
    let mut versions: BTreeMap<_, i64> = people.iter().map(|person| (Some(person.id), 1)).collect();
    loop {
        let done = at_work.load(Ordering::SeqCst) == 0;
        for event in stage.follow(&mut cursor).await? {
            let version = versions.get_mut(&event.user).expect("one of them");
            assert_eq!(event.user_version, *version + 1, "in order, none missing, none twice");
            *version = event.user_version;
        }
        if done {
            break;
        }
    }
    for task in tasks {
        task.await??;
    }
    for event in stage.follow(&mut cursor).await? {
        *versions.get_mut(&event.user).expect("one of them") = event.user_version;
    }
    let ids: Vec<_> = people.iter().map(|person| (person.tenant, person.id)).collect();
    for user in usher_core::ports::Directory::users(&stage.store, &ids).await? {
        assert_eq!(versions[&Some(user.id)], user.version);
    }
    Ok(())
}

struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn a_cursor_that_is_none_of_this_store_is_told(stage: Stage) -> Result<()> {
    for text in ["", "x", "-1", "12x", "99999999999999999999", "1000000", "1 2"] {
        let followed = stage.store.follow(&Cursor(text.into()), None, 10).await?;
        assert!(followed.is_none(), "{text:?}");
    }
    Ok(())
}

async fn a_follower_that_missed_pruned_events_is_told_and_one_that_did_not_goes_on(stage: Stage) -> Result<()> {
    let user = stage.person("ana");
    let start = stage.store.beginning().await?;
    let events: Vec<Event> = (0..4_i64)
        .map(|hour| Event {
            at: stage.now + TimeDelta::hours(hour),
            ..stage.event(EventType::UserUpdated, &user)
        })
        .collect();
    stage.write(telling(events.clone())).await?;
    let cursors: Vec<Cursor> = {
        let followed = stage.store.follow(&start, None, 10).await?.expect("known");
        followed.events.into_iter().map(|(cursor, _)| cursor).collect()
    };
    // Nothing is pruned before it was published.
    let long_after = stage.now + TimeDelta::days(30);
    assert_eq!(stage.store.prune(long_after, stage.now, 100).await?, 0);
    let rows = stage.store.unpublished(&(0..64).collect::<Vec<_>>(), &[], 10).await?;
    let published: Vec<i64> = rows.iter().take(3).map(|row| row.sequence).collect();
    stage.store.mark_published(&published, stage.now).await?;
    assert_eq!(
        stage.store.prune(stage.now + TimeDelta::hours(2), stage.now, 1).await?,
        1
    );
    assert_eq!(
        stage
            .store
            .prune(stage.now + TimeDelta::hours(2), stage.now, 100)
            .await?,
        1
    );
    assert_eq!(
        stage.store.prune(long_after, stage.now, 100).await?,
        1,
        "the last one is not published"
    );

    for missed in [&start, &cursors[0], &cursors[1]] {
        assert!(stage.store.follow(missed, None, 10).await?.is_none());
    }
    for mut kept in [cursors[2].clone(), stage.store.beginning().await?] {
        assert_eq!(stage.follow(&mut kept).await?, events[3..]);
    }
    assert!(stage.follow(&mut cursors[3].clone()).await?.is_empty());
    Ok(())
}

/// B4.
async fn users_who_changed_are_told_to_caches(stage: Stage) -> Result<()> {
    let end = stage.store.end().await?;
    let (ana, ben) = (stage.person("ana"), stage.person("ben"));
    let mut of_nobody = stage.event(EventType::DeliverySent, &ana);
    of_nobody.user = None;
    let of = |user: &User| stage.event(EventType::UserUpdated, user);
    stage.write(telling([of(&ana), of(&ben), of(&ana), of_nobody])).await?;
    let (mut touched, next) = stage.store.touched(&end).await?;
    touched.sort_unstable();
    let mut both = [(stage.tenant, ana.id), (stage.tenant, ben.id)];
    both.sort_unstable();
    assert_eq!(touched, both);
    assert_eq!(stage.store.touched(&next).await?, (Vec::new(), next.clone()));
    Ok(())
}

async fn unpublished_events_are_those_of_the_lanes_that_are_not_marked(stage: Stage) -> Result<()> {
    let users = users_told(&stage, 20);
    let events: Vec<Event> = users
        .iter()
        .map(|user| stage.event(EventType::UserCreated, user))
        .collect();
    stage.write(telling(events.clone())).await?;
    let all: Vec<i16> = (0..64).collect();
    let rows = stage.store.unpublished(&all, &[], 100).await?;
    let in_order: Vec<Event> = rows.iter().map(|row| row.event.clone()).collect();
    assert_eq!(in_order, events);
    let lane = events[7].lane();
    let of_lane = stage.store.unpublished(&[lane], &[], 100).await?;
    assert!(of_lane.iter().all(|row| row.event.lane() == lane) && !of_lane.is_empty());
    let first = [rows[0].sequence, rows[1].sequence];
    let rest = stage.store.unpublished(&all, &first, 3).await?;
    let expected: Vec<i64> = rows[2..5].iter().map(|row| row.sequence).collect();
    assert_eq!(rest.iter().map(|row| row.sequence).collect::<Vec<_>>(), expected);
    stage.store.mark_published(&first, stage.now).await?;
    stage.store.mark_published(&first, stage.after(1)).await?;
    stage.store.mark_published(&[], stage.now).await?;
    assert_eq!(stage.store.unpublished(&all, &[], 100).await?.len(), 18);
    assert!(stage.store.unpublished(&[], &[], 100).await?.is_empty());
    Ok(())
}

async fn a_queue_of_the_bus_finds_its_position_again(stage: Stage) -> Result<()> {
    assert_eq!(stage.store.load_position("usher.invitation").await?, None);
    for position in ["17", "18"] {
        let cursor = Cursor(position.into());
        stage.store.save_position("usher.invitation", &cursor).await?;
        assert_eq!(
            stage.replica().await?.load_position("usher.invitation").await?,
            Some(cursor)
        );
    }
    assert_eq!(stage.store.load_position("usher.reminder").await?, None);
    Ok(())
}

/// What piled up while the bus was away is gone through quickly once it is back. The statistics that the database plans by are of
/// a moment at which nothing waited, as they mostly are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marking_events_costs_no_more_where_many_wait() -> Result<()> {
    const FEW: u32 = 50;
    const TIMES: u32 = 5;
    let stage = Stage::postgres().await?;
    let user = stage.person("ana");
    let lanes: Vec<i16> = (0..LANES).collect();
    // The quickest of several, so that it is not what else the machine does that is compared.
    let mark = async || -> Result<Duration> {
        let mut quickest = Duration::MAX;
        for _ in 0..TIMES {
            let rows = stage.store.unpublished(&lanes, &[], FEW).await?;
            assert_eq!(rows.len(), usize::try_from(FEW)?);
            let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
            let began = Instant::now();
            stage.store.mark_published(&sequences, stage.now).await?;
            quickest = quickest.min(began.elapsed());
        }
        Ok(quickest)
    };
    let events = (0..FEW * TIMES).map(|_| stage.event(EventType::UserUpdated, &user));
    stage.write(telling(events)).await?;
    let where_few = mark().await?;
    stage.by_hand("VACUUM ANALYZE outbox").await?;
    stage
        .by_hand(
            "INSERT INTO outbox (tenant_id, user_id, event_id, event_type, lane, body, occurred_at) \
             SELECT tenant_id, user_id, gen_random_uuid(), event_type, lane, body, occurred_at \
             FROM outbox, generate_series(1, 80)",
        )
        .await?;
    let where_many = mark().await?;
    assert!(
        where_many < 10 * where_few,
        "{where_many:?}, and where few wait {where_few:?}"
    );
    Ok(())
}
