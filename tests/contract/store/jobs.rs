//! Bulk jobs: selections, jobs, turns, outcomes, and what is no longer kept (B7).

use anyhow::{Context as _, Result};
use usher_core::change::Changeset;
use usher_core::ids::{JobId, SelectionId};
use usher_core::job::{
    ChunkKey, Counts, ItemInput, ItemOutcome, ItemResult, Job, JobAction, JobState, Selection, Undo,
};
use usher_core::ports::{JobQuery, Jobs as _, Keys, StoreError, UserQuery};
use uuid::Uuid;

use super::on_both;
use super::stage::{Stage, creating};

on_both! {
    whom_a_query_matches_is_told_by_id_in_pages,
    a_job_comes_back_with_its_items_and_their_outcomes,
    jobs_take_turns_and_are_lent_to_one_at_a_time,
    turns_go_round_tenants_before_jobs,
    a_chunk_is_dealt_with_once,
    what_is_no_longer_needed_goes_and_what_works_stays,
}

fn job(stage: &Stage, selection: SelectionId) -> Job {
    Job {
        tenant: stage.tenant,
        id: JobId(Uuid::new_v4()),
        action: JobAction::Deactivate,
        state: JobState::Running,
        selection,
        filter: String::new(),
        total: 2,
        next_chunk: 0,
        counts: Counts::default(),
        origin: None,
        actor: "head-office".into(),
        reason: "left".into(),
        request_id: "r-1".into(),
        revision: 0,
        created_at: stage.now,
        ended_at: None,
    }
}

fn writing(job: &Job) -> Changeset {
    let mut changes = Changeset::default();
    changes.jobs.insert((job.tenant, job.id), job.clone());
    changes
}

fn item(position: i64) -> ItemInput {
    ItemInput {
        position,
        user: Some(Uuid::from_u128(position.unsigned_abs().into()).into()),
        undo: None,
        row: Some(serde_json::json!({"email": "ana@example.org"})),
    }
}

async fn selected(stage: &Stage, until: i64) -> Result<SelectionId> {
    let id = SelectionId(Uuid::new_v4());
    let selection = Selection {
        tenant: stage.tenant,
        id,
        digest: vec![1, 2, 3],
        filter: "{}".into(),
        count: 2,
        until: stage.after(until),
    };
    stage.store.put_chunk(stage.tenant, id, 0, &[item(1), item(2)]).await?;
    stage.store.put_selection(&selection).await?;
    assert_eq!(stage.store.selection(stage.tenant, id).await?, Some(selection));
    Ok(id)
}

fn outcomes() -> Vec<ItemResult> {
    vec![
        ItemResult {
            undo: Some(Undo::Reactivate {
                since: chrono::DateTime::UNIX_EPOCH,
            }),
            ..ItemResult::new(&item(1), ItemOutcome::Changed)
        },
        ItemResult {
            reason: "USER_EXPIRED".into(),
            message: "has expired".into(),
            further: vec![("Mail".into(), "is empty".into())],
            ..ItemResult::new(&item(2), ItemOutcome::Skipped)
        },
    ]
}

fn dealt_with(job: &mut Job, number: i32) -> Changeset {
    job.advance(&outcomes(), job.created_at);
    let mut changes = writing(job);
    let key = ChunkKey {
        tenant: job.tenant,
        job: job.id,
        number,
    };
    changes.chunks.insert(key, outcomes());
    changes
}

/// U6
async fn whom_a_query_matches_is_told_by_id_in_pages(stage: Stage) -> Result<()> {
    let mut people = [stage.person("ana"), stage.person("bo"), stage.person("cy")];
    people.sort_by_key(|user| user.id);
    stage.write(creating(&people)).await?;
    let query = UserQuery::all(stage.tenant, stage.now);
    let first = stage.store.matching_users(&query, None, 2).await?;
    let rest = stage.store.matching_users(&query, first.last().copied(), 2).await?;
    let ids: Vec<_> = people.iter().map(|user| user.id).collect();
    assert_eq!([first, rest].concat(), ids);
    let stranger = Uuid::from_u128(9).into();
    let among = stage.store.among(&query, &[ids[1], stranger]).await?;
    assert_eq!(among, [ids[1]].into());
    Ok(())
}

/// B7
async fn a_job_comes_back_with_its_items_and_their_outcomes(stage: Stage) -> Result<()> {
    let selection = selected(&stage, 60).await?;
    let mut job = job(&stage, selection);
    stage.write(writing(&job)).await?;
    assert_eq!(stage.store.job(stage.tenant, job.id).await?, Some(job.clone()));
    let chunk = stage.store.chunk(stage.tenant, selection, 0).await?;
    assert_eq!(chunk, Some(vec![item(1), item(2)]));
    assert_eq!(stage.store.chunk(stage.tenant, selection, 1).await?, None);

    stage.write(dealt_with(&mut job, 0)).await?;
    let keys = Keys {
        jobs: [(stage.tenant, job.id)].into(),
        ..Keys::default()
    };
    let loaded = stage.load(&keys).await?;
    assert_eq!(loaded.jobs.get(&(stage.tenant, job.id)), Some(&job));
    assert_eq!(
        (job.state, job.counts.changed, job.counts.skipped),
        (JobState::Done, 1, 1)
    );
    assert_eq!(
        stage.store.outcomes(stage.tenant, job.id, 0, 10).await?,
        [(0, outcomes())]
    );
    assert!(stage.store.outcomes(stage.tenant, job.id, 1, 10).await?.is_empty());
    let query = JobQuery {
        tenant: stage.tenant,
        actor: Some("head-office".into()),
        states: vec![JobState::Done],
        origin: None,
        after: None,
        limit: 10,
    };
    assert_eq!(stage.store.list_jobs(&query).await?, [job]);
    let running = JobQuery {
        states: vec![JobState::Running],
        ..query
    };
    assert!(stage.store.list_jobs(&running).await?.is_empty());
    Ok(())
}

/// B7: a large job keeps no other waiting.
async fn jobs_take_turns_and_are_lent_to_one_at_a_time(stage: Stage) -> Result<()> {
    let selection = selected(&stage, 60).await?;
    let (first, mut second) = (job(&stage, selection), job(&stage, selection));
    second.created_at = stage.after(1);
    stage.write(writing(&first)).await?;
    stage.write(writing(&second)).await?;
    let claim = async |owner: &str, at: i64| -> Result<Option<JobId>, StoreError> {
        let claimed = stage
            .store
            .claim_job(owner, stage.after(at), stage.after(at + 30))
            .await?;
        Ok(claimed.map(|job| job.id))
    };
    assert_eq!(claim("a", 10).await?, Some(first.id), "the one that waited longest");
    assert_eq!(claim("b", 10).await?, Some(second.id), "the other is lent out");
    assert_eq!(claim("c", 11).await?, None, "both are");
    stage.store.release_job(stage.tenant, first.id, "b").await?;
    assert_eq!(claim("c", 12).await?, None, "only who has it gives it back");
    stage.store.release_job(stage.tenant, second.id, "b").await?;
    stage.store.release_job(stage.tenant, first.id, "a").await?;
    assert_eq!(claim("a", 13).await?, Some(first.id), "its turn was before");
    assert_eq!(claim("d", 50).await?, Some(second.id));
    assert_eq!(claim("e", 51).await?, Some(first.id), "the lease of a dead owner ends");
    // What is written of a job meanwhile leaves its lease alone.
    stage.write(writing(&first)).await?;
    assert_eq!(claim("f", 52).await?, None);
    Ok(())
}

/// B7: a tenant with many jobs has no more turns than one with a single job.
async fn turns_go_round_tenants_before_jobs(stage: Stage) -> Result<()> {
    let selection = selected(&stage, 60).await?;
    let mut many = Vec::new();
    for _ in 0..3 {
        let job = job(&stage, selection);
        stage.write(writing(&job)).await?;
        many.push(job.id);
    }
    let other = Job {
        tenant: usher_core::ids::TenantId(Uuid::new_v4()),
        created_at: stage.after(1),
        ..job(&stage, selection)
    };
    stage.write(writing(&other)).await?;
    let mut turns = Vec::new();
    for at in 10..16 {
        let claimed = stage
            .store
            .claim_job("a", stage.after(at), stage.after(at + 30))
            .await?;
        let claimed = claimed.context("a job waits")?;
        stage.store.release_job(claimed.tenant, claimed.id, "a").await?;
        turns.push(claimed.id);
    }
    let others = turns.iter().filter(|turn| **turn == other.id).count();
    assert_eq!(others, 3, "every second one: {turns:?}");
    for job in many {
        assert!(turns.contains(&job), "{turns:?}");
    }
    Ok(())
}

/// B7
async fn a_chunk_is_dealt_with_once(stage: Stage) -> Result<()> {
    let selection = selected(&stage, 60).await?;
    let mut job = job(&stage, selection);
    stage.write(writing(&job)).await?;
    let changes = dealt_with(&mut job, 0);
    stage.write(changes.clone()).await?;
    let again = stage.write(changes).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    Ok(())
}

/// B7
async fn what_is_no_longer_needed_goes_and_what_works_stays(stage: Stage) -> Result<()> {
    let (old, worked_on) = (selected(&stage, 60).await?, selected(&stage, 60).await?);
    let mut ended = job(&stage, old);
    let running = job(&stage, worked_on);
    stage.write(writing(&running)).await?;
    stage.write(writing(&ended)).await?;
    stage.write(dealt_with(&mut ended, 0)).await?;
    let (now, kept) = (stage.after(61), stage.after(-1));
    while stage.store.prune_jobs(now, kept, 100).await? > 0 {}
    assert_eq!(stage.store.selection(stage.tenant, old).await?, None);
    assert!(stage.store.chunk(stage.tenant, old, 0).await?.is_none());
    assert!(
        stage.store.chunk(stage.tenant, worked_on, 0).await?.is_some(),
        "a job needs it"
    );
    stage
        .store
        .job(stage.tenant, ended.id)
        .await?
        .context("its report is kept for a while")?;
    while stage.store.prune_jobs(now, stage.after(3_600), 100).await? > 0 {}
    assert_eq!(stage.store.job(stage.tenant, ended.id).await?, None);
    assert!(stage.store.outcomes(stage.tenant, ended.id, 0, 10).await?.is_empty());
    assert!(stage.store.job(stage.tenant, running.id).await?.is_some());
    Ok(())
}
