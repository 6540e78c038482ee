//! The tables: an entity each, with what turns its rows into values of `usher-core` and back.
#![expect(
    unreachable_pub,
    reason = "sea-orm's derives ask for public models; nothing outside this crate sees them"
)]

pub(crate) mod assignment;
pub(crate) mod attempt;
pub(crate) mod audit;
pub(crate) mod audit_head;
pub(crate) mod audit_link;
pub(crate) mod delivery;
pub(crate) mod erased_address;
pub(crate) mod erasure;
pub(crate) mod erasure_subscriber;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod inactivity_run;
pub(crate) mod invitation;
pub(crate) mod job;
pub(crate) mod job_chunk;
pub(crate) mod lane;
pub(crate) mod member;
pub(crate) mod outbox;
pub(crate) mod position;
pub(crate) mod response;
pub(crate) mod role;
pub(crate) mod seat_entry;
pub(crate) mod selection;
pub(crate) mod selection_chunk;
pub(crate) mod suppression;
pub(crate) mod template;
pub(crate) mod tenant;
pub(crate) mod timer;
pub(crate) mod user;

use sea_orm::JsonValue;
use usher_core::invitation::Message;
use usher_core::ports::StoreError;

use crate::error::unreadable;

/// A document as it is kept.
fn to_json<T: serde::Serialize>(value: &T) -> JsonValue {
    serde_json::to_value(value).unwrap_or_default()
}

/// A document as it was kept.
fn from_json<T: serde::de::DeserializeOwned>(what: &str, value: JsonValue) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| unreadable(what, error))
}

fn message_from(json: Option<JsonValue>) -> Result<Option<Message>, StoreError> {
    json.map(|json| from_json("the message", json)).transpose()
}
