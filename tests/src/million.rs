//! A million users in one tenant among 50, the lists that are asked for, and what a page of them costs (U3, U6).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use usher_core::ids::{GroupId, TenantId};
use usher_core::ports::{Activity, After, Directory as _, UserOrder, UserQuery};
use usher_core::role::{BuiltInRole, RoleRef};
use usher_core::status::StatusName;
use usher_core::user::User;
use usher_store::SeaStore;
use uuid::Uuid;

/// What a page may cost more among a million than among a thousand.
pub const GROWTH: u32 = 2;
/// The tenant with a million users.
pub const LARGE: TenantId = TenantId(Uuid::from_u128(1));
/// One of those with a thousand.
pub const SMALL: TenantId = TenantId(Uuid::from_u128(2));
/// All of them.
const TENANTS: u128 = 50;
const ROUNDS: usize = 7;

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
const MEMBERS: &str = "INSERT INTO group_members (tenant_id, group_id, user_id, user_created_at) \
    SELECT $1, ('00000000-0000-0000-0000-00000000000' || n % 10)::uuid, md5($1::text || n)::uuid, $3 - n * interval '1 second' \
    FROM generate_series(1, $2) n \
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

/// One list.
#[derive(Debug)]
pub struct Asked {
    /// What is asked for.
    pub name: &'static str,
    /// The same of a tenant at an instant.
    pub query: fn(TenantId, DateTime<Utc>) -> UserQuery,
}

/// Each filter, and each order.
pub fn asked() -> Vec<Asked> {
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

/// The median costs of the first page of 100 and of one from the middle.
pub async fn pages(store: &SeaStore, query: UserQuery) -> Result<(Duration, Duration)> {
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

/// Fills the tables without their indexes, which come back as they were.
pub async fn fill(database: &mut PgConnection, now: DateTime<Utc>) -> Result<()> {
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
        let id = Uuid::from_u128(tenant);
        let rows = if id == LARGE.0 { 1_000_000 } else { 1_000 };
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
        sqlx::query(MEMBERS)
            .bind(id)
            .bind(rows)
            .bind(now)
            .execute(&mut *database)
            .await?;
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
