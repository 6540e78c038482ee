//! The audit log (B14): what is written comes back, every row gets its place once, and no write waits for that.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use chrono::TimeDelta;
use sqlx::{Connection as _, Executor as _, PgConnection};
use usher_core::audit::{
    AuditEntry, AuditKey, AuditKeys, AuditRow, DONE, FaultKind, FieldChange, Redaction, Verdict, Verifier,
};
use usher_core::change::Changeset;
use usher_core::event::EventType;
use usher_core::ids::{AuditId, JobId, TenantId, UserId};
use usher_core::ports::{AuditLog as _, AuditQuery, Outbox as _, Sealing};
use usher_store::SeaStore;
use uuid::Uuid;

use super::on_both;
use super::stage::Stage;

on_both! {
    b14_entries_come_back_as_they_were_written_and_as_they_are_asked_for,
    b14_writers_and_replicas_seal_every_row_once_and_without_a_gap,
    b14_replicas_that_begin_a_chain_at_once_do_not_take_it_for_broken,
    b14_a_row_that_is_committed_late_has_its_place_later,
    b14_how_far_it_is_sealed_is_announced_once_a_minute,
    b14_an_erasure_leaves_nothing_personal_and_a_log_that_holds,
    b14_old_entries_go_and_the_rest_still_holds,
    b14_a_chain_whose_end_was_tampered_with_is_not_gone_on_with,
}

pub(super) fn keys() -> Arc<AuditKeys> {
    let key = AuditKey::try_new(1, &[1; 32]).expect("long enough");
    Arc::new(AuditKeys::try_new(key, Vec::new()).expect("one key"))
}

pub(super) fn entry(stage: &Stage, seconds: i64) -> AuditEntry {
    AuditEntry {
        tenant: stage.tenant,
        at: stage.after(seconds),
        actor: "head-office".into(),
        caller: "test/1".into(),
        method: "UserService/UpdateUser".into(),
        permission: "users.update".into(),
        outcome: DONE.into(),
        subject: None,
        job: None,
        reason: "Ana asked for it".into(),
        request_id: "r-1".into(),
        details: vec![FieldChange::new("first_name", Some("Ana".into()), None)],
    }
}

/// Seals everything that waits.
pub(super) async fn seal_all(store: &SeaStore, stage: &Stage) -> Result<()> {
    let now = stage.after(100);
    loop {
        let sealing = store.seal_audit(stage.tenant, &keys(), now, stage.now, 7).await?;
        match sealing {
            Sealing::Sealed(7) => {}
            Sealing::Sealed(_) => return Ok(()),
            other => anyhow::bail!("{other:?}"),
        }
    }
}

pub(super) async fn verdict(stage: &Stage) -> Result<Verdict> {
    let keys = keys();
    let head = stage.store.audit_head(stage.tenant).await?;
    let mut verifier = Verifier::new(&keys, stage.tenant, head.as_ref(), 100);
    let mut after = (i64::MIN, AuditId(Uuid::nil()));
    loop {
        let rows = stage.store.sealed_audit(stage.tenant, after, i64::MAX, 10).await?;
        let Some(last) = rows.last() else { break };
        after = (last.link.as_ref().context("a link")?.sequence, last.id);
        for row in &rows {
            verifier.push(row);
        }
    }
    Ok(verifier.finish(head.as_ref()))
}

async fn b14_entries_come_back_as_they_were_written_and_as_they_are_asked_for(stage: Stage) -> Result<()> {
    let keys = keys();
    let (user, job) = (UserId(Uuid::from_u128(5)), JobId(Uuid::from_u128(6)));
    let entries = [
        entry(&stage, 0),
        AuditEntry {
            subject: Some(user),
            actor: "ana".into(),
            ..entry(&stage, 1)
        },
        AuditEntry {
            job: Some(job),
            method: "Job/deactivate".into(),
            ..entry(&stage, 2)
        },
        AuditEntry {
            outcome: "PERMISSION_DENIED".into(),
            ..entry(&stage, 3)
        },
        AuditEntry {
            tenant: TenantId(Uuid::from_u128(9)),
            ..entry(&stage, 4)
        },
    ];
    let rows: Vec<AuditRow> = entries.into_iter().map(|entry| keys.sign(entry)).collect();
    // One with a change, the others by themselves; those may be written twice.
    stage
        .write(Changeset {
            audit: vec![rows[0].clone()],
            ..Changeset::default()
        })
        .await?;
    stage.store.append_audit(&rows[1..]).await?;
    stage.store.append_audit(&rows[1..]).await?;

    let all = AuditQuery::all(stage.tenant, 10);
    let newest: Vec<_> = rows[..4].iter().rev().cloned().collect();
    assert_eq!(stage.store.list_audit(&all).await?, newest);
    let found = async |query: AuditQuery| -> Result<Vec<usize>> {
        let found = stage.store.list_audit(&query).await?;
        let place = |row: &AuditRow| rows.iter().position(|it| it.id == row.id).context("a row of ours");
        found.iter().map(place).collect()
    };
    let at = |seconds| Some(stage.after(seconds));
    #[rustfmt::skip]
    let asked = [
        (AuditQuery { actor: Some("ana".into()), ..all.clone() }, vec![1]),
        (AuditQuery { user: Some(user), ..all.clone() }, vec![1]),
        (AuditQuery { method: Some("Job/deactivate".into()), ..all.clone() }, vec![2]),
        (AuditQuery { job: Some(job), ..all.clone() }, vec![2]),
        (AuditQuery { outcome: Some("PERMISSION_DENIED".into()), ..all.clone() }, vec![3]),
        (AuditQuery { outcome: Some(DONE.into()), ..all.clone() }, vec![2, 1, 0]),
        (AuditQuery { refused: true, ..all.clone() }, vec![3]),
        (AuditQuery { from: at(1), to: at(3), ..all.clone() }, vec![2, 1]),
        (AuditQuery { after: Some(rows[2].id), limit: 1, ..all.clone() }, vec![1]),
        (AuditQuery { actor: Some("ana".into()), refused: true, ..all.clone() }, vec![]),
    ];
    for (query, expected) in asked {
        let told = format!("{query:?}");
        assert_eq!(found(query).await?, expected, "{told}");
    }
    Ok(())
}

async fn b14_writers_and_replicas_seal_every_row_once_and_without_a_gap(stage: Stage) -> Result<()> {
    let stage = Arc::new(stage);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let stage = Arc::clone(&stage);
        tasks.spawn(async move {
            for number in 0..30 {
                let rows = [keys().sign(entry(&stage, writer * 100 + number))];
                stage.store.append_audit(&rows).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    for _ in 0..2 {
        let stage = Arc::clone(&stage);
        tasks.spawn(async move {
            let replica = stage.replica().await?;
            for _ in 0..100 {
                // Another one may be at it, or have begun the chain in the same moment.
                match replica.seal_audit(stage.tenant, &keys(), stage.now, stage.now, 3).await {
                    Ok(Sealing::Broken) => anyhow::bail!("broken"),
                    Ok(_) | Err(usher_core::ports::StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    seal_all(&stage.store, &stage).await?;
    let verdict = verdict(&stage).await?;
    assert_eq!((verdict.rows, verdict.faults), (120, Vec::new()));
    assert!(stage.store.unsealed_audit(stage.tenant, None, 10).await?.is_empty());
    Ok(())
}

async fn b14_replicas_that_begin_a_chain_at_once_do_not_take_it_for_broken(stage: Stage) -> Result<()> {
    let replicas = [stage.replica().await?, stage.replica().await?, stage.replica().await?];
    for _ in 0..100 {
        let tenant = TenantId::mint(stage.now);
        let row = keys().sign(AuditEntry {
            tenant,
            ..entry(&stage, 0)
        });
        stage.store.append_audit(&[row]).await?;
        let keys = keys();
        let seal = |replica: &SeaStore| {
            let replica = replica.clone();
            let (keys, now) = (Arc::clone(&keys), stage.now);
            tokio::spawn(async move { replica.seal_audit(tenant, &keys, now, now, 10).await })
        };
        for sealing in replicas.each_ref().map(seal) {
            let sealing = sealing.await?;
            assert!(!matches!(sealing, Ok(Sealing::Broken)), "{sealing:?}");
        }
    }
    Ok(())
}

async fn b14_a_row_that_is_committed_late_has_its_place_later(stage: Stage) -> Result<()> {
    let early = keys().sign(entry(&stage, 0));
    let later = keys().sign(entry(&stage, 10));
    stage.store.append_audit(std::slice::from_ref(&later)).await?;
    seal_all(&stage.store, &stage).await?;
    // Its id is below that of a row that is sealed.
    stage.store.append_audit(std::slice::from_ref(&early)).await?;
    let waiting = stage.store.unsealed_tenants(stage.now, None, 10).await?;
    assert_eq!(waiting, [stage.tenant]);
    seal_all(&stage.store, &stage).await?;
    let rows = stage
        .store
        .sealed_audit(stage.tenant, (0, AuditId(Uuid::nil())), i64::MAX, 10)
        .await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, [later.id, early.id]);
    assert_eq!(verdict(&stage).await?.faults, []);
    Ok(())
}

async fn b14_how_far_it_is_sealed_is_announced_once_a_minute(stage: Stage) -> Result<()> {
    let mut cursor = stage.store.beginning().await?;
    let mut told = Vec::new();
    for seconds in [0, 30, 59, 61, 62, 125] {
        let row = keys().sign(entry(&stage, seconds));
        stage.store.append_audit(&[row]).await?;
        let now = stage.after(seconds);
        let before = now - TimeDelta::minutes(1);
        let sealing = stage.store.seal_audit(stage.tenant, &keys(), now, before, 10).await?;
        assert_eq!(sealing, Sealing::Sealed(1));
        let events = stage.follow(&mut cursor).await?;
        told.extend(events.into_iter().map(|event| (seconds, event)));
    }
    let told: Vec<_> = told
        .into_iter()
        .map(|(seconds, event)| (seconds, event.kind, event.sealed.map(|sealed| sealed.sequence)))
        .collect();
    let kind = EventType::AuditSealed;
    assert_eq!(told, [(61, kind, Some(4)), (125, kind, Some(6))]);

    // What was sealed since the last one is told although nothing more is written.
    let row = keys().sign(entry(&stage, 126));
    stage.store.append_audit(&[row]).await?;
    let before = stage.after(66);
    stage
        .store
        .seal_audit(stage.tenant, &keys(), stage.after(126), before, 10)
        .await?;
    assert!(stage.store.unsealed_tenants(before, None, 10).await?.is_empty());
    let waiting = stage.store.unsealed_tenants(stage.after(126), None, 10).await?;
    assert_eq!(waiting, [stage.tenant]);
    Ok(())
}

async fn b14_an_erasure_leaves_nothing_personal_and_a_log_that_holds(stage: Stage) -> Result<()> {
    let keys = keys();
    let (ana, bo) = (UserId(Uuid::from_u128(5)), UserId(Uuid::from_u128(6)));
    for (number, user) in [ana, bo, ana].into_iter().enumerate() {
        let row = keys.sign(AuditEntry {
            subject: Some(user),
            ..entry(&stage, i64::try_from(number)?)
        });
        stage.store.append_audit(&[row]).await?;
        if number == 1 {
            seal_all(&stage.store, &stage).await?;
        }
    }
    let erasure = Uuid::from_u128(99);
    let redaction = Redaction {
        erasure,
        proof: keys.redaction(stage.tenant, ana, erasure),
    };
    assert_eq!(stage.store.redact_audit(stage.tenant, ana, &redaction).await?, 2);
    assert_eq!(stage.store.redact_audit(stage.tenant, ana, &redaction).await?, 0);
    seal_all(&stage.store, &stage).await?;
    assert_eq!(verdict(&stage).await?.faults, []);
    let about = |user| AuditQuery {
        user: Some(user),
        ..AuditQuery::all(stage.tenant, 10)
    };
    for row in stage.store.list_audit(&about(ana)).await? {
        assert_eq!(
            (row.reason.as_str(), row.request_id.as_str(), row.erasable.clone()),
            ("", "", None)
        );
        assert_eq!(row.redaction.map(|it| it.erasure), Some(erasure));
        assert_eq!(row.actor, "head-office");
    }
    assert_eq!(stage.store.list_audit(&about(bo)).await?[0].reason, "Ana asked for it");
    Ok(())
}

async fn b14_old_entries_go_and_the_rest_still_holds(stage: Stage) -> Result<()> {
    for number in 0..20 {
        let row = keys().sign(entry(&stage, number));
        stage.store.append_audit(&[row]).await?;
    }
    seal_all(&stage.store, &stage).await?;
    let waits = keys().sign(entry(&stage, 1));
    stage.store.append_audit(std::slice::from_ref(&waits)).await?;
    let mut gone = 0;
    loop {
        let rows = stage.store.prune_audit(&keys(), stage.after(12), 5).await?;
        gone += rows;
        if rows == 0 {
            break;
        }
    }
    assert_eq!(gone, 12);
    let verdict = verdict(&stage).await?;
    assert_eq!((verdict.rows, verdict.faults), (8, Vec::new()));
    let unsealed = stage.store.unsealed_audit(stage.tenant, None, 10).await?;
    assert_eq!(unsealed, [waits], "what is not sealed stays, however old");
    Ok(())
}

async fn b14_a_chain_whose_end_was_tampered_with_is_not_gone_on_with(stage: Stage) -> Result<()> {
    for number in 0..3 {
        let row = keys().sign(entry(&stage, number));
        stage.store.append_audit(&[row]).await?;
    }
    seal_all(&stage.store, &stage).await?;
    let other = AuditKey::try_new(1, &[2; 32]).expect("long enough");
    let other = AuditKeys::try_new(other, Vec::new()).expect("one key");
    let row = keys().sign(entry(&stage, 9));
    stage.store.append_audit(&[row]).await?;
    let sealing = stage
        .store
        .seal_audit(stage.tenant, &other, stage.now, stage.now, 10)
        .await?;
    assert_eq!(sealing, Sealing::Broken, "the head has another key's code");
    assert_eq!(stage.store.unsealed_audit(stage.tenant, None, 10).await?.len(), 1);
    assert_eq!(verdict(&stage).await?.faults, []);
    Ok(())
}

/// B14: whoever seals holds the row of the head, and writers have nothing to do with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b14_no_write_waits_for_a_sealer_that_stands_still() -> Result<()> {
    use secrecy::ExposeSecret as _;
    let stage = Stage::postgres().await?;
    let row = keys().sign(entry(&stage, 0));
    stage.store.append_audit(&[row]).await?;
    seal_all(&stage.store, &stage).await?;
    let mut held = PgConnection::connect(stage.config.url.expose_secret()).await?;
    held.execute("BEGIN").await?;
    held.execute("SELECT * FROM audit_heads FOR UPDATE").await?;

    let user = stage.person("ana");
    let mut changes = super::stage::creating([&user]);
    changes.audit.push(keys().sign(entry(&stage, 1)));
    let written = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        stage.write(changes).await?;
        stage.store.append_audit(&[keys().sign(entry(&stage, 2))]).await
    });
    written.await.context("the writes waited")??;
    // Another sealer does not wait either.
    let sealing = stage
        .store
        .seal_audit(stage.tenant, &keys(), stage.now, stage.now, 10)
        .await?;
    assert_eq!(sealing, Sealing::Busy);
    held.execute("COMMIT").await?;
    seal_all(&stage.store, &stage).await?;
    let verdict = verdict(&stage).await?;
    assert_eq!((verdict.rows, verdict.faults), (3, Vec::new()));
    Ok(())
}

/// B14: what SQLite lets somebody write into a column that holds something else is found too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b14_a_row_that_cannot_even_be_read_is_located() -> Result<()> {
    let stage = Stage::sqlite().await?;
    for number in 0..5 {
        let row = keys().sign(entry(&stage, number));
        stage.store.append_audit(&[row]).await?;
    }
    seal_all(&stage.store, &stage).await?;
    stage
        .by_hand(
            "UPDATE audit SET occurred_at = 'never' WHERE audit_id = (SELECT audit_id FROM audit_links WHERE sequence = 3)",
        )
        .await?;
    let faults = verdict(&stage).await?.faults;
    assert_eq!(faults.first().map(|fault| fault.sequence), Some(3));
    assert!(faults.iter().all(|fault| matches!(
        fault.kind,
        FaultKind::UnknownKey | FaultKind::Changed | FaultKind::Moved
    )));
    Ok(())
}

/// B14: whoever takes a row away before it is sealed does not take away its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b14_a_row_that_goes_before_it_is_sealed_is_missed() -> Result<()> {
    for stage in [Stage::postgres().await?, Stage::sqlite().await?] {
        for number in 0..5 {
            let row = keys().sign(AuditEntry {
                request_id: format!("r-{number}"),
                ..entry(&stage, number)
            });
            stage.store.append_audit(&[row]).await?;
        }
        stage.by_hand("DELETE FROM audit WHERE request_id = 'r-2'").await?;
        seal_all(&stage.store, &stage).await?;
        let verdict = verdict(&stage).await?;
        let faults: Vec<_> = verdict
            .faults
            .iter()
            .map(|it| (it.kind, it.sequence, it.last))
            .collect();
        assert_eq!((verdict.rows, faults), (4, vec![(FaultKind::Missing, 3, 3)]));
    }
    Ok(())
}

/// B14: a chain whose places stood in the rows themselves, as they did before they had a table of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b14_a_chain_is_kept_when_its_places_move_into_a_table_of_their_own() -> Result<()> {
    for stage in [Stage::postgres().await?, Stage::sqlite().await?] {
        for number in 0..5 {
            stage.store.append_audit(&[keys().sign(entry(&stage, number))]).await?;
        }
        seal_all(&stage.store, &stage).await?;
        stage.store.append_audit(&[keys().sign(entry(&stage, 5))]).await?;

        let (number, octets) = if stage.is_sqlite() {
            ("INTEGER", "BLOB")
        } else {
            ("bigint", "bytea")
        };
        let back = format!(
            "ALTER TABLE audit ADD COLUMN sequence {number}; ALTER TABLE audit ADD COLUMN chain {octets}; \
             ALTER TABLE audit ADD COLUMN code {octets}; \
             UPDATE audit SET code = l.code, sequence = l.sequence, chain = l.chain FROM audit_links l WHERE l.audit_id = audit.audit_id; \
             DROP TABLE audit_links; \
             CREATE INDEX audit_unsealed ON audit (tenant_id, audit_id) WHERE sequence IS NULL; \
             CREATE UNIQUE INDEX audit_chain ON audit (tenant_id, sequence) WHERE sequence IS NOT NULL; \
             DELETE FROM seaql_migrations WHERE version LIKE '%audit_links'"
        );
        stage.by_hand(&back).await?;
        stage.store.migrate().await?;
        let kept = verdict(&stage).await?;
        assert_eq!((kept.rows, kept.faults), (5, Vec::new()));
        seal_all(&stage.store, &stage).await?;
        let gone_on = verdict(&stage).await?;
        assert_eq!((gone_on.rows, gone_on.faults), (6, Vec::new()));
    }
    Ok(())
}
