//! What the commands of one transaction see: set by set, in as few round trips as there are kinds of rows.
//!
//! Order matters. All accounts are locked by one statement in the order of their ids, so that two batches cannot wait for
//! each other; only then is read what the lock protects, since each statement sees what was committed before it began.

pub(crate) mod erasures;
pub(crate) mod people;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, EntityTrait as _, FromQueryResult, Value};
use usher_core::account::{Account, Detached};
use usher_core::clock::Timestamp;
use usher_core::delivery::{Delivery, DeliveryKind};
use usher_core::ids::{DeliveryId, InvitationId, TenantId, UserId};
use usher_core::invitation::Invitation;
use usher_core::ports::{Keys, Loaded, StoreError};
use usher_core::status::Status;
use usher_core::tenant::Tenant;
use usher_core::user::User;
use uuid::Uuid;

use crate::entity::{delivery, invitation, response, suppression, tenant, user};
use crate::error::{store_error, unreadable};
use crate::sql::{Sql, columns_of};

/// The predicate of the index over mails that have not ended or are uncertain, as it stands in the migration: SQLite
/// takes a partial index only for the same words.
pub(crate) const UNSETTLED: &str = "state IN ('QUEUED', 'CLAIMED', 'TRANSMITTING', 'DEFERRED', 'UNCERTAIN')";

/// Whether rows are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    /// Against every other transaction.
    ForUpdate,
    /// Not at all.
    None,
}

type AccountKey = (TenantId, UserId);

/// Loads what the keys name.
pub(crate) async fn load<C: ConnectionTrait>(db: &C, keys: &Keys, locking: Locking) -> Result<Loaded, StoreError> {
    let users = users(db, keys, locking).await?;
    // After the lock: what decided before it was given, such as the end of a pause of mail, counts.
    let mut loaded = Loaded {
        tenants: tenants(db, keys, locking).await?,
        ..Loaded::default()
    };
    loaded.external_ids = external_ids(db, keys).await?;
    loaded.responses = responses(db, keys).await?;
    let mut mail = Mail::default();
    if keys.with_mail || !keys.deliveries.is_empty() || !keys.invitations.is_empty() {
        mail = Mail::load(db, keys, &users, locking).await?;
    }
    loaded.suppressed = suppressed(db, keys, &users).await?;
    loaded.groups = people::groups(db, keys, locking).await?;
    loaded.roles = people::roles(db, keys, locking).await?;
    loaded.held_roles = people::held_roles(db, keys).await?;
    let mut belongings = HashMap::new();
    if keys.with_belonging {
        let users: Vec<_> = users.iter().map(|user| (user.tenant, user.id)).collect();
        belongings = people::belongings(db, &users).await?;
    }
    let mut mailed = mailed(db, keys, &users, &loaded.tenants, &mail.deliveries).await?;
    loaded.jobs = people::jobs(db, keys, locking).await?;
    loaded.inactivity = crate::inactivity::runs(db, &keys.inactivity, locking).await?;
    loaded.erasures = erasures::erasures(db, keys, &users, locking).await?;
    loaded.subscribers = erasures::subscribers(db, keys).await?;
    loaded.erased = erasures::erased(db, keys).await?;
    if let Some(now) = keys.with_seats {
        let limited = loaded.tenants.values().filter(|tenant| tenant.settings.seat_limit > 0);
        let limited = limited.map(|tenant| tenant.id).collect();
        loaded.seats = people::seats(db, &limited, now, locking).await?;
    }

    loaded.invitations = mail.invitation_users;
    for delivery in &mail.deliveries {
        let key = (delivery.tenant, delivery.id);
        if !keys.deliveries.contains(&key) {
            continue;
        }
        match delivery.user {
            Some(user) => drop(loaded.deliveries.insert(key, user)),
            None => drop(loaded.detached.insert(key, Detached(delivery.clone()))),
        }
    }
    let mut deliveries: HashMap<AccountKey, Vec<Delivery>> = HashMap::new();
    for delivery in mail.deliveries {
        if let Some(user) = delivery.user {
            deliveries.entry((delivery.tenant, user)).or_default().push(delivery);
        }
    }
    for user in users {
        let key = (user.tenant, user.id);
        let email = (user.tenant, user.profile.email.key().to_owned());
        let tenant = loaded.tenants.get(&user.tenant).cloned();
        let account = Account {
            tenant: tenant.ok_or_else(|| unreadable("the tenant of user", user.id))?,
            invitation: mail.newest.remove(&key),
            deliveries: deliveries.remove(&key).unwrap_or_default(),
            suppressed: loaded.suppressed.contains(&email),
            seats: loaded.seats.get(&user.tenant).cloned().unwrap_or_default(),
            belonging: belongings.remove(&key).unwrap_or_default(),
            mailed_at: mailed.remove(&key).unwrap_or_default(),
            user,
        };
        if account.user.status != Status::Erased && keys.emails.contains(&email) {
            loaded.emails.insert(email, account.user.id);
        }
        loaded.accounts.insert(key, account);
    }
    // Of the addresses asked for only.
    loaded.suppressed.retain(|email| keys.emails.contains(email));
    Ok(loaded)
}

async fn tenants<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
    locking: Locking,
) -> Result<HashMap<TenantId, Arc<Tenant>>, StoreError> {
    let mut ids = keys.tenants.clone();
    ids.extend(keys.users.iter().map(|(tenant, _)| *tenant));
    ids.extend(keys.emails.iter().map(|(tenant, _)| *tenant));
    ids.extend(keys.invitations.iter().map(|(tenant, _)| *tenant));
    ids.extend(keys.deliveries.iter().map(|(tenant, _)| *tenant));
    ids.extend(&keys.trees);
    ids.extend(keys.erasures.iter().map(|(tenant, _)| *tenant));
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let columns = columns_of::<tenant::Entity>("t");
    let mut sql = Sql::new(
        db.get_database_backend(),
        format!("SELECT {columns} FROM tenants t WHERE t.tenant_id IN ("),
    );
    sql.set(ids.iter().map(|id| [id.0.into()]))
        .push(") ORDER BY t.tenant_id");
    if keys.lock_tenants && locking == Locking::ForUpdate {
        sql.for_update("t");
    }
    let rows = tenant::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
    rows.map_err(store_error)?
        .into_iter()
        .map(|row| Tenant::try_from(row).map(|tenant| (tenant.id, Arc::new(tenant))))
        .collect()
}

/// The accounts behind all keys that lead to one.
async fn users<C: ConnectionTrait>(db: &C, keys: &Keys, locking: Locking) -> Result<Vec<User>, StoreError> {
    let backend = db.get_database_backend();
    let mut sources: Vec<Sql> = Vec::new();
    if !keys.users.is_empty() {
        let mut source = Sql::new(backend, "");
        source.set(keys.users.iter().map(|(tenant, user)| [tenant.0.into(), user.0.into()]));
        sources.push(source);
    }
    if !keys.emails.is_empty() {
        let mut source = Sql::new(
            backend,
            "SELECT e.tenant_id, e.user_id FROM users e WHERE e.status <> 'ERASED' AND (e.tenant_id, e.email_key) IN (",
        );
        source.set(text_keys(&keys.emails)).push(")");
        sources.push(source);
    }
    if keys.external_accounts && !keys.external_ids.is_empty() {
        let mut source = Sql::new(
            backend,
            "SELECT x.tenant_id, x.user_id FROM users x WHERE x.external_id IS NOT NULL \
             AND (x.tenant_id, x.external_id) IN (",
        );
        source.set(text_keys(&keys.external_ids)).push(")");
        sources.push(source);
    }
    if !keys.invitations.is_empty() {
        let mut source = Sql::new(
            backend,
            "SELECT i.tenant_id, i.user_id FROM invitations i WHERE (i.tenant_id, i.invitation_id) IN (",
        );
        source.set(invitation_keys(keys.invitations.iter())).push(")");
        sources.push(source);
    }
    if !keys.deliveries.is_empty() {
        let mut source = Sql::new(
            backend,
            "SELECT d.tenant_id, d.user_id FROM deliveries d \
             WHERE d.user_id IS NOT NULL AND (d.tenant_id, d.delivery_id) IN (",
        );
        source.set(delivery_keys(keys.deliveries.iter())).push(")");
        sources.push(source);
    }
    if !keys.erasures.is_empty() {
        let mut source = Sql::new(
            backend,
            "SELECT r.tenant_id, r.user_id FROM erasures r WHERE (r.tenant_id, r.erasure_id) IN (",
        );
        source.set(erasures::keys(&keys.erasures)).push(")");
        sources.push(source);
    }
    let mut sources = sources.into_iter();
    let Some(first) = sources.next() else {
        return Ok(Vec::new());
    };
    let columns = columns_of::<user::Entity>("u");
    let mut sql = Sql::new(
        backend,
        format!("SELECT {columns} FROM users u WHERE (u.tenant_id, u.user_id) IN ("),
    );
    sql.append(first);
    for source in sources {
        sql.push(" UNION ").append(source);
    }
    sql.push(") ORDER BY u.tenant_id, u.user_id");
    if locking == Locking::ForUpdate {
        sql.for_update("u");
    }
    let rows = user::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
    rows.map_err(store_error)?.into_iter().map(User::try_from).collect()
}

#[derive(FromQueryResult)]
struct Owned<K: sea_orm::TryGetable> {
    tenant_id: Uuid,
    key: K,
    user_id: Uuid,
}

async fn external_ids<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
) -> Result<HashMap<(TenantId, String), UserId>, StoreError> {
    if keys.external_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut sql = Sql::new(
        db.get_database_backend(),
        "SELECT u.tenant_id, u.external_id AS key, u.user_id FROM users u \
         WHERE u.external_id IS NOT NULL AND (u.tenant_id, u.external_id) IN (",
    );
    sql.set(text_keys(&keys.external_ids)).push(")");
    let rows = Owned::<String>::find_by_statement(sql.into_statement()).all(db).await;
    let rows = rows.map_err(store_error)?.into_iter();
    Ok(rows
        .map(|row| ((TenantId(row.tenant_id), row.key), UserId(row.user_id)))
        .collect())
}

async fn responses<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
) -> Result<HashMap<(TenantId, String), usher_core::change::StoredResponse>, StoreError> {
    if keys.requests.is_empty() {
        return Ok(HashMap::new());
    }
    let columns = columns_of::<response::Entity>("r");
    let mut sql = Sql::new(
        db.get_database_backend(),
        format!("SELECT {columns} FROM responses r WHERE (r.tenant_id, r.request_id) IN ("),
    );
    sql.set(text_keys(&keys.requests)).push(")");
    let rows = response::Entity::find()
        .from_raw_sql(sql.into_statement())
        .all(db)
        .await;
    let rows = rows.map_err(store_error)?.into_iter();
    Ok(rows
        .map(|row| ((TenantId(row.tenant_id), row.request_id.clone()), row.into()))
        .collect())
}

/// The addresses asked for, and those of the accounts, that get no mail.
async fn suppressed<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
    users: &[User],
) -> Result<BTreeSet<(TenantId, String)>, StoreError> {
    let mut emails = keys.emails.clone();
    if keys.with_mail {
        emails.extend(
            users
                .iter()
                .map(|user| (user.tenant, user.profile.email.key().to_owned())),
        );
    }
    if emails.is_empty() {
        return Ok(BTreeSet::new());
    }
    let columns = columns_of::<suppression::Entity>("s");
    let mut sql = Sql::new(
        db.get_database_backend(),
        format!("SELECT {columns} FROM suppressions s WHERE (s.tenant_id, s.email_key) IN ("),
    );
    sql.set(text_keys(&emails)).push(")");
    let rows = suppression::Entity::find()
        .from_raw_sql(sql.into_statement())
        .all(db)
        .await;
    let rows = rows.map_err(store_error)?.into_iter();
    Ok(rows.map(|row| (TenantId(row.tenant_id), row.email_key)).collect())
}

#[derive(FromQueryResult)]
struct Mailed {
    tenant_id: Uuid,
    user_id: Uuid,
    ended_at: DateTime<Utc>,
    kind: String,
}

/// The mails that were sent to users of tenants that have a cap (B8), and to administrators whom one of a kind waits for that
/// goes out once a day (B9).
async fn mailed<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
    users: &[User],
    tenants: &HashMap<TenantId, Arc<Tenant>>,
    deliveries: &[Delivery],
) -> Result<HashMap<AccountKey, Vec<(Timestamp, DeliveryKind)>>, StoreError> {
    let daily = deliveries
        .iter()
        .filter(|mail| mail.kind == DeliveryKind::ExpiryWarningToAdministrators);
    let daily: BTreeSet<_> = daily.filter_map(|mail| Some((mail.tenant, mail.user?))).collect();
    let capped = |user: &&User| {
        let tenant = tenants.get(&user.tenant);
        daily.contains(&(user.tenant, user.id)) || tenant.is_some_and(|tenant| tenant.settings.daily_mail_cap > 0)
    };
    let users: Vec<_> = users.iter().filter(capped).collect();
    let Some(since) = keys.with_mailed_since.filter(|_| !users.is_empty()) else {
        return Ok(HashMap::new());
    };
    let mut sql = Sql::new(
        db.get_database_backend(),
        "SELECT d.tenant_id, d.user_id, d.ended_at, d.kind FROM deliveries d \
         WHERE d.state IN ('SENT', 'UNCERTAIN') AND d.ended_at >= ",
    );
    sql.bind(since).push(" AND (d.tenant_id, d.user_id) IN (");
    sql.set(users.iter().map(|user| [user.tenant.0.into(), user.id.0.into()]))
        .push(")");
    let rows = Mailed::find_by_statement(sql.into_statement()).all(db).await;
    let mut mailed: HashMap<AccountKey, Vec<(Timestamp, DeliveryKind)>> = HashMap::new();
    for row in rows.map_err(store_error)? {
        let key = (TenantId(row.tenant_id), UserId(row.user_id));
        let kind = DeliveryKind::from_name(&row.kind).ok_or_else(|| unreadable("the delivery's kind", &row.kind))?;
        mailed.entry(key).or_default().push((row.ended_at, kind));
    }
    Ok(mailed)
}

/// What hangs on accounts.
#[derive(Default)]
struct Mail {
    newest: HashMap<AccountKey, Invitation>,
    /// Of the invitations asked for: whose they are.
    invitation_users: HashMap<(TenantId, InvitationId), UserId>,
    deliveries: Vec<Delivery>,
}

impl Mail {
    async fn load<C: ConnectionTrait>(
        db: &C,
        keys: &Keys,
        users: &[User],
        locking: Locking,
    ) -> Result<Self, StoreError> {
        let mut mail = Self::default();
        if keys.with_mail && !users.is_empty() {
            mail.newest = newest_invitations(db, users).await?;
        }
        mail.invitation_users = mail
            .newest
            .values()
            .map(|invitation| ((invitation.tenant, invitation.id), invitation.user))
            .filter(|(key, _)| keys.invitations.contains(key))
            .collect();
        let unknown: Vec<_> = keys
            .invitations
            .iter()
            .filter(|key| !mail.invitation_users.contains_key(key))
            .collect();
        if !unknown.is_empty() && !users.is_empty() {
            mail.invitation_users.extend(older_invitations(db, &unknown).await?);
        }
        mail.deliveries = deliveries(db, keys, users, locking).await?;
        Ok(mail)
    }
}

async fn newest_invitations<C: ConnectionTrait>(
    db: &C,
    users: &[User],
) -> Result<HashMap<AccountKey, Invitation>, StoreError> {
    let columns = columns_of::<invitation::Entity>("i");
    // Two of the same instant: the one that is not closed is newer.
    let mut sql = Sql::new(
        db.get_database_backend(),
        format!(
            "SELECT {columns} FROM (SELECT n.*, row_number() OVER (PARTITION BY n.tenant_id, n.user_id \
             ORDER BY n.created_at DESC, CASE WHEN n.state IN ('QUEUED', 'SENT') THEN 0 ELSE 1 END, \
             n.invitation_id DESC) AS place FROM invitations n WHERE (n.tenant_id, n.user_id) IN ("
        ),
    );
    sql.set(user_keys(users)).push(")) i WHERE i.place = 1");
    let rows = invitation::Entity::find()
        .from_raw_sql(sql.into_statement())
        .all(db)
        .await;
    rows.map_err(store_error)?
        .into_iter()
        .map(|row| Invitation::try_from(row).map(|invitation| ((invitation.tenant, invitation.user), invitation)))
        .collect()
}

async fn older_invitations<C: ConnectionTrait>(
    db: &C,
    keys: &[&(TenantId, InvitationId)],
) -> Result<Vec<((TenantId, InvitationId), UserId)>, StoreError> {
    let mut sql = Sql::new(
        db.get_database_backend(),
        "SELECT i.tenant_id, i.invitation_id AS key, i.user_id FROM invitations i \
         WHERE (i.tenant_id, i.invitation_id) IN (",
    );
    sql.set(invitation_keys(keys.iter().copied())).push(")");
    let rows = Owned::<Uuid>::find_by_statement(sql.into_statement()).all(db).await;
    let rows = rows.map_err(store_error)?.into_iter();
    Ok(rows
        .map(|row| ((TenantId(row.tenant_id), InvitationId(row.key)), UserId(row.user_id)))
        .collect())
}

/// The mails that have not ended, and those asked for. A test mail has no account whose lock covers it, so it is locked
/// itself.
async fn deliveries<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
    users: &[User],
    locking: Locking,
) -> Result<Vec<Delivery>, StoreError> {
    let with_live = keys.with_mail && !users.is_empty();
    if !with_live && keys.deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let backend = db.get_database_backend();
    let columns = columns_of::<delivery::Entity>("d");
    let mut sql = Sql::new(
        backend,
        format!("SELECT {columns} FROM deliveries d WHERE (d.tenant_id, d.delivery_id) IN ("),
    );
    if with_live {
        sql.push("SELECT tenant_id, delivery_id FROM deliveries WHERE ")
            .push(UNSETTLED)
            .push(" AND state <> 'UNCERTAIN' AND (tenant_id, user_id) IN (")
            .set(user_keys(users))
            .push(")");
    }
    if !keys.deliveries.is_empty() {
        sql.push(if with_live { " UNION " } else { "" })
            .set(delivery_keys(keys.deliveries.iter()));
    }
    sql.push(") ORDER BY d.tenant_id, d.delivery_id");
    let mut found = read_deliveries(db, sql).await?;
    let test_mails: Vec<_> = found
        .iter()
        .filter(|delivery| delivery.user.is_none())
        .map(|delivery| (delivery.tenant, delivery.id))
        .collect();
    if locking == Locking::ForUpdate && !test_mails.is_empty() {
        found.retain(|delivery| delivery.user.is_some());
        let mut sql = Sql::new(
            backend,
            format!("SELECT {columns} FROM deliveries d WHERE (d.tenant_id, d.delivery_id) IN ("),
        );
        sql.set(delivery_keys(test_mails.iter()))
            .push(") ORDER BY d.tenant_id, d.delivery_id")
            .for_update("d");
        found.extend(read_deliveries(db, sql).await?);
    }
    Ok(found)
}

async fn read_deliveries<C: ConnectionTrait>(db: &C, sql: Sql) -> Result<Vec<Delivery>, StoreError> {
    let rows = delivery::Entity::find()
        .from_raw_sql(sql.into_statement())
        .all(db)
        .await;
    rows.map_err(store_error)?.into_iter().map(Delivery::try_from).collect()
}

fn user_keys(users: &[User]) -> impl Iterator<Item = [Value; 2]> {
    users.iter().map(|user| [user.tenant.0.into(), user.id.0.into()])
}

/// Addresses, external ids, request ids.
fn text_keys(keys: &BTreeSet<(TenantId, String)>) -> impl Iterator<Item = [Value; 2]> {
    keys.iter().map(|(tenant, key)| [tenant.0.into(), key.as_str().into()])
}

fn invitation_keys<'a>(keys: impl Iterator<Item = &'a (TenantId, InvitationId)>) -> impl Iterator<Item = [Value; 2]> {
    keys.map(|(tenant, id)| [tenant.0.into(), id.0.into()])
}

fn delivery_keys<'a>(keys: impl Iterator<Item = &'a (TenantId, DeliveryId)>) -> impl Iterator<Item = [Value; 2]> {
    keys.map(|(tenant, id)| [tenant.0.into(), id.0.into()])
}
