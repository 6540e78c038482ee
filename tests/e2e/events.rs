//! What happened, as a stream, and the same on RabbitMQ (B5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use prost::Message as _;
use tonic::Code;
use usher_proto::events::v1::LifecycleEvent;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, MutationOptions};
use usher_tests::environment::eventually;

use crate::stage::{MINUTE, PATIENCE, Stage, alone, refused, together};

/// An event as one of the two ways tells it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    id: String,
    name: String,
    event: LifecycleEvent,
}

/// A service of the platform: it binds a queue of its own, and sees whatever Usher publishes.
struct Listener {
    seen: Arc<Mutex<Vec<Seen>>>,
    _connection: Connection,
    reading: tokio::task::JoinHandle<()>,
}

impl Listener {
    /// Listens to a tenant's events from now on.
    async fn start(url: &str, tenant: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
        let name = queue.name().clone();
        let exchange = usher_bus::EXCHANGE.into();
        let options = QueueBindOptions::default();
        channel
            .queue_bind(name.clone(), exchange, "#".into(), options, FieldTable::default())
            .await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let mut consumer = channel
            .basic_consume(name, "listener".into(), options, FieldTable::default())
            .await?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, tenant) = (Arc::clone(&seen), tenant.to_owned());
        let reading = tokio::spawn(async move {
            let _channel = channel;
            while let Some(Ok(delivery)) = consumer.next().await {
                let headers = delivery.properties.headers().clone().unwrap_or_default();
                let header = |name: &str| match headers.inner().get(name) {
                    Some(AMQPValue::LongString(text)) => text.to_string(),
                    _ => String::new(),
                };
                if header("cloudEvents:tenantid") == tenant {
                    let seen = Seen {
                        id: header("cloudEvents:id"),
                        name: delivery.routing_key.to_string(),
                        event: LifecycleEvent::decode(delivery.data.as_slice()).unwrap_or_default(),
                    };
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
                }
            }
        });
        Ok(Self {
            seen,
            _connection: connection,
            reading,
        })
    }

    /// What was seen so far; what came twice, as at-least-once allows, counts once.
    fn seen(&self) -> Vec<Seen> {
        let mut ids = BTreeSet::new();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|it| ids.insert(it.id.clone())).cloned().collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn watching(tenant: &str, after: &str) -> api::WatchEventsRequest {
    api::WatchEventsRequest {
        tenant_id: tenant.into(),
        after: after.into(),
        from_beginning: true,
        type_prefixes: Vec::new(),
    }
}

/// Reads the next answers that carry an event, with their cursors.
async fn read(stream: &mut tonic::Streaming<api::WatchEventsResponse>, count: usize) -> Result<Vec<(String, Seen)>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let answer = tokio::time::timeout(PATIENCE, stream.message())
            .await
            .context("no more events")??;
        let answer = answer.context("the stream ended")?;
        assert!(!answer.cursor.is_empty());
        if let Some(event) = answer.event {
            let (id, name) = (answer.event_id, answer.event_type);
            seen.push((answer.cursor, Seen { id, name, event }));
        }
    }
    Ok(seen)
}

/// The ids in order, for each user.
fn by_user(seen: &[Seen]) -> BTreeMap<String, Vec<String>> {
    let mut users: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for it in seen {
        users.entry(it.event.user_id.clone()).or_default().push(it.id.clone());
    }
    users
}

async fn some_changes<G: std::ops::Deref<Target = usher_tests::system::System>>(
    stage: &Stage<G>,
    round: &str,
) -> Result<()> {
    let names: Vec<String> = (0..20).map(|index| format!("{round}{index}")).collect();
    let addresses: Vec<String> = names.iter().map(|name| stage.address(name)).collect();
    stage
        .clients
        .invitations()
        .invite_users(stage.inviting(addresses.join(" ")))
        .await?;
    for name in &names[..5] {
        let user = stage.accept(&stage.link(name, 1).await?).await?;
        stage.deactivate(&user.user_id).await?;
        stage.reactivate(&user.user_id).await?;
    }
    stage.settled().await
}

/// B5
#[test]
fn the_stream_goes_on_from_a_cursor_across_a_restart_and_tells_what_rabbitmq_tells() -> Result<()> {
    alone(async |mut stage| {
        let listener = Listener::start(&stage.system.amqp_url, &stage.tenant).await?;
        let mut events = stage.clients.events();
        let mut stream = events.watch_events(watching(&stage.tenant, "")).await?.into_inner();
        // That the tenant was made, before anybody listened.
        let made = read(&mut stream, 1).await?;
        assert_eq!(made[0].1.name, "tenant.created");
        some_changes(&stage, "a").await?;
        let mut told = read(&mut stream, 50).await?;
        drop(stream);
        // Dealt with so far; what came after it is read again.
        told.truncate(31);

        stage.system.identity.kill();
        stage.system.identity.restart().await?;
        // A replica that was killed keeps its share of the outbox until its lease lapses.
        stage.system.advance(MINUTE).await?;
        let after = told[30].0.clone();
        let mut stream = events.watch_events(watching(&stage.tenant, &after)).await?.into_inner();
        some_changes(&stage, "b").await?;
        let total = eventually("RabbitMQ told everything", PATIENCE, async || {
            let before = listener.seen().len();
            tokio::time::sleep(Duration::from_millis(300)).await;
            let seen = listener.seen().len();
            (seen == before && seen > 200).then_some(seen)
        })
        .await?;
        told.extend(read(&mut stream, total - told.len()).await?);
        let more = tokio::time::timeout(Duration::from_secs(1), read(&mut stream, 1)).await;
        assert!(more.is_err(), "the stream tells more than RabbitMQ: {more:?}");

        let told: Vec<Seen> = told.into_iter().map(|(_, seen)| seen).collect();
        let ids: BTreeSet<&str> = told.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids.len(), told.len(), "something was told twice");
        let heard = listener.seen();
        let mut sorted = [told.clone(), heard.clone()];
        for list in &mut sorted {
            list.sort_by(|a, b| a.id.cmp(&b.id));
        }
        assert_eq!(sorted[0], sorted[1]);
        assert_eq!(by_user(&told), by_user(&heard), "the order differs");
        for events in [&told, &heard] {
            let mut versions = BTreeMap::new();
            for it in events.iter().filter(|it| !it.event.user_id.is_empty()) {
                let last = versions
                    .insert(it.event.user_id.clone(), it.event.user_version)
                    .unwrap_or(0);
                assert!(last <= it.event.user_version, "{} goes back in time", it.name);
            }
        }
        println!("B5: {} events, the same on both ways", told.len());

        // The same again, from the beginning and in one go.
        let mut stream = events.watch_events(watching(&stage.tenant, "")).await?.into_inner();
        let again: Vec<Seen> = read(&mut stream, total + 1)
            .await?
            .into_iter()
            .skip(1)
            .map(|(_, seen)| seen)
            .collect();
        assert_eq!(again, told);
        Ok(())
    })
}

/// B5
#[test]
fn a_stream_can_begin_now_and_can_tell_only_some_events() -> Result<()> {
    together(async |stage| {
        stage.active("before").await?;
        let from_now = api::WatchEventsRequest {
            from_beginning: false,
            type_prefixes: vec!["user.activated".into(), "user.d".into()],
            ..watching(&stage.tenant, "")
        };
        let mut stream = stage
            .clients
            .events()
            .watch_events(from_now.clone())
            .await?
            .into_inner();
        // The first answer is where it begins.
        let first = stream.message().await?.context("an answer")?;
        assert!(first.event.is_none() && !first.cursor.is_empty());
        let user = stage.create("ana", InitialState::Pending).await?;
        let reason = MutationOptions {
            reason: "left".into(),
            request_id: "hr:1".into(),
            ..MutationOptions::default()
        };
        let out = api::DeactivateUserRequest {
            tenant_id: stage.tenant.clone(),
            user_id: user.user_id.clone(),
            expected_version: 0,
            options: Some(reason),
        };
        stage.system.clients_as("hr")?.users().deactivate_user(out).await?;
        let (_, seen) = read(&mut stream, 1).await?.remove(0);
        assert_eq!(seen.name, "user.deactivated");
        let event = &seen.event;
        assert_eq!(
            (event.tenant_id.as_str(), event.user_id.as_str()),
            (stage.tenant.as_str(), user.user_id.as_str())
        );
        assert_eq!(
            (event.from_status.as_str(), event.to_status.as_str()),
            ("PENDING", "DEACTIVATED")
        );
        assert_eq!(
            (
                event.reason.as_str(),
                event.actor_id.as_str(),
                event.request_id.as_str()
            ),
            ("left", "hr", "hr:1")
        );

        let unknown = api::WatchEventsRequest {
            tenant_id: "00000000-0000-7000-8000-000000000000".into(),
            ..from_now.clone()
        };
        let refusal = refused(stage.clients.events().watch_events(unknown).await.map(drop));
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::NotFound, "TENANT_NOT_FOUND")
        );
        for cursor in ["garbage", "-1", "99999999999999999999", "9223372036854775807"] {
            let answer = stage
                .clients
                .events()
                .watch_events(watching(&stage.tenant, cursor))
                .await;
            let refusal = refused(answer.map(drop));
            assert_eq!(
                (refusal.code, refusal.reason.as_str()),
                (Code::OutOfRange, "CURSOR_TOO_OLD"),
                "{cursor}"
            );
        }
        Ok(())
    })
}

/// K2: a consumer learns of a tenant's settings, in the order in which they were changed.
#[test]
fn a_tenant_that_is_made_and_changed_is_told() -> Result<()> {
    together(async |stage| {
        for limit in [7, 9] {
            let request = api::UpdateTenantRequest {
                tenant: Some(api::Tenant {
                    tenant_id: stage.tenant.clone(),
                    seat_limit: limit,
                    ..api::Tenant::default()
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["seat_limit".into()],
                }),
                options: None,
            };
            stage.clients.tenants().update_tenant(request).await?;
        }
        let request = api::WatchEventsRequest {
            type_prefixes: vec!["tenant.".into()],
            ..watching(&stage.tenant, "")
        };
        let mut stream = stage.clients.events().watch_events(request).await?.into_inner();
        let told: Vec<(String, Vec<String>)> = read(&mut stream, 3)
            .await?
            .into_iter()
            .map(|(_, seen)| (seen.name, seen.event.changed_fields))
            .collect();
        let updated = || ("tenant.updated".to_owned(), vec!["seat_limit".to_owned()]);
        assert_eq!(told, [("tenant.created".to_owned(), vec![]), updated(), updated()]);
        Ok(())
    })
}

/// B5: no event bears a name, an address, a token or the text of a mail.
#[test]
fn events_name_nobody() -> Result<()> {
    alone(async |stage| {
        let listener = Listener::start(&stage.system.amqp_url, &stage.tenant).await?;
        let request = api::InviteUsersRequest {
            messages: vec![api::Message {
                text: "Words that stay between us".into(),
                ..api::Message::default()
            }],
            ..stage.inviting(stage.address("somebody-quite-unique"))
        };
        stage.clients.invitations().invite_users(request).await?;
        let link = stage.link("somebody-quite-unique", 1).await?;
        stage.accept(&link).await?;
        let seen = eventually("the events", PATIENCE, async || {
            let seen = listener.seen();
            seen.iter().any(|it| it.name == "invitation.accepted").then_some(seen)
        })
        .await?;
        for it in seen {
            let text = format!("{it:?}");
            for secret in ["somebody-quite-unique", "Silva", "stay between us", link.as_str()] {
                assert!(!text.contains(secret), "{text}");
            }
        }
        Ok(())
    })
}
