//! May they come in, at every replica and at every moment (B4).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DenialReason, InitialState};
use usher_tests::environment::eventually;
use usher_tests::system::{Clients, Worker};

use crate::stage::{Alone, HOUR, MINUTE, PATIENCE, alone, refused, together};

/// How long an answer may be too kind after a change at another replica.
const BOUND: Duration = Duration::from_secs(1);

async fn check(clients: &Clients, tenant: &str, ids: &[&str]) -> Result<Vec<api::AccessDecision>> {
    let request = api::CheckAccessRequest {
        tenant_id: tenant.into(),
        user_ids: ids.iter().map(ToString::to_string).collect(),
    };
    Ok(clients.access().check_access(request).await?.into_inner().decisions)
}

/// B4
#[test]
fn access_is_answered_for_many_at_once_in_order_with_reason_and_end() -> Result<()> {
    together(async |stage| {
        let active = stage.active("active").await?.user_id;
        let until = stage.after(HOUR);
        let limited = stage.active("limited").await?.user_id;
        stage.expire(&limited, Some(until)).await?;
        let pending = stage.create("pending", InitialState::Pending).await?.user_id;
        let out = stage.active("out").await?.user_id;
        stage.deactivate(&out).await?;
        let nobody = "00000000-0000-7000-8000-000000000000";
        let ids = [active.as_str(), &limited, &pending, &out, nobody, &active];
        // From the database, and from memory.
        for _ in 0..2 {
            let decisions = check(&stage.clients, &stage.tenant, &ids).await?;
            assert!(decisions.iter().map(|it| it.user_id.as_str()).eq(ids));
            let told: Vec<_> = decisions
                .iter()
                .map(|it| (it.allowed, it.until, it.denial_reason()))
                .collect();
            let expected = [
                (true, None, DenialReason::Unspecified),
                (true, Some(until), DenialReason::Unspecified),
                (false, None, DenialReason::NotRegistered),
                (false, None, DenialReason::Deactivated),
                (false, None, DenialReason::NotFound),
                (true, None, DenialReason::Unspecified),
            ];
            assert_eq!(told, expected);
        }
        // Another tenant's ids are nobody's.
        let other = stage.system.tenant(api::Tenant::default()).await?;
        let decisions = check(&stage.clients, &other, &[&active]).await?;
        assert_eq!(decisions[0].denial_reason(), DenialReason::NotFound);

        let thousand = vec![active.as_str(); 1_000];
        assert_eq!(check(&stage.clients, &stage.tenant, &thousand).await?.len(), 1_000);
        for wrong in [vec![active.as_str(); 1_001], Vec::new(), vec!["no id"]] {
            let request = api::CheckAccessRequest {
                tenant_id: stage.tenant.clone(),
                user_ids: wrong.into_iter().map(ToOwned::to_owned).collect(),
            };
            let refusal = refused(stage.clients.access().check_access(request).await);
            assert_eq!(refusal.code, Code::InvalidArgument);
            assert!(refusal.fields[0].starts_with("user_ids"), "{refusal:?}");
        }
        Ok(())
    })
}

/// Asks until somebody may not come in, and answers how long that took. Asks without a pause, so that the answer comes
/// from memory.
async fn denied_after(clients: &Clients, tenant: &str, id: &str) -> Result<Duration> {
    let began = Instant::now();
    loop {
        if !check(clients, tenant, &[id]).await?[0].allowed {
            return Ok(began.elapsed());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "still let in");
    }
}

/// B4, S4: the stated bound, over and over.
#[test]
fn a_deactivation_at_one_replica_counts_at_another_within_a_second() -> Result<()> {
    alone(async |stage| {
        let (mut replica, other) = stage.system.replica().await?;
        let id = stage.active("ana").await?.user_id;
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            eventually("both let them in", PATIENCE, async || {
                let mut both = Vec::new();
                for clients in [&stage.clients, &other] {
                    both.extend(check(clients, &stage.tenant, &[&id]).await.ok()?);
                }
                both.iter().all(|it| it.allowed).then_some(())
            })
            .await?;
            stage.deactivate(&id).await?;
            // Where it was done it counts at once.
            assert!(!stage.access(&id).await?.allowed);
            longest = longest.max(denied_after(&other, &stage.tenant, &id).await?);
            stage.reactivate(&id).await?;
        }
        println!("B4: denied at the other replica after {longest:?} at the latest");
        assert!(longest <= BOUND, "{longest:?}");
        replica.terminate(PATIENCE).await?;
        Ok(())
    })
}

async fn allowed_everywhere(stage: &Alone, others: &[&Clients], id: &str) -> Result<Vec<bool>> {
    let mut answers = Vec::new();
    for clients in std::iter::once(&stage.clients).chain(others.iter().copied()) {
        answers.push(check(clients, &stage.tenant, &[id]).await?[0].allowed);
    }
    Ok(answers)
}

/// B4, S5: no event and no worker is needed for an expiry.
#[test]
fn at_the_instant_of_expiry_every_replica_denies_from_memory() -> Result<()> {
    alone(async |mut stage| {
        let (mut replica, other) = stage.system.replica().await?;
        stage
            .system
            .workers
            .get_mut(&Worker::Expiration)
            .context("a worker")?
            .kill();
        let id = stage.active("ana").await?.user_id;
        stage.expire(&id, Some(stage.after(HOUR))).await?;
        stage.settled().await?;
        stage.system.advance(59 * MINUTE).await?;
        assert_eq!(allowed_everywhere(&stage, &[&other], &id).await?, [true, true]);
        stage.system.advance(MINUTE).await?;
        // `advance` waits for one replica; the other reads the same clock within a tenth of a second.
        assert!(!stage.access(&id).await?.allowed);
        assert!(denied_after(&other, &stage.tenant, &id).await? <= BOUND);
        assert!(!stage.history(&id).await?.contains(&"user.expired".to_owned()));
        stage
            .system
            .workers
            .get_mut(&Worker::Expiration)
            .context("a worker")?
            .restart()
            .await?;

        // A replica that knows nothing yet asks the database.
        replica.terminate(PATIENCE).await?;
        replica.restart().await?;
        assert_eq!(allowed_everywhere(&stage, &[&other], &id).await?, [false, false]);
        replica.terminate(PATIENCE).await?;
        Ok(())
    })
}
