//! What holds for the seats of every tenant at every moment (B13): the ledger adds up to the accounts that are written down as
//! `ACTIVE`, as the count does that transactions read; and the service tells that number, less those whose expiration was
//! reached and is not written down yet. Asked at the end of every test, of every tenant of its database.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use usher_proto::identity::v1::GetSeatUsageRequest;
use uuid::Uuid;

use crate::environment::http;
use crate::system::System;

/// One statement, so that all of it is seen at one instant.
const SEATS: &str = "SELECT t.tenant_id, \
    COALESCE((SELECT COUNT(*) FROM seat_ledger l WHERE l.tenant_id = t.tenant_id), 0), \
    COALESCE((SELECT SUM(l.change) FROM seat_ledger l WHERE l.tenant_id = t.tenant_id), 0), \
    COALESCE((SELECT s.used FROM seats s WHERE s.tenant_id = t.tenant_id), 0), \
    (SELECT COUNT(*) FROM users u WHERE u.tenant_id = t.tenant_id AND u.status = 'ACTIVE'), \
    (SELECT COUNT(*) FROM users u WHERE u.tenant_id = t.tenant_id AND u.status = 'ACTIVE' \
        AND u.expires_at <= $1) FROM tenants t";
/// How far the service's clock may be from the test's.
const SKEW: TimeDelta = TimeDelta::seconds(1);
/// How often the service is asked about a tenant that changes meanwhile: one of a test that runs beside this one, and that
/// asks for itself when it ends.
const TRIES: usize = 20;
/// How many tenants it is asked about at once.
const AT_ONCE: usize = 16;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How the seats of a tenant are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    /// Lines of the ledger.
    lines: i64,
    /// What they add up to.
    sum: i64,
    /// The count beside it.
    counted: i64,
    /// Accounts whose status is `ACTIVE`, whether their expiration was reached or not.
    active: i64,
    /// Of these: those whose expiration was reached.
    overdue: i64,
}

impl Seats {
    fn check(&self, tenant: Uuid) -> Result<()> {
        let Self {
            sum, counted, active, ..
        } = self;
        ensure!(
            sum == active && counted == active,
            "tenant {tenant}: its ledger adds up to {sum}, its count of seats is {counted}, and {active} accounts are ACTIVE"
        );
        Ok(())
    }

    /// What the service told between two looks, in which nothing was written.
    fn compare(&self, tenant: Uuid, before: Self, used: i64) -> Result<()> {
        let (least, most) = (self.active - self.overdue, before.active - before.overdue);
        ensure!(
            (least..=most).contains(&used),
            "tenant {tenant}: its ledger adds up to {}, of which {} to {} are overdue, and the service tells {used} seats used",
            self.sum,
            before.overdue,
            self.overdue
        );
        Ok(())
    }
}

/// Reads how the seats of all tenants are written down. Overdue is who is so at the instant.
pub async fn read(database_url: &str, at: DateTime<Utc>) -> Result<BTreeMap<Uuid, Seats>> {
    type Row = (Uuid, i64, i64, i64, i64, i64);
    let rows: Vec<Row> = if database_url.starts_with("sqlite:") {
        let options = SqliteConnectOptions::from_str(database_url)?
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(10));
        let mut database = SqliteConnection::connect_with(&options).await?;
        let rows = sqlx::query_as(SEATS).bind(at).fetch_all(&mut database).await?;
        database.close().await?;
        rows
    } else {
        let mut database = PgConnection::connect(database_url).await?;
        let rows = sqlx::query_as(SEATS).bind(at).fetch_all(&mut database).await?;
        database.close().await?;
        rows
    };
    let seats = rows.into_iter().map(|(tenant, lines, sum, counted, active, overdue)| {
        let seats = Seats {
            lines,
            sum,
            counted,
            active,
            overdue,
        };
        (tenant, seats)
    });
    Ok(seats.collect())
}

/// Checks what is written down in a database.
pub async fn check_database(database_url: &str) -> Result<()> {
    for (tenant, seats) in read(database_url, DateTime::UNIX_EPOCH).await? {
        seats.check(tenant)?;
    }
    Ok(())
}

/// Checks the ledger alone, where accounts are written without it: that the count is what it adds up to.
pub async fn check_count(database_url: &str) -> Result<()> {
    for (tenant, Seats { sum, counted, .. }) in read(database_url, DateTime::UNIX_EPOCH).await? {
        ensure!(
            sum == counted,
            "tenant {tenant}: its ledger adds up to {sum}, its count of seats is {counted}"
        );
    }
    Ok(())
}

/// Checks a deployment: what is written down, and what the service tells if it serves. Skips whatever is as it was when it
/// was `known`.
pub async fn check(system: &System, known: &mut BTreeMap<Uuid, Seats>) -> Result<()> {
    check_database(&system.database_url).await?;
    let ready = http::get(system.identity.admin_port(), "/readyz").await;
    if !ready.is_ok_and(|answer| answer.status == 200) {
        return Ok(());
    }
    // Where the clock was moved just now, the service may not have seen it.
    system.advance(Duration::ZERO).await?;
    let service = system.clients()?;
    let mut asked: BTreeMap<Uuid, Seats> = read(&system.database_url, now(system)? - SKEW).await?;
    asked.retain(|tenant, seats| known.get(tenant) != Some(seats));
    for _ in 0..TRIES {
        if asked.is_empty() {
            break;
        }
        let told = futures::stream::iter(asked.keys().copied()).map(async |tenant| {
            let request = GetSeatUsageRequest {
                tenant_id: tenant.to_string(),
            };
            let told = service.seats().get_seat_usage(request).await;
            let told = told.with_context(|| format!("the seats of tenant {tenant}"))?;
            anyhow::Ok((tenant, told.into_inner().used_count))
        });
        let told: Vec<(Uuid, i64)> = told.buffer_unordered(AT_ONCE).try_collect().await?;
        let after = read(&system.database_url, now(system)? + SKEW).await?;
        for (tenant, used) in told {
            let (before, after) = (asked[&tenant], after[&tenant]);
            after.check(tenant)?;
            if before.lines == after.lines {
                after.compare(tenant, before, used)?;
                known.insert(tenant, after);
                asked.remove(&tenant);
            }
        }
        let again = read(&system.database_url, now(system)? - SKEW).await?;
        asked = asked.into_keys().map(|tenant| (tenant, again[&tenant])).collect();
    }
    Ok(())
}

fn now(system: &System) -> Result<DateTime<Utc>> {
    let since = TimeDelta::from_std(system.now())?;
    Ok(DateTime::UNIX_EPOCH + since)
}

/// Checks where something ends by being dropped, which cannot wait: in a thread of its own. Panics at a mismatch, so that the
/// test fails by its name. Where the test has failed already, or has left no database behind, there is nothing to compare.
pub fn check_at_end(database_url: &str, check: impl AsyncFnOnce() -> Result<()> + Send) {
    if thread::panicking() {
        return;
    }
    let all = async || {
        if let Err(error) = read(database_url, DateTime::UNIX_EPOCH).await {
            eprintln!("the seats are not checked: {error:#}");
            return Ok(());
        }
        tokio::time::timeout(PATIENCE, check())
            .await
            .context("the seats are not known in time")?
    };
    let checked = thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(all())
        };
        scope.spawn(work).join()
    });
    match checked {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => panic!("{fault:#}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: Seats = Seats {
        lines: 5,
        sum: 3,
        counted: 3,
        active: 3,
        overdue: 1,
    };

    #[test]
    fn b13_a_ledger_that_adds_up_to_another_number_is_told_with_the_tenant_and_all_numbers() {
        assert!(RIGHT.check(Uuid::nil()).is_ok());
        for wrong in [
            Seats { sum: 2, ..RIGHT },
            Seats { counted: 2, ..RIGHT },
            Seats { active: 2, ..RIGHT },
        ] {
            let told = wrong.check(Uuid::nil()).unwrap_err().to_string();
            assert!(told.contains(&Uuid::nil().to_string()), "{told}");
            assert!(told.contains('2') && told.contains('3'), "{told}");
        }
    }

    #[test]
    fn b13_the_service_must_tell_the_active_accounts_whose_expiration_was_not_reached() {
        let before = Seats { overdue: 0, ..RIGHT };
        for (used, right) in [(1, false), (2, true), (3, true), (4, false)] {
            assert_eq!(RIGHT.compare(Uuid::nil(), before, used).is_ok(), right, "{used}");
        }
        let told = RIGHT.compare(Uuid::nil(), RIGHT, 3).unwrap_err().to_string();
        assert!(told.contains("3 seats used"), "{told}");
    }
}
