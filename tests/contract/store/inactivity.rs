//! Who is inactive, and the runs that are made of it (B10).

use anyhow::Result;
use chrono::TimeDelta;
use usher_core::change::Changeset;
use usher_core::clock::Timestamp;
use usher_core::ids::UserId;
use usher_core::inactivity::{InactivityPolicy, InactivityRun, InactivityRunState, next_run};
use usher_core::ports::{Directory as _, InactivityQuery, InactivityStep, Jobs as _, Keys};
use usher_core::role::{Assignment, BuiltInRole, RoleRef, Scope};
use usher_core::status::Status;
use usher_core::user::User;

use super::on_both;
use super::stage::{Stage, creating};

on_both! {
    a_warning_that_does_not_hold_counts_for_nobody_and_is_found,
    the_inactive_are_found_by_what_they_wait_for_page_by_page,
    a_tenant_has_one_open_run_and_runs_come_back_newest_first,
}

const POLICY: InactivityPolicy = InactivityPolicy {
    warn_after_days: 90,
    deactivate_after_days: 120,
    exempt_administrators: true,
    max_share_percent: 10,
};

fn day(stage: &Stage, day: i64) -> Timestamp {
    stage.now + TimeDelta::days(day)
}

/// Active since day -200.
fn active(stage: &Stage, name: &str, last_login: Option<i64>, warned: Option<i64>) -> User {
    let mut user = stage.person(name);
    user.status = Status::ACTIVE;
    user.status_since = day(stage, -200);
    user.last_login_at = last_login.map(|at| day(stage, at));
    user.inactivity_warned_at = warned.map(|at| day(stage, at));
    user
}

fn query(stage: &Stage, step: InactivityStep, since: i64) -> InactivityQuery {
    InactivityQuery {
        tenant: stage.tenant,
        step,
        since: day(stage, since),
        policy: POLICY,
        on_since: None,
        exempt_administrators: true,
        position: None,
        limit: 2,
        now: stage.now,
    }
}

async fn walk(stage: &Stage, mut query: InactivityQuery) -> Result<Vec<UserId>> {
    let mut found = Vec::new();
    loop {
        let page = stage.store.inactive_users(&query).await?;
        let Some(last) = page.last() else { return Ok(found) };
        query.position = Some(match query.step {
            InactivityStep::Warn | InactivityStep::WarnAnew => (last.inactive_since(), last.id),
            InactivityStep::TakeBack | InactivityStep::Deactivate { .. } => {
                (last.inactivity_warned_at.unwrap_or_default(), last.id)
            }
        });
        found.extend(page.iter().map(|user| user.id));
    }
}

/// B10
async fn the_inactive_are_found_by_what_they_wait_for_page_by_page(stage: Stage) -> Result<()> {
    let never = active(&stage, "never", None, None);
    let long_ago = active(&stage, "long-ago", Some(-150), None);
    let before_it_was_active = active(&stage, "before", Some(-900), None);
    let lately = active(&stage, "lately", Some(-5), None);
    let root = active(&stage, "root", None, None);
    let mut expired = active(&stage, "expired", None, None);
    expired.expires_at = Some(stage.after(-1));
    let pending = stage.person("pending");
    let warned = active(&stage, "warned", None, Some(-40));
    let warned_later = active(&stage, "warned-later", None, Some(-20));
    let warned_last = active(&stage, "warned-last", None, Some(-10));
    let people = [
        &never,
        &long_ago,
        &before_it_was_active,
        &lately,
        &root,
        &expired,
        &pending,
        &warned,
        &warned_later,
        &warned_last,
    ];
    stage.write(creating(people)).await?;
    let mut changes = Changeset::default();
    let administrator = Assignment {
        tenant: stage.tenant,
        user: root.id,
        role: RoleRef::BuiltIn(BuiltInRole::Administrator),
        scope: Scope::Platform,
    };
    changes.assignments.insert(administrator, true);
    stage.write(changes).await?;

    let to_warn = query(&stage, InactivityStep::Warn, -100);
    let mut first = vec![never.id, before_it_was_active.id];
    first.sort();
    first.push(long_ago.id);
    assert_eq!(walk(&stage, to_warn.clone()).await?, first);
    assert_eq!(stage.store.count_inactive(&to_warn).await?, 3);
    let all = InactivityQuery {
        exempt_administrators: false,
        ..to_warn
    };
    assert_eq!(stage.store.count_inactive(&all).await?, 4, "the administrator too");

    let between = |after: Option<i64>, until| {
        let step = InactivityStep::Deactivate {
            after: after.map(|at| day(&stage, at)),
            until: day(&stage, until),
        };
        query(&stage, step, -100)
    };
    assert_eq!(walk(&stage, between(None, -20)).await?, [warned.id, warned_later.id]);
    assert_eq!(
        walk(&stage, between(Some(-40), -10)).await?,
        [warned_later.id, warned_last.id]
    );
    assert_eq!(stage.store.count_inactive(&between(None, -5)).await?, 3);
    Ok(())
}

/// B10: too early for who signed in since, for a policy with more days, and from before the policy was on.
async fn a_warning_that_does_not_hold_counts_for_nobody_and_is_found(stage: Stage) -> Result<()> {
    let early = active(&stage, "early", Some(-150), Some(-61));
    // To the instant.
    let just_in_time = active(&stage, "just-in-time", Some(-150), Some(-60));
    let later = active(&stage, "later", None, Some(-40));
    let never = active(&stage, "never", None, None);
    stage.write(creating([&early, &just_in_time, &later, &never])).await?;
    let found = async |step, on_since: Option<i64>| {
        let query = InactivityQuery {
            on_since: on_since.map(|at| day(&stage, at)),
            ..query(&stage, step, 0)
        };
        let found = walk(&stage, query.clone()).await?;
        anyhow::ensure!(stage.store.count_inactive(&query).await? == i64::try_from(found.len())?);
        anyhow::Ok(found)
    };
    let deactivate = InactivityStep::Deactivate {
        after: None,
        until: stage.now,
    };
    assert_eq!(found(InactivityStep::TakeBack, None).await?, [early.id]);
    assert_eq!(found(deactivate, None).await?, [just_in_time.id, later.id]);
    assert_eq!(found(InactivityStep::WarnAnew, None).await?, [never.id, early.id]);
    assert_eq!(found(InactivityStep::Warn, None).await?, [never.id]);
    // On since day -50: the instant itself counts.
    for (on_since, gone, left) in [
        (-60, vec![early.id], vec![just_in_time.id, later.id]),
        (-50, vec![early.id, just_in_time.id], vec![later.id]),
        (-39, vec![early.id, just_in_time.id, later.id], vec![]),
    ] {
        assert_eq!(found(InactivityStep::TakeBack, Some(on_since)).await?, gone);
        assert_eq!(found(deactivate, Some(on_since)).await?, left);
    }
    Ok(())
}

/// B10
async fn a_tenant_has_one_open_run_and_runs_come_back_newest_first(stage: Stage) -> Result<()> {
    let policy = InactivityPolicy {
        warn_after_days: 90,
        deactivate_after_days: 120,
        ..InactivityPolicy::default()
    };
    let write = async |run: &InactivityRun| {
        let mut changes = Changeset::default();
        changes.inactivity_runs.insert((run.tenant, run.id), run.clone());
        stage.write(changes).await
    };
    let run = |due, at| next_run(stage.tenant, &policy, &[], (due, 100), stage.after(at));
    let (Some(mut first), Some(mut second)) = (run(50, 0), run(1, 60)) else {
        anyhow::bail!("no runs");
    };
    assert_eq!(first.state, InactivityRunState::Parked);
    write(&first).await?;
    assert!(write(&second).await.is_err(), "one at a time");
    first.dismiss("ana", stage.after(30))?;
    first.position = Some((stage.after(-7), stage.person("somebody").id));
    write(&first).await?;
    write(&second).await?;
    let runs = stage.store.inactivity_runs(stage.tenant, None, 10).await?;
    assert_eq!(runs, [second.clone(), first.clone()]);
    let keys = Keys {
        inactivity: [stage.tenant].into(),
        ..Keys::default()
    };
    assert_eq!(
        stage.load(&keys).await?.inactivity[&stage.tenant],
        [second.clone(), first.clone()]
    );

    // Those that are over are not kept for good; one that was dismissed goes on sparing people.
    second.state = InactivityRunState::Done;
    second.ended_at = Some(stage.after(90));
    write(&second).await?;
    stage.store.prune_jobs(stage.after(0), stage.after(90), 100).await?;
    assert_eq!(stage.store.inactivity_runs(stage.tenant, None, 10).await?.len(), 2);
    stage.store.prune_jobs(stage.after(0), stage.after(91), 100).await?;
    assert_eq!(stage.store.inactivity_runs(stage.tenant, None, 10).await?, [first]);
    Ok(())
}
