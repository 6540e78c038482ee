//! `history`: what happened to an account and its invitations, for good. The outbox is pruned, this is not (B6).

use sea_orm::entity::prelude::*;
use usher_core::event::Event;
use usher_core::ports::StoreError;

use super::outbox::encode;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "history")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// Given by the database; rises with each change of one account, since its row is locked meanwhile.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    pub event_type: String,
    pub occurred_at: DateTimeUtc,
    pub body: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What the database fills in.
pub(crate) const GENERATED: [&str; 1] = ["sequence"];

/// The row that an event leaves: none if it tells of a mail or calls to work.
pub(crate) fn row_of(event: &Event) -> Result<Option<Model>, StoreError> {
    let name = event.kind.as_str();
    let is_change = (name.starts_with("user.") || name.starts_with("invitation.")) && !event.kind.is_call_to_work();
    let Some(user) = event.user.filter(|_| is_change) else {
        return Ok(None);
    };
    Ok(Some(Model {
        tenant_id: event.tenant.0,
        user_id: user.0,
        sequence: 0,
        event_type: name.into(),
        occurred_at: event.at,
        body: encode(event)?,
    }))
}
