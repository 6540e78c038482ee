//! Reads outside of transactions, but for lists, which are in `list`.

use std::collections::HashMap;

use async_trait::async_trait;
use sea_orm::Iterable as _;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select};
use usher_core::account::{Account, Belonging};
use usher_core::clock::Timestamp;
use usher_core::event::Event;
use usher_core::group::Group;
use usher_core::ids::{DeliveryId, InvitationId, TenantId, UserId};
use usher_core::inactivity::InactivityRun;
use usher_core::invitation::Invitation;
use usher_core::ports::{
    After, AssignmentQuery, DeliveryQuery, DeliveryRecord, Directory, FoundMail, GroupQuery, InactivityQuery,
    InvitationQuery, Keys, Loaded, MailRef, StoreError, Suppression, UserQuery, WarnedQuery,
};
use usher_core::role::{Assignment, CustomRole, Scope};
use usher_core::seats::{SeatEntry, SeatUsage};
use usher_core::template::{TemplateKey, TemplateVersion};
use usher_core::tenant::Tenant;
use usher_core::user::User;
use uuid::Uuid;

use crate::entity::{group, history, invitation, outbox, role, suppression, template, tenant, user};
use crate::error::store_error;
use crate::load::{Locking, load, people};
use crate::sql::{Sql, columns_of};
use crate::{SeaStore, find_mails, list, list_people, warned};

/// Keys of one statement: twice as many values are bound on SQLite, whose limit is 32,766.
const CHUNK: usize = 10_000;

fn versions_of(tenant: TenantId, key: &TemplateKey) -> Select<template::Entity> {
    use template::Column;
    template::Entity::find()
        .filter(Column::TenantId.eq(tenant.0))
        .filter(Column::Kind.eq(key.kind.as_str()))
        .filter(Column::Step.eq(key.step))
        .filter(Column::Language.eq(key.language.as_str()))
}

#[async_trait]
impl Directory for SeaStore {
    async fn tenant(&self, tenant: TenantId) -> Result<Option<Tenant>, StoreError> {
        let row = tenant::Entity::find_by_id(tenant.0).one(&self.reader).await;
        row.map_err(store_error)?.map(Tenant::try_from).transpose()
    }

    #[tracing::instrument(name = "db.users", skip_all, fields(count = ids.len()), err(level = "debug"))]
    async fn users(&self, ids: &[(TenantId, UserId)]) -> Result<Vec<User>, StoreError> {
        let mut users = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let columns = columns_of::<user::Entity>("u");
            let mut sql = Sql::new(
                self.backend,
                format!("SELECT {columns} FROM users u WHERE (u.tenant_id, u.user_id) IN ("),
            );
            sql.set(chunk.iter().map(|(tenant, user)| [tenant.0.into(), user.0.into()]))
                .push(")");
            let rows = user::Entity::find()
                .from_raw_sql(sql.into_statement())
                .all(&self.reader)
                .await;
            for row in rows.map_err(store_error)? {
                users.push(row.try_into()?);
            }
        }
        Ok(users)
    }

    async fn user_by_email(&self, tenant: TenantId, key: &str) -> Result<Option<User>, StoreError> {
        let row = user::Entity::find()
            .filter(user::Column::TenantId.eq(tenant.0))
            .filter(user::Column::EmailKey.eq(key))
            .filter(list::not_erased())
            .one(&self.reader)
            .await;
        row.map_err(store_error)?.map(User::try_from).transpose()
    }

    async fn user_by_external_id(&self, tenant: TenantId, id: &str) -> Result<Option<User>, StoreError> {
        let row = user::Entity::find()
            .filter(user::Column::TenantId.eq(tenant.0))
            .filter(user::Column::ExternalId.eq(id))
            .one(&self.reader)
            .await;
        row.map_err(store_error)?.map(User::try_from).transpose()
    }

    #[tracing::instrument(name = "db.inactive_users", skip_all, err(level = "debug"))]
    async fn inactive_users(&self, query: &InactivityQuery) -> Result<Vec<User>, StoreError> {
        self.page_of_inactive(query).await
    }

    #[tracing::instrument(name = "db.count_inactive", skip_all, err(level = "debug"))]
    async fn count_inactive(&self, query: &InactivityQuery) -> Result<i64, StoreError> {
        self.number_of_inactive(query).await
    }

    async fn inactivity_runs(
        &self,
        tenant: TenantId,
        after: Option<After>,
        limit: u32,
    ) -> Result<Vec<InactivityRun>, StoreError> {
        self.page_of_runs(tenant, after.as_ref(), limit).await
    }

    #[tracing::instrument(name = "db.list_users", skip_all, err(level = "debug"))]
    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError> {
        let rows = list::users(self.backend, query)?.all(&self.reader).await;
        rows.map_err(store_error)?.into_iter().map(User::try_from).collect()
    }

    async fn account(&self, tenant: TenantId, user: UserId) -> Result<Option<Account>, StoreError> {
        let keys = Keys {
            users: [(tenant, user)].into(),
            with_mail: true,
            with_belonging: true,
            ..Keys::default()
        };
        let mut loaded = load(&self.reader, &keys, Locking::None).await?;
        Ok(loaded.accounts.remove(&(tenant, user)))
    }

    #[tracing::instrument(name = "db.look", skip_all, err(level = "debug"))]
    async fn look(&self, keys: &Keys) -> Result<Loaded, StoreError> {
        load(&self.reader, keys, Locking::None).await
    }

    async fn invitation(&self, tenant: TenantId, id: InvitationId) -> Result<Option<Invitation>, StoreError> {
        let row = invitation::Entity::find_by_id((tenant.0, id.0)).one(&self.reader).await;
        row.map_err(store_error)?.map(Invitation::try_from).transpose()
    }

    #[tracing::instrument(name = "db.list_invitations", skip_all, err(level = "debug"))]
    async fn list_invitations(&self, query: &InvitationQuery) -> Result<Vec<Invitation>, StoreError> {
        let rows = list::invitations(self.backend, query)?.all(&self.reader).await;
        rows.map_err(store_error)?
            .into_iter()
            .map(Invitation::try_from)
            .collect()
    }

    #[tracing::instrument(name = "db.list_deliveries", skip_all, err(level = "debug"))]
    async fn list_deliveries(&self, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, StoreError> {
        let rows = list::deliveries(self.backend, query)?
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        let ids: Vec<_> = rows.iter().map(|row| row.delivery_id).collect();
        let mut attempts = list::attempts(&self.reader, query.tenant, ids).await?;
        rows.into_iter()
            .map(|row| {
                let attempts = attempts.remove(&row.delivery_id).unwrap_or_default();
                Ok(DeliveryRecord {
                    delivery: row.try_into()?,
                    attempts,
                })
            })
            .collect()
    }

    #[tracing::instrument(name = "db.find_mails", skip_all, err(level = "debug"))]
    async fn find_mails(&self, tenant: TenantId, wanted: &[MailRef]) -> Result<Vec<Option<FoundMail>>, StoreError> {
        find_mails::find_mails(&self.reader, tenant, wanted).await
    }

    async fn list_suppressions(
        &self,
        tenant: TenantId,
        after: Option<After>,
        limit: u32,
    ) -> Result<Vec<Suppression>, StoreError> {
        let rows = list::suppressions(tenant, after.as_ref(), limit)?
            .all(&self.reader)
            .await;
        Ok(rows.map_err(store_error)?.into_iter().map(Suppression::from).collect())
    }

    async fn suppression(&self, tenant: TenantId, key: &str) -> Result<Option<Suppression>, StoreError> {
        let row = suppression::Entity::find_by_id((tenant.0, key.to_owned()))
            .one(&self.reader)
            .await;
        Ok(row.map_err(store_error)?.map(Suppression::from))
    }

    async fn belongings(
        &self,
        users: &[(TenantId, UserId)],
    ) -> Result<HashMap<(TenantId, UserId), Belonging>, StoreError> {
        people::belongings(&self.reader, users).await
    }

    async fn groups(&self, tenant: TenantId) -> Result<Vec<Group>, StoreError> {
        let rows = group::Entity::find()
            .filter(group::Column::TenantId.eq(tenant.0))
            .all(&self.reader)
            .await;
        Ok(rows.map_err(store_error)?.into_iter().map(Group::from).collect())
    }

    async fn list_groups(&self, query: &GroupQuery) -> Result<Vec<Group>, StoreError> {
        let rows = list_people::groups(query).all(&self.reader).await;
        Ok(rows.map_err(store_error)?.into_iter().map(Group::from).collect())
    }

    async fn roles(&self, tenant: TenantId) -> Result<Vec<CustomRole>, StoreError> {
        let rows = role::Entity::find()
            .filter(role::Column::TenantId.eq(tenant.0))
            .order_by_asc(role::Column::NameKey)
            .all(&self.reader)
            .await;
        rows.map_err(store_error)?
            .into_iter()
            .map(CustomRole::try_from)
            .collect()
    }

    async fn list_assignments(&self, query: &AssignmentQuery) -> Result<Vec<Assignment>, StoreError> {
        let rows = list_people::assignments(query).all(&self.reader).await;
        rows.map_err(store_error)?
            .into_iter()
            .map(Assignment::try_from)
            .collect()
    }

    async fn seat_usage(&self, tenant: TenantId, now: Timestamp, horizon: Timestamp) -> Result<SeatUsage, StoreError> {
        list_people::seat_usage(self, tenant, now, horizon).await
    }

    async fn seat_ledger(
        &self,
        tenant: TenantId,
        user: Option<UserId>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<(i64, SeatEntry)>, StoreError> {
        let rows = list_people::seat_ledger(tenant, user, before, limit)
            .all(&self.reader)
            .await;
        rows.map_err(store_error)?
            .into_iter()
            .map(|row| Ok((row.sequence, row.try_into()?)))
            .collect()
    }

    async fn seat_queue(&self, tenant: TenantId, now: Timestamp, limit: u32) -> Result<Vec<UserId>, StoreError> {
        let users = list_people::seat_queue(tenant, now, limit);
        let users: Vec<Uuid> = users.into_tuple().all(&self.reader).await.map_err(store_error)?;
        Ok(users.into_iter().map(UserId).collect())
    }

    #[tracing::instrument(name = "db.to_be_warned", skip_all, err(level = "debug"))]
    async fn to_be_warned(
        &self,
        tenant: TenantId,
        now: Timestamp,
        horizons: &[Timestamp],
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        let users = list_people::to_be_warned(tenant, now, horizons, limit);
        let users: Vec<Uuid> = users.into_tuple().all(&self.reader).await.map_err(store_error)?;
        Ok(users.into_iter().map(UserId).collect())
    }

    #[tracing::instrument(name = "db.administrators", skip_all, err(level = "debug"))]
    async fn administrators(&self, tenant: TenantId, now: Timestamp) -> Result<Vec<(UserId, Scope)>, StoreError> {
        warned::administrators(self, tenant, now).await
    }

    #[tracing::instrument(name = "db.people_warned", skip_all, err(level = "debug"))]
    async fn people_warned(&self, query: &WarnedQuery) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        warned::people(self, query).await
    }

    #[tracing::instrument(name = "db.waiting_mails", skip_all, err(level = "debug"))]
    async fn waiting_mails(
        &self,
        tenant: TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(UserId, DeliveryId)>, StoreError> {
        let mails = list::waiting_mails(tenant, before, limit);
        let mails: Vec<(Uuid, Uuid)> = mails.into_tuple().all(&self.reader).await.map_err(store_error)?;
        let ids = |(user, mail)| (UserId(user), DeliveryId(mail));
        Ok(mails.into_iter().map(ids).collect())
    }

    async fn template(
        &self,
        tenant: TenantId,
        key: &TemplateKey,
        version: i64,
    ) -> Result<Option<TemplateVersion>, StoreError> {
        let row = versions_of(tenant, key)
            .filter(template::Column::Version.eq(version))
            .one(&self.reader)
            .await;
        row.map_err(store_error)?.map(TemplateVersion::try_from).transpose()
    }

    async fn list_template_versions(
        &self,
        tenant: TenantId,
        key: &TemplateKey,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<TemplateVersion>, StoreError> {
        // Their texts stay where they are.
        let mut select = versions_of(tenant, key).select_only();
        for column in template::Column::iter() {
            select = match column {
                template::Column::Subject | template::Column::Body | template::Column::Mjml => {
                    select.column_as(Expr::val(""), column)
                }
                column => select.column(column),
            };
        }
        if let Some(before) = before {
            select = select.filter(template::Column::Version.lt(before));
        }
        let rows = select
            .order_by_desc(template::Column::Version)
            .limit(u64::from(limit))
            .all(&self.reader)
            .await;
        rows.map_err(store_error)?
            .into_iter()
            .map(TemplateVersion::try_from)
            .collect()
    }

    async fn history(&self, tenant: TenantId, user: UserId, limit: u32) -> Result<Vec<Event>, StoreError> {
        let rows = history::Entity::find()
            .filter(history::Column::TenantId.eq(tenant.0))
            .filter(history::Column::UserId.eq(user.0))
            .order_by_desc(history::Column::Sequence)
            .limit(u64::from(limit))
            .all(&self.reader)
            .await;
        let rows = rows.map_err(store_error)?;
        rows.iter().map(|row| outbox::decode(&row.body)).collect()
    }
}
