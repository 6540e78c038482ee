//! The outbox: following it, and publishing from it. How far it can be followed is decided in `horizon`.
//!
//! A cursor is the sequence of the last event that was passed.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, EntityTrait as _, FromQueryResult, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use usher_core::event::Event;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{Cursor, Followed, LaneLease, Outbox, OutboxRow, StoreError};
use uuid::Uuid;

use crate::SeaStore;
use crate::entity::{outbox, position};
use crate::error::store_error;
use crate::sql::Sql;

#[derive(FromQueryResult)]
struct Row {
    sequence: i64,
    body: String,
}

/// How many events a look for changed users reads at once.
const PAGE: u64 = 10_000;

#[async_trait]
impl Outbox for SeaStore {
    async fn end(&self) -> Result<Cursor, StoreError> {
        let (_, settled) = self.horizon.wait(&self.reader).await?;
        Ok(cursor(settled))
    }

    async fn beginning(&self) -> Result<Cursor, StoreError> {
        let (marks, _) = self.horizon.look(&self.reader).await?;
        Ok(cursor(marks.pruned))
    }

    #[tracing::instrument(name = "db.follow", level = "debug", skip_all, err(level = "debug"))]
    async fn follow(
        &self,
        after: &Cursor,
        tenant: Option<TenantId>,
        limit: u32,
    ) -> Result<Option<Followed>, StoreError> {
        let Some(from) = sequence(after) else {
            return Ok(None);
        };
        let (marks, settled) = self.horizon.wait(&self.reader).await?;
        if from < marks.pruned || from > marks.issued {
            return Ok(None);
        }
        let mut select = outbox::Entity::find()
            .select_only()
            .columns([outbox::Column::Sequence, outbox::Column::Body])
            .filter(outbox::Column::Sequence.gt(from))
            .filter(outbox::Column::Sequence.lte(settled));
        if let Some(tenant) = tenant {
            select = select.filter(outbox::Column::TenantId.eq(tenant.0));
        }
        let rows: Vec<(i64, String)> = select
            .order_by_asc(outbox::Column::Sequence)
            .limit(u64::from(limit))
            .into_tuple()
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        let last = rows.last().map(|(sequence, _)| *sequence);
        let is_full = u32::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let to = last.filter(|_| is_full).unwrap_or(settled).max(from);
        let events = rows
            .into_iter()
            .map(|(sequence, body)| Ok((cursor(sequence), outbox::decode(&body)?)))
            .collect::<Result<Vec<(Cursor, Event)>, StoreError>>()?;
        Ok(Some(Followed {
            events,
            cursor: cursor(to),
            more: to < settled,
        }))
    }

    async fn touched(&self, after: &Cursor) -> Result<(Vec<(TenantId, UserId)>, Cursor), StoreError> {
        let kept = |from: i64, pruned: i64, issued: i64| (pruned..=issued).contains(&from);
        // What is settled is looked up first: what becomes visible between the two is answered twice, never skipped.
        let (marks, settled) = self.horizon.look(&self.reader).await?;
        let from = sequence(after)
            .filter(|from| kept(*from, marks.pruned, marks.issued))
            .ok_or_else(|| StoreError::Internal(format!("events after {} are not kept; begin at the end", after.0)))?;
        let mut users = Vec::new();
        let mut read_to = from;
        loop {
            let rows: Vec<(i64, Uuid, Option<Uuid>)> = outbox::Entity::find()
                .select_only()
                .columns([
                    outbox::Column::Sequence,
                    outbox::Column::TenantId,
                    outbox::Column::UserId,
                ])
                .filter(outbox::Column::Sequence.gt(read_to))
                .order_by_asc(outbox::Column::Sequence)
                .limit(PAGE)
                .into_tuple()
                .all(&self.reader)
                .await
                .map_err(store_error)?;
            let Some((last, ..)) = rows.last() else { break };
            read_to = *last;
            let is_full = rows.len() as u64 == PAGE;
            users.extend(
                rows.into_iter()
                    .filter_map(|(_, tenant, user)| Some((TenantId(tenant), UserId(user?)))),
            );
            if !is_full {
                break;
            }
        }
        users.sort_unstable();
        users.dedup();
        Ok((users, cursor(settled.max(from))))
    }

    async fn lease_lanes(
        &self,
        owner: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<LaneLease, StoreError> {
        crate::lanes::lease(self, owner, now, until).await
    }

    async fn release_lanes(&self, owner: &str) -> Result<(), StoreError> {
        crate::lanes::release(self, owner).await
    }

    async fn unpublished(&self, lanes: &[i16], except: &[i64], limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new(
            self.backend,
            "SELECT sequence, body FROM outbox WHERE published_at IS NULL AND ",
        );
        sql.is_any("lane", lanes.iter().map(|lane| (*lane).into()));
        if !except.is_empty() {
            sql.push(" AND ")
                .is_none("sequence", except.iter().map(|sequence| (*sequence).into()));
        }
        sql.push(" ORDER BY sequence LIMIT ").bind(i64::from(limit));
        let rows = Row::find_by_statement(sql.into_statement()).all(&self.reader).await;
        rows.map_err(store_error)?
            .into_iter()
            .map(|row| {
                Ok(OutboxRow {
                    sequence: row.sequence,
                    event: outbox::decode(&row.body)?,
                })
            })
            .collect()
    }

    async fn mark_published(&self, sequences: &[i64], now: DateTime<Utc>) -> Result<(), StoreError> {
        if sequences.is_empty() {
            return Ok(());
        }
        let mut sql = Sql::new(self.backend, "UPDATE outbox SET published_at = ");
        sql.bind(now).push(" WHERE published_at IS NULL AND ");
        // Looked up one by one. A join would be planned by statistics of a moment at which nothing waited, and compare
        // everything that waits with everything that was published.
        sql.is_any("sequence", sequences.iter().map(|sequence| (*sequence).into()));
        self.execute(sql).await
    }

    async fn load_position(&self, queue: &str) -> Result<Option<Cursor>, StoreError> {
        let row = position::Entity::find_by_id(queue).one(&self.reader).await;
        Ok(row.map_err(store_error)?.map(|row| Cursor(row.position)))
    }

    async fn save_position(&self, queue: &str, cursor: &Cursor) -> Result<(), StoreError> {
        position::Entity::insert(position::ActiveModel {
            queue: Set(queue.to_owned()),
            position: Set(cursor.0.clone()),
        })
        .on_conflict(
            OnConflict::column(position::Column::Queue)
                .update_column(position::Column::Position)
                .to_owned(),
        )
        .exec_without_returning(&self.writer)
        .await
        .map_err(store_error)?;
        Ok(())
    }
}

fn cursor(sequence: i64) -> Cursor {
    Cursor(sequence.to_string())
}

fn sequence(cursor: &Cursor) -> Option<i64> {
    cursor.0.parse().ok().filter(|sequence| *sequence >= 0)
}
