//! Bulk jobs and what they work on.

use std::collections::HashSet;

use async_trait::async_trait;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, Order, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use usher_core::clock::Timestamp;
use usher_core::ids::{JobId, SelectionId, TenantId, UserId};
use usher_core::job::{ItemInput, ItemResult, Job, Selection};
use usher_core::ports::{JobQuery, Jobs, StoreError, UserQuery};
use uuid::Uuid;

use crate::bulk::{OnConflict, insert};
use crate::entity::{job, job_chunk, selection, selection_chunk, user};
use crate::error::{store_error, unreadable};
use crate::sql::{Sql, columns_of};
use crate::{SeaStore, list};

#[async_trait]
impl Jobs for SeaStore {
    #[tracing::instrument(name = "db.matching_users", skip_all, err(level = "debug"))]
    async fn matching_users(
        &self,
        query: &UserQuery,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut select = list::matching(self.backend, query);
        if let Some(after) = after {
            select = select.filter(user::Column::UserId.gt(after.0));
        }
        let ids: Vec<Uuid> = select
            .select_only()
            .column(user::Column::UserId)
            .order_by_asc(user::Column::UserId)
            .limit(u64::from(limit))
            .into_tuple()
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    async fn among(&self, query: &UserQuery, users: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        if users.is_empty() {
            return Ok(HashSet::new());
        }
        let mut wanted = Sql::new(self.backend, "");
        wanted.is_any("users.user_id", users.iter().map(|user| user.0.into()));
        let ids: Vec<Uuid> = list::matching(self.backend, query)
            .filter(list::condition(wanted))
            .select_only()
            .column(user::Column::UserId)
            .into_tuple()
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    #[tracing::instrument(name = "db.put_chunk", skip_all, err(level = "debug"))]
    async fn put_chunk(
        &self,
        tenant: TenantId,
        selection: SelectionId,
        number: i32,
        items: &[ItemInput],
    ) -> Result<(), StoreError> {
        let row = selection_chunk::Model {
            tenant_id: tenant.0,
            selection_id: selection.0,
            number,
            items: serde_json::to_string(items).map_err(|error| unreadable("an item", error))?,
        };
        self.put(insert::<selection_chunk::Entity>(
            self.backend,
            &[row],
            &[],
            OnConflict::Replace,
        ))
        .await
    }

    async fn put_selection(&self, selection: &Selection) -> Result<(), StoreError> {
        self.put(insert::<selection::Entity>(
            self.backend,
            &[selection.into()],
            &[],
            OnConflict::Replace,
        ))
        .await
    }

    async fn selection(&self, tenant: TenantId, id: SelectionId) -> Result<Option<Selection>, StoreError> {
        let row = selection::Entity::find_by_id((tenant.0, id.0)).one(&self.reader).await;
        Ok(row.map_err(store_error)?.map(Selection::from))
    }

    async fn chunk(
        &self,
        tenant: TenantId,
        selection: SelectionId,
        number: i32,
    ) -> Result<Option<Vec<ItemInput>>, StoreError> {
        let row = selection_chunk::Entity::find_by_id((tenant.0, selection.0, number))
            .one(&self.reader)
            .await;
        row.map_err(store_error)?
            .map(|row| serde_json::from_str(&row.items).map_err(|error| unreadable("an item", error)))
            .transpose()
    }

    async fn job(&self, tenant: TenantId, id: JobId) -> Result<Option<Job>, StoreError> {
        let row = job::Entity::find_by_id((tenant.0, id.0)).one(&self.reader).await;
        row.map_err(store_error)?.map(Job::try_from).transpose()
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StoreError> {
        use job::Column;
        let mut select = job::Entity::find().filter(Column::TenantId.eq(query.tenant.0));
        if !query.states.is_empty() {
            select = select.filter(Column::State.is_in(query.states.iter().map(|state| state.as_str())));
        }
        if let Some(actor) = &query.actor {
            select = select.filter(Column::Actor.eq(actor.as_str()));
        }
        if let Some(origin) = query.origin {
            select = select.filter(Column::OriginId.eq(origin.0));
        }
        let after = list::newest_first(query.after.as_ref())?;
        let rows = list::page(
            select,
            (Column::CreatedAt, Column::JobId),
            &Order::Desc,
            after,
            query.limit,
        );
        let rows = rows.all(&self.reader).await.map_err(store_error)?;
        rows.into_iter().map(Job::try_from).collect()
    }

    async fn outcomes(
        &self,
        tenant: TenantId,
        job: JobId,
        from: i32,
        limit: u32,
    ) -> Result<Vec<(i32, Vec<ItemResult>)>, StoreError> {
        use job_chunk::Column;
        let rows = job_chunk::Entity::find()
            .filter(Column::TenantId.eq(tenant.0))
            .filter(Column::JobId.eq(job.0))
            .filter(Column::Number.gte(from))
            .order_by_asc(Column::Number)
            .limit(u64::from(limit))
            .all(&self.reader)
            .await;
        rows.map_err(store_error)?
            .into_iter()
            .map(|row| {
                let outcomes = serde_json::from_str(&row.outcomes).map_err(|error| unreadable("an outcome", error))?;
                Ok((row.number, outcomes))
            })
            .collect()
    }

    #[tracing::instrument(name = "db.claim_job", level = "debug", skip_all, err(level = "debug"))]
    async fn claim_job(&self, owner: &str, now: Timestamp, until: Timestamp) -> Result<Option<Job>, StoreError> {
        // Mostly there is none: that is asked without a lock.
        let running = job::Entity::find().filter(Expr::cust("state = 'RUNNING'"));
        if running.one(&self.reader).await.map_err(store_error)?.is_none() {
            return Ok(None);
        }
        // The tenant whose last turn was longest ago, however many jobs it has; of its jobs, the one whose turn was.
        let columns = columns_of::<job::Entity>("jobs");
        let mut sql = Sql::new(self.backend, "UPDATE jobs SET lease_owner = ");
        sql.bind(owner)
            .push(", lease_until = ")
            .bind(until)
            .push(", served_at = ");
        sql.bind(now);
        sql.push(
            " WHERE (tenant_id, job_id) IN (SELECT j.tenant_id, j.job_id FROM jobs j \
             JOIN (SELECT tenant_id, MAX(served_at) AS served_at FROM jobs WHERE state = 'RUNNING' GROUP BY tenant_id) t \
             ON t.tenant_id = j.tenant_id \
             WHERE j.state = 'RUNNING' AND (j.lease_until IS NULL OR j.lease_until < ",
        );
        sql.bind(now)
            .push(") ORDER BY COALESCE(t.served_at, j.created_at), COALESCE(j.served_at, j.created_at) LIMIT 1");
        if self.backend == DbBackend::Postgres {
            sql.push(" FOR UPDATE OF j SKIP LOCKED");
        }
        sql.push(") RETURNING ").push(&columns);
        let row = job::Entity::find()
            .from_raw_sql(sql.into_statement())
            .one(&self.writer)
            .await;
        row.map_err(store_error)?.map(Job::try_from).transpose()
    }

    async fn release_job(&self, tenant: TenantId, id: JobId, owner: &str) -> Result<(), StoreError> {
        let mut sql = Sql::new(
            self.backend,
            "UPDATE jobs SET lease_owner = NULL, lease_until = NULL WHERE tenant_id = ",
        );
        sql.bind(tenant.0).push(" AND job_id = ").bind(id.0);
        sql.push(" AND lease_owner = ").bind(owner);
        self.put(vec![sql]).await
    }

    async fn prune_jobs(&self, now: Timestamp, ended_before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let limit = i64::from(limit);
        let mut gone = 0;
        // Jobs first: a selection that nothing needs any more goes with the next round.
        let mut of_jobs = Sql::new(
            self.backend,
            "DELETE FROM job_chunks WHERE (tenant_id, job_id, number) IN (SELECT c.tenant_id, c.job_id, c.number \
             FROM jobs j JOIN job_chunks c ON c.tenant_id = j.tenant_id AND c.job_id = j.job_id WHERE j.ended_at < ",
        );
        of_jobs.bind(ended_before).push(" LIMIT ").bind(limit).push(")");
        let mut jobs = Sql::new(
            self.backend,
            "DELETE FROM jobs WHERE (tenant_id, job_id) IN (SELECT j.tenant_id, j.job_id FROM jobs j WHERE j.ended_at < ",
        );
        jobs.bind(ended_before)
            .push(" AND NOT EXISTS (SELECT 1 FROM job_chunks c WHERE c.tenant_id = j.tenant_id AND c.job_id = j.job_id) LIMIT ")
            .bind(limit)
            .push(")");
        // What is made of a job's items again needs the items for as long as there is a report (RetryFailed).
        let unused = "NOT EXISTS (SELECT 1 FROM jobs j WHERE j.tenant_id = s.tenant_id \
                      AND j.selection_id = s.selection_id AND (j.state = 'RUNNING' OR ((j.failed > 0 OR j.skipped > 0) \
                      AND (j.action = '\"undo\"' OR j.action LIKE '{\"import\"%'))))";
        let mut of_selections = Sql::new(
            self.backend,
            "DELETE FROM selection_chunks WHERE (tenant_id, selection_id, number) IN (SELECT c.tenant_id, \
             c.selection_id, c.number FROM selections s JOIN selection_chunks c ON c.tenant_id = s.tenant_id \
             AND c.selection_id = s.selection_id WHERE s.usable_until < ",
        );
        of_selections.bind(now).push(" AND ").push(unused).push(" LIMIT ");
        of_selections.bind(limit).push(")");
        let mut selections = Sql::new(
            self.backend,
            "DELETE FROM selections WHERE (tenant_id, selection_id) IN (SELECT s.tenant_id, s.selection_id \
             FROM selections s WHERE s.usable_until < ",
        );
        selections.bind(now).push(" AND ").push(unused).push(
            " AND NOT EXISTS (SELECT 1 FROM selection_chunks c WHERE c.tenant_id = s.tenant_id \
             AND c.selection_id = s.selection_id) LIMIT ",
        );
        selections.bind(limit).push(")");
        // A run that was dismissed spares people for as long as the policy says: these few stay.
        let mut runs = Sql::new(
            self.backend,
            "DELETE FROM inactivity_runs WHERE (tenant_id, run_id) IN (SELECT r.tenant_id, r.run_id \
             FROM inactivity_runs r WHERE r.state = 'DONE' AND r.ended_at < ",
        );
        runs.bind(ended_before).push(" LIMIT ").bind(limit).push(")");
        for sql in [of_jobs, jobs, of_selections, selections, runs] {
            let done = self.writer.execute_raw(sql.into_statement()).await;
            gone += done.map_err(store_error)?.rows_affected();
        }
        Ok(gone)
    }
}

impl SeaStore {
    async fn put(&self, statements: Vec<Sql>) -> Result<(), StoreError> {
        for sql in statements {
            self.writer
                .execute_raw(sql.into_statement())
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }
}
