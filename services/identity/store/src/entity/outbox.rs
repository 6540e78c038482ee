//! `outbox`: one row an event, until it was published and followed.

use sea_orm::entity::prelude::*;
use usher_core::event::Event;
use usher_core::ports::StoreError;

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox")]
pub struct Model {
    /// Given by the database.
    #[sea_orm(primary_key)]
    pub sequence: i64,
    pub tenant_id: Uuid,
    pub user_id: Option<Uuid>,
    pub event_id: Uuid,
    pub event_type: String,
    pub lane: i16,
    pub body: String,
    pub occurred_at: DateTimeUtc,
    pub published_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What the database fills in.
pub(crate) const GENERATED: [&str; 2] = ["sequence", "published_at"];

impl TryFrom<&Event> for Model {
    type Error = StoreError;

    fn try_from(event: &Event) -> Result<Self, StoreError> {
        Ok(Self {
            sequence: 0,
            tenant_id: event.tenant.0,
            user_id: event.user.map(|user| user.0),
            event_id: event.id.0,
            event_type: event.kind.as_str().into(),
            lane: event.lane(),
            body: encode(event)?,
            occurred_at: event.at,
            published_at: None,
        })
    }
}

/// An event as it is kept.
pub(crate) fn encode(event: &Event) -> Result<String, StoreError> {
    serde_json::to_string(event).map_err(|error| unreadable("the event", error))
}

/// An event as it was kept.
pub(crate) fn decode(body: &str) -> Result<Event, StoreError> {
    serde_json::from_str(body).map_err(|error| unreadable("an event", error))
}
