//! How an event looks in AMQP: CloudEvents 1.0 in binary mode. Attributes are headers with the prefix `cloudEvents:`, the
//! body is the bare protobuf data, so that any consumer can route and trace an event without knowing its schema.

use std::fmt::Write as _;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use uuid::Uuid;

use crate::Envelope;

/// The content type of the data.
pub const CONTENT_TYPE: &str = "application/protobuf";
/// CloudEvents `source` of every event of the identity service.
pub const SOURCE: &str = "/usher/identity";
/// The CloudEvents version that is written and read.
pub const SPEC_VERSION: &str = "1.0";

const ID: &str = "cloudEvents:id";
const TYPE: &str = "cloudEvents:type";
const SOURCE_HEADER: &str = "cloudEvents:source";
const SPEC_VERSION_HEADER: &str = "cloudEvents:specversion";
const SUBJECT: &str = "cloudEvents:subject";
const TIME: &str = "cloudEvents:time";
const TENANT: &str = "cloudEvents:tenantid";
const TRACE_PARENT: &str = "traceparent";
/// AMQP's "write it to disk".
const PERSISTENT: u8 = 2;

/// Why an event cannot be put into AMQP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// AMQP's limit is 255 octets.
    #[error("the routing key of event {0} is longer than 255 octets")]
    RoutingKeyTooLong(Uuid),
}

/// Why a message is not one of our events. It is foreign or damaged; delivering it again would not mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A header that every event has is not there, or is not text.
    #[error("the header {0} is missing or not text")]
    Missing(&'static str),
    /// A header is there, but not of the form that it must have.
    #[error("the header {0} does not hold what it should")]
    Malformed(&'static str),
    /// Written by another version of CloudEvents.
    #[error("the CloudEvents version is not {SPEC_VERSION}")]
    SpecVersion,
    /// The data is not protobuf.
    #[error("the content type is not {CONTENT_TYPE}")]
    ContentType,
}

/// The routing key of an event as AMQP takes it.
pub fn routing_key(envelope: &Envelope) -> Result<ShortString, EncodeError> {
    ShortString::try_new(envelope.routing_key.as_str()).map_err(|_| EncodeError::RoutingKeyTooLong(envelope.id))
}

/// The properties and headers of an event. The message is persistent, and its `message_id` is the event's id.
pub fn encode(envelope: &Envelope) -> BasicProperties {
    let id = hyphenated(envelope.id);
    let mut headers = FieldTable::default();
    let mut put = |name: &'static str, value: LongString| {
        headers.insert(name.into(), AMQPValue::LongString(value));
    };
    put(ID, id.as_str().into());
    put(TYPE, envelope.event_type.as_str().into());
    put(SOURCE_HEADER, SOURCE.into());
    put(SPEC_VERSION_HEADER, SPEC_VERSION.into());
    put(TIME, envelope.time.to_rfc3339_opts(SecondsFormat::Micros, true).into());
    put(TENANT, hyphenated(envelope.tenant).into());
    if !envelope.subject.is_empty() {
        put(SUBJECT, envelope.subject.as_str().into());
    }
    if !envelope.trace_parent.is_empty() {
        put(TRACE_PARENT, envelope.trace_parent.as_str().into());
    }
    BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id.into())
        .with_headers(headers)
}

/// Reads an event out of a message. Headers that it does not know are passed over, so that a later version may add some.
pub fn decode(routing_key: &str, properties: &BasicProperties, data: Vec<u8>) -> Result<Envelope, DecodeError> {
    if properties
        .content_type()
        .as_ref()
        .is_none_or(|it| it.as_str() != CONTENT_TYPE)
    {
        return Err(DecodeError::ContentType);
    }
    let headers = properties.headers().as_ref().ok_or(DecodeError::Missing(ID))?;
    if required(headers, SPEC_VERSION_HEADER)? != SPEC_VERSION {
        return Err(DecodeError::SpecVersion);
    }
    Ok(Envelope {
        id: parsed(headers, ID, Uuid::try_parse)?,
        event_type: required(headers, TYPE)?.to_owned(),
        routing_key: routing_key.to_owned(),
        subject: text(headers, SUBJECT).unwrap_or_default().to_owned(),
        tenant: parsed(headers, TENANT, Uuid::try_parse)?,
        time: parsed(headers, TIME, DateTime::parse_from_rfc3339)?.with_timezone(&Utc),
        trace_parent: text(headers, TRACE_PARENT).unwrap_or_default().to_owned(),
        must_route: false,
        data: Bytes::from(data),
    })
}

fn hyphenated(id: Uuid) -> String {
    let mut text = String::with_capacity(uuid::fmt::Hyphenated::LENGTH);
    // Writing to a String cannot fail.
    let _ = write!(text, "{}", id.hyphenated());
    text
}

fn text<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a str> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(value) => std::str::from_utf8(value.as_bytes()).ok(),
        AMQPValue::ShortString(value) => Some(value.as_str()),
        _ => None,
    }
}

fn required<'a>(headers: &'a FieldTable, name: &'static str) -> Result<&'a str, DecodeError> {
    text(headers, name).ok_or(DecodeError::Missing(name))
}

fn parsed<T, E>(
    headers: &FieldTable,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, DecodeError> {
    parse(required(headers, name)?).map_err(|_| DecodeError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Envelope {
        Envelope {
            id: Uuid::from_u128(7),
            event_type: "usher.user.activated.v1".into(),
            routing_key: "user.activated".into(),
            subject: Uuid::from_u128(8).to_string(),
            tenant: Uuid::from_u128(9),
            time: DateTime::from_timestamp_micros(1_790_000_000_123_456).unwrap(),
            trace_parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            must_route: false,
            data: Bytes::from_static(b"\x0a\x01x"),
        }
    }

    #[test]
    fn an_event_survives_the_way_through_amqp() {
        let whole = event();
        let bare = Envelope {
            subject: String::new(),
            trace_parent: String::new(),
            data: Bytes::new(),
            ..event()
        };
        for event in [whole, bare] {
            assert_eq!(
                decode(&event.routing_key, &encode(&event), event.data.to_vec()),
                Ok(event)
            );
        }
    }

    #[test]
    fn a_foreign_or_damaged_message_is_told_apart_by_what_is_wrong_with_it() {
        let properties = encode(&event());
        let with_header = |name: &'static str, value: AMQPValue| {
            let mut headers = properties.headers().clone().unwrap();
            headers.insert(name.into(), value);
            properties.clone().with_headers(headers)
        };
        let text = |value: &str| AMQPValue::LongString(value.into());
        let decoded = |properties: BasicProperties| decode("user.activated", &properties, Vec::new()).unwrap_err();

        assert_eq!(decoded(BasicProperties::default()), DecodeError::ContentType);
        assert_eq!(
            decoded(properties.clone().with_content_type("text/plain".into())),
            DecodeError::ContentType
        );
        assert_eq!(
            decoded(properties.clone().with_headers(FieldTable::default())),
            DecodeError::Missing(SPEC_VERSION_HEADER)
        );
        assert_eq!(
            decoded(with_header(SPEC_VERSION_HEADER, text("0.3"))),
            DecodeError::SpecVersion
        );
        assert_eq!(decoded(with_header(ID, text("seven"))), DecodeError::Malformed(ID));
        assert_eq!(
            decoded(with_header(ID, AMQPValue::LongInt(7))),
            DecodeError::Missing(ID)
        );
        assert_eq!(
            decoded(with_header(TIME, text("yesterday"))),
            DecodeError::Malformed(TIME)
        );
    }

    #[test]
    fn a_routing_key_that_amqp_cannot_carry_is_refused_and_not_a_panic() {
        let event = Envelope {
            routing_key: "x".repeat(256),
            ..event()
        };
        assert_eq!(routing_key(&event), Err(EncodeError::RoutingKeyTooLong(event.id)));
    }
}
