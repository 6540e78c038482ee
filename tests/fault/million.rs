//! A million users: lists and previews use indexes, and a page costs about what it costs among a thousand (U3, U6).
//!
//! It is here since it keeps the database busy, and the tests here take turns.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use usher_core::ids::{GroupId, TenantId};
use usher_core::ports::{Activity, After, Directory as _, Jobs as _, UserOrder, UserQuery};
use usher_core::role::{BuiltInRole, RoleRef};
use usher_core::status::StatusName;
use usher_core::user::User;
use usher_store::{SeaStore, StoreConfig};
use uuid::Uuid;

use crate::servers::{Servers, servers, tell};

/// The large tenant is one among so many.
const TENANTS: u128 = 50;
const LARGE: i32 = 1_000_000;
const SMALL: i32 = 1_000;
/// What a page may cost more among a million. Pages of a millisecond are measured no finer than that.
const GROWTH: u32 = 2;
const NOISE: Duration = Duration::from_millis(15);
const ROUNDS: usize = 7;

/// Tables that no list may read as a whole.
const SCANS: &str = "SELECT COALESCE(SUM(seq_scan), 0)::bigint FROM pg_stat_user_tables \
    WHERE relname IN ('users', 'group_members', 'role_assignments', 'invitations')";

const USERS: &str = "INSERT INTO users (tenant_id, user_id, version, email, email_key, external_id, first_name, last_name, \
    language, labels, name_key, search_key, status, restores, status_since, expires_at, credential, password_generation, created_at, \
    updated_at, last_login_at, seat_waiting_since) \
    SELECT $1, md5($1::text || n)::uuid, 1, 'p' || n || '@example.org', 'p' || n || '@example.org', 'S-' || n, 'Ana', \
    'Silva ' || md5(n::text), (ARRAY['', 'en', 'fr', 'de'])[n % 4 + 1], \
    jsonb_build_array('Year ' || n % 13) || CASE WHEN n % 1000 = 7 THEN '[\"Choir\"]'::jsonb ELSE '[]'::jsonb END, \
    'silva ' || md5(n::text), 'ana silva ' || md5(n::text) || E' ana\\np' || n || '@example.org', \
    (ARRAY['ACTIVE', 'ACTIVE', 'ACTIVE', 'INVITED', 'PENDING', 'ACTIVE', 'ACTIVE', 'DEACTIVATED', 'ACTIVE', 'INVITED'])[n % 10 + 1], \
    CASE WHEN n % 10 = 7 THEN 'ACTIVE' END, $2, CASE WHEN n % 100 = 3 THEN $2 - interval '1 day' WHEN n % 100 = 4 THEN $2 + interval '90 days' END, 'NONE', 0, \
    $2 - n * interval '1 second', $2, CASE WHEN n % 3 = 0 THEN '1970-01-01'::timestamptz ELSE $2 - n * interval '1 minute' END, \
    CASE WHEN n % 1000 = 9 THEN $2 END FROM generate_series(1, $3) n";
const MEMBERS: &str = "INSERT INTO group_members (tenant_id, group_id, user_id) \
    SELECT $1, ('00000000-0000-0000-0000-00000000000' || n % 10)::uuid, md5($1::text || n)::uuid FROM generate_series(1, $2) n \
    WHERE n % 10 < 2 OR n % 1000 = 5";
const HOLDERS: &str = "INSERT INTO role_assignments (tenant_id, user_id, role, scope_kind, scope_id) \
    SELECT $1, md5($1::text || n)::uuid, CASE WHEN n % 1000 = 1 THEN 'coach' ELSE 'learner' END, 'PLATFORM', '' \
    FROM generate_series(1, $2) n WHERE n % 2 = 1";
const INVITATIONS: &str = "INSERT INTO invitations SELECT (jsonb_populate_record(NULL::invitations, jsonb_build_object( \
    'tenant_id', $1, 'invitation_id', md5('i' || $1::text || n)::uuid, 'user_id', md5($1::text || n)::uuid, \
    'email', 'p' || n || '@example.org', 'email_key', 'p' || n || '@example.org', 'state', 'SENT', 'generation', 1, \
    'created_at', $2::timestamptz - n * interval '1 second', 'queued_at', $2::timestamptz, \
    'sent_at', $2::timestamptz - n * interval '1 second', 'last_step', 0, 'lapses_at', $2::timestamptz + interval '30 days'))).* \
    FROM generate_series(1, $3) n WHERE n % 10 IN (3, 9)";

struct Asked {
    name: &'static str,
    query: fn(TenantId, DateTime<Utc>) -> UserQuery,
}

fn asked() -> Vec<Asked> {
    fn group(number: u128) -> GroupId {
        GroupId(Uuid::from_u128(number))
    }
    let ask = |name, query| Asked { name, query };
    vec![
        ask("everybody", UserQuery::all),
        ask("by name", |tenant, now| UserQuery {
            order: UserOrder::Name,
            ..UserQuery::all(tenant, now)
        }),
        ask("by address, descending", |tenant, now| UserQuery {
            order: UserOrder::Email,
            descending: true,
            ..UserQuery::all(tenant, now)
        }),
        ask("by last sign-in", |tenant, now| UserQuery {
            order: UserOrder::LastLogin,
            ..UserQuery::all(tenant, now)
        }),
        ask("active", |tenant, now| UserQuery {
            statuses: vec![StatusName::Active],
            ..UserQuery::all(tenant, now)
        }),
        ask("expired, by name", |tenant, now| UserQuery {
            statuses: vec![StatusName::Expired],
            order: UserOrder::Name,
            ..UserQuery::all(tenant, now)
        }),
        ask("a common label", |tenant, now| UserQuery {
            labels: vec!["Year 7".into()],
            ..UserQuery::all(tenant, now)
        }),
        ask("a language, by name", |tenant, now| UserQuery {
            languages: vec!["fr".into()],
            order: UserOrder::Name,
            ..UserQuery::all(tenant, now)
        }),
        ask("a text that many have", |tenant, now| UserQuery {
            text: "silva".into(),
            ..UserQuery::all(tenant, now)
        }),
        ask("a text that one has", |tenant, now| UserQuery {
            text: "p777@".into(),
            ..UserQuery::all(tenant, now)
        }),
        ask("a large group", |tenant, now| UserQuery {
            groups: vec![group(1)],
            ..UserQuery::all(tenant, now)
        }),
        ask("learners, by name", |tenant, now| UserQuery {
            roles: vec![RoleRef::BuiltIn(BuiltInRole::Learner)],
            order: UserOrder::Name,
            ..UserQuery::all(tenant, now)
        }),
        ask("never signed in", |tenant, now| UserQuery {
            activity: Activity::NeverLoggedIn,
            ..UserQuery::all(tenant, now)
        }),
        ask("not signed in for a while", |tenant, now| UserQuery {
            activity: Activity::InactiveSince(now - TimeDelta::hours(1)),
            order: UserOrder::LastLogin,
            descending: true,
            ..UserQuery::all(tenant, now)
        }),
        ask("invited before", |tenant, now| UserQuery {
            invited_before: Some(now - TimeDelta::minutes(1)),
            ..UserQuery::all(tenant, now)
        }),
        ask("waiting for a seat", |tenant, now| UserQuery {
            waiting_for_seat: true,
            ..UserQuery::all(tenant, now)
        }),
    ]
}

/// U3, U6
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_previews_among_a_million_users_use_indexes() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, .. } = &mut *turn;
    let url = postgres.database().await?;
    let store = SeaStore::connect(&StoreConfig::new(url.clone())).await?;
    store.migrate().await?;
    let now = DateTime::from_timestamp(1_772_442_000, 0).context("an instant")?;
    let mut database = PgConnection::connect(&url).await?;
    let began = Instant::now();
    fill(&mut database, now).await?;
    tell(&format!("million: filled after {} s", began.elapsed().as_secs()));

    let (large, small) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
    let mut slow = Vec::new();
    // Where a thousand have no full page of such people, a page of everybody is the measure.
    let (full, _) = pages(&store, UserQuery::all(small, now)).await?;
    for Asked { name, query } in asked() {
        settle(&mut database).await?;
        let before = scans(&mut database).await?;
        let (first, deep) = pages(&store, query(large, now)).await?;
        // A preview reads the same people, by id.
        let preview = store.matching_users(&query(large, now), None, 1_000).await?;
        ensure!(!preview.is_empty(), "{name}: nobody is previewed");
        store
            .matching_users(&query(large, now), preview.last().copied(), 1_000)
            .await?;
        settle(&mut database).await?;
        let scanned = scans(&mut database).await? - before;
        ensure!(scanned == 0, "{name}: a table was read as a whole {scanned} times");
        let (small_first, small_deep) = pages(&store, query(small, now)).await?;
        tell(&format!(
            "million: {name}: first page {first:?}, deep page {deep:?}; among a thousand {small_first:?}, {small_deep:?}"
        ));
        for (what, cost, among_thousand) in [("first", first, small_first), ("deep", deep, small_deep)] {
            let measure = among_thousand.max(full);
            if cost > measure * GROWTH + NOISE {
                slow.push(format!("{name}, {what} page: {cost:?} against {measure:?}"));
            }
        }
    }
    tell(&format!(
        "million: pages that cost more than {GROWTH} times as much: {slow:?}"
    ));
    ensure!(slow.is_empty(), "{slow:?}");
    Ok(())
}

/// The median costs of the first page of 100 and of one from the middle.
async fn pages(store: &SeaStore, query: UserQuery) -> Result<(Duration, Duration)> {
    let query = UserQuery { limit: 100, ..query };
    let first = store.list_users(&query).await?;
    let last = first.last().context("nobody is listed")?;
    // The middle of what there is: half of all ids by the key of somebody in the middle of the tenant.
    let middle = match query.order {
        UserOrder::Name => After {
            key: "silva 8".into(),
            id: Uuid::nil(),
        },
        UserOrder::Email => After {
            key: "p5".into(),
            id: Uuid::nil(),
        },
        UserOrder::Created | UserOrder::LastLogin => After {
            key: key(last, query.order),
            id: last.id.0,
        },
    };
    let deep = UserQuery {
        after: Some(middle),
        ..query.clone()
    };
    Ok((median(store, &query).await?, median(store, &deep).await?))
}

fn key(user: &User, order: UserOrder) -> String {
    let at = match order {
        UserOrder::LastLogin => user.last_login_at.unwrap_or_default(),
        _ => user.created_at,
    };
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

async fn median(store: &SeaStore, query: &UserQuery) -> Result<Duration> {
    let mut costs = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        store.list_users(query).await?;
        costs.push(began.elapsed());
    }
    costs.sort();
    Ok(costs[ROUNDS / 2])
}

/// How often one of the tables was read as a whole so far.
async fn scans(database: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar(SCANS).fetch_one(database).await?)
}

/// Makes what connections counted visible to others.
async fn settle(database: &mut PgConnection) -> Result<()> {
    // Each connection reports at most once a second, when it is idle.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    sqlx::query("SELECT pg_stat_clear_snapshot()").execute(database).await?;
    Ok(())
}

/// Fills the tables without their indexes, which come back as they were.
async fn fill(database: &mut PgConnection, now: DateTime<Utc>) -> Result<()> {
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename IN \
         ('users', 'group_members', 'role_assignments', 'invitations') AND indexname NOT LIKE '%_pkey'",
    )
    .fetch_all(&mut *database)
    .await?;
    for (name, _) in &indexes {
        sqlx::query(AssertSqlSafe(format!("DROP INDEX {name}")))
            .execute(&mut *database)
            .await?;
    }
    for tenant in 1..=TENANTS {
        let rows = if tenant == 1 { LARGE } else { SMALL };
        let id = Uuid::from_u128(tenant);
        sqlx::query("INSERT INTO tenants (tenant_id, version, settings, created_at) VALUES ($1, 1, '{}', $2)")
            .bind(id)
            .bind(now)
            .execute(&mut *database)
            .await?;
        sqlx::query(USERS)
            .bind(id)
            .bind(now)
            .bind(rows)
            .execute(&mut *database)
            .await?;
        sqlx::query(MEMBERS).bind(id).bind(rows).execute(&mut *database).await?;
        sqlx::query(HOLDERS).bind(id).bind(rows).execute(&mut *database).await?;
        sqlx::query(INVITATIONS)
            .bind(id)
            .bind(now)
            .bind(rows)
            .execute(&mut *database)
            .await?;
    }
    sqlx::query("SET maintenance_work_mem = '512MB'")
        .execute(&mut *database)
        .await?;
    for (_, definition) in indexes {
        sqlx::query(AssertSqlSafe(definition)).execute(&mut *database).await?;
    }
    for table in ["users", "group_members", "role_assignments", "invitations"] {
        sqlx::query(AssertSqlSafe(format!("VACUUM ANALYZE {table}")))
            .execute(&mut *database)
            .await?;
    }
    Ok(())
}
