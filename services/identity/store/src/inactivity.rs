//! Who is inactive (B10), and the runs that were made of it.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{ColumnTrait as _, ConnectionTrait, DbBackend, EntityTrait as _, Order, QueryFilter as _};
use usher_core::ids::TenantId;
use usher_core::inactivity::{InactivityRun, RECENT_RUNS};
use usher_core::ports::{After, InactivityQuery, InactivityStep, StoreError};
use usher_core::user::User;

use crate::entity::{inactivity_run, user};
use crate::error::store_error;
use crate::load::{Locking, UNSETTLED};
use crate::sql::{Sql, columns_of};
use crate::{SeaStore, list};

impl SeaStore {
    pub(crate) async fn page_of_inactive(&self, query: &InactivityQuery) -> Result<Vec<User>, StoreError> {
        let columns = columns_of::<user::Entity>("u");
        let mut sql = Sql::new(self.backend, format!("SELECT {columns}"));
        let key = from_and_where(&mut sql, query);
        if let Some((at, user)) = query.position {
            sql.push(&format!(" AND ({key}, u.user_id) > (")).bind(at);
            sql.push(", ").bind(user.0).push(")");
        }
        sql.push(&format!(" ORDER BY {key}, u.user_id LIMIT "))
            .bind(i64::from(query.limit));
        let rows = user::Entity::find()
            .from_raw_sql(sql.into_statement())
            .all(&self.reader)
            .await;
        rows.map_err(store_error)?.into_iter().map(User::try_from).collect()
    }

    pub(crate) async fn number_of_inactive(&self, query: &InactivityQuery) -> Result<i64, StoreError> {
        let mut sql = Sql::new(self.backend, "SELECT COUNT(*) AS count");
        from_and_where(&mut sql, query);
        let row = self
            .reader
            .query_one_raw(sql.into_statement())
            .await
            .map_err(store_error)?;
        row.map_or(Ok(0), |row| row.try_get("", "count").map_err(store_error))
    }

    pub(crate) async fn page_of_runs(
        &self,
        tenant: TenantId,
        after: Option<&After>,
        limit: u32,
    ) -> Result<Vec<InactivityRun>, StoreError> {
        use inactivity_run::Column;
        let select = inactivity_run::Entity::find().filter(Column::TenantId.eq(tenant.0));
        let after = list::newest_first(after)?;
        let key = (Column::CreatedAt, Column::RunId);
        let rows = list::page(select, key, &Order::Desc, after, limit)
            .all(&self.reader)
            .await;
        let rows = rows.map_err(store_error)?.into_iter();
        rows.map(InactivityRun::try_from).collect()
    }
}

/// Everything between the columns and the order; answers what they are ordered by. In the words of the indexes.
fn from_and_where(sql: &mut Sql, query: &InactivityQuery) -> String {
    let greater = if sql.is_postgres() { "GREATEST" } else { "MAX" };
    let since = format!("{greater}(u.last_login_at, u.status_since)");
    sql.push(" FROM users u WHERE u.status = 'ACTIVE' AND u.tenant_id = ")
        .bind(query.tenant.0);
    sql.push(" AND (u.expires_at IS NULL OR u.expires_at > ")
        .bind(query.now)
        .push(&format!(") AND {since} <= "))
        .bind(query.since);
    if query.exempt_administrators {
        sql.push(
            " AND NOT EXISTS (SELECT 1 FROM role_assignments a WHERE a.tenant_id = u.tenant_id \
             AND a.user_id = u.user_id AND a.role = 'administrator')",
        );
    }
    match query.step {
        InactivityStep::Warn => {
            sql.push(" AND u.inactivity_warned_at IS NULL");
            since
        }
        InactivityStep::WarnAnew => {
            sql.push(" AND (u.inactivity_warned_at IS NULL OR ");
            is_stale(sql, &since, query);
            sql.push(")");
            since
        }
        InactivityStep::TakeBack => {
            sql.push(" AND u.inactivity_warned_at IS NOT NULL AND ");
            is_stale(sql, &since, query);
            "u.inactivity_warned_at".into()
        }
        InactivityStep::Deactivate { after, until } => {
            sql.push(" AND u.inactivity_warned_at IS NOT NULL AND NOT ");
            is_stale(sql, &since, query);
            sql.push(" AND u.inactivity_warned_at <= ").bind(until);
            if let Some(after) = after {
                sql.push(" AND u.inactivity_warned_at > ").bind(after);
            }
            sql.push(&format!(
                " AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant_id = u.tenant_id AND d.user_id = u.user_id \
                 AND d.{UNSETTLED} AND d.state <> 'UNCERTAIN' AND d.kind = 'INACTIVITY_WARNING')"
            ));
            "u.inactivity_warned_at".into()
        }
    }
}

/// Whether a warning does not hold: it was given before the policy was on, or too early for the inactivity. SQLite reckons in
/// whole seconds, which takes none that holds for one that does not.
fn is_stale(sql: &mut Sql, since: &str, query: &InactivityQuery) {
    let wait = query.policy.until_warning().num_seconds();
    if sql.is_postgres() {
        sql.push(&format!("(u.inactivity_warned_at < {since} + "))
            .bind(wait)
            .push("::bigint * INTERVAL '1 second'");
    } else {
        sql.push(&format!(
            "(CAST(strftime('%s', u.inactivity_warned_at) AS INTEGER) < CAST(strftime('%s', {since}) AS INTEGER) + "
        ))
        .bind(wait);
    }
    if let Some(on_since) = query.on_since {
        sql.push(" OR u.inactivity_warned_at < ").bind(on_since);
    }
    sql.push(")");
}

/// The newest runs of these tenants.
pub(crate) async fn runs<C: ConnectionTrait>(
    db: &C,
    tenants: &BTreeSet<TenantId>,
    locking: Locking,
) -> Result<HashMap<TenantId, Vec<InactivityRun>>, StoreError> {
    let columns = columns_of::<inactivity_run::Entity>("r");
    let mut found = HashMap::new();
    for tenant in tenants {
        let mut sql = Sql::new(
            db.get_database_backend(),
            format!("SELECT {columns} FROM inactivity_runs r WHERE r.tenant_id = "),
        );
        sql.bind(tenant.0)
            .push(" ORDER BY r.created_at DESC, r.run_id DESC LIMIT ")
            .bind(i64::from(RECENT_RUNS));
        if locking == Locking::ForUpdate && db.get_database_backend() == DbBackend::Postgres {
            sql.for_update("r");
        }
        let rows = inactivity_run::Entity::find()
            .from_raw_sql(sql.into_statement())
            .all(db)
            .await;
        let rows = rows.map_err(store_error)?.into_iter();
        let runs: Result<Vec<_>, StoreError> = rows.map(InactivityRun::try_from).collect();
        found.insert(*tenant, runs?);
    }
    Ok(found)
}
