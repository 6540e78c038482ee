//! The mails that reports of bounces and complaints are about.

use sea_orm::{ConnectionTrait, FromQueryResult};
use usher_core::ids::{DeliveryId, TenantId, UserId};
use usher_core::ports::{FoundMail, MailRef, StoreError};
use uuid::Uuid;

use crate::error::store_error;
use crate::sql::Sql;

/// Terms of one statement: SQLite takes at most 500.
const CHUNK: usize = 100;

#[derive(FromQueryResult)]
struct Row {
    place: i32,
    delivery_id: Uuid,
    user_id: Option<Uuid>,
    email_key: String,
}

/// See [`usher_core::ports::Directory::find_mails`]. Each mail is one step into an index.
pub(crate) async fn find_mails<C: ConnectionTrait>(
    db: &C,
    tenant: TenantId,
    wanted: &[MailRef],
) -> Result<Vec<Option<FoundMail>>, StoreError> {
    let mut found = vec![None; wanted.len()];
    for (chunk, found) in wanted.chunks(CHUNK).zip(found.chunks_mut(CHUNK)) {
        let mut sql = Sql::new(db.get_database_backend(), "");
        for (place, mail) in chunk.iter().enumerate() {
            sql.push(if place == 0 { "" } else { " UNION ALL " }).push(&format!(
                "SELECT * FROM (SELECT {place} AS place, delivery_id, user_id, email_key FROM deliveries WHERE tenant_id = "
            ));
            sql.bind(tenant.0);
            match mail {
                MailRef::Id(id) => sql.push(" AND delivery_id = ").bind(id.0),
                MailRef::To { email, since, until } => sql
                    .push(" AND email_key = ")
                    .bind(email.as_str())
                    .push(" AND ended_at >= ")
                    .bind(*since)
                    .push(" AND ended_at <= ")
                    .bind(*until)
                    .push(" AND state IN ('SENT', 'UNCERTAIN') ORDER BY ended_at DESC, delivery_id DESC LIMIT 1"),
            };
            sql.push(&format!(") AS m{place}"));
        }
        let rows = Row::find_by_statement(sql.into_statement()).all(db).await;
        for row in rows.map_err(store_error)? {
            let place = usize::try_from(row.place).ok();
            if let Some(slot) = place.and_then(|place| found.get_mut(place)) {
                *slot = Some(FoundMail {
                    id: DeliveryId(row.delivery_id),
                    user: row.user_id.map(UserId),
                    email: row.email_key,
                });
            }
        }
    }
    Ok(found)
}
