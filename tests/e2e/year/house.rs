//! A service with its workers whose time is the test's: it stands still until it is moved, and everything that is due by
//! then is done before it is moved again.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use argon2::{Algorithm, Argon2, Params, Version};
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use usher_core::clock::{Clock as _, ManualClock, Timestamp};
use usher_core::event::{Event, EventType, LANES};
use usher_core::ids::TenantId;
use usher_core::ports::Store;
use usher_identity::background::relay;
use usher_identity::background::sweep::Sweep;
use usher_identity::config::Config;
use usher_identity::service::{Door, Ground, Service};
use usher_platform::config::load_from;
use usher_platform::grpc::{Client, ClientOptions, channel};
use usher_platform::{Context, Readiness};
use usher_proto::events::v1::LifecycleEvent;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::work_service_client::WorkServiceClient;
use usher_store::{SeaStore, StoreConfig};
use usher_tests::system::{AUDIT_KEY, Clients, LINK_KEY};
use usher_worker_runtime::{Handler as _, MailHandler, Work};

use super::post::Post;

/// Mails that are sent at once.
const MAILS: usize = 128;
/// Events that are read at once.
const PAGE: u32 = 1_000;
/// Expirations and erasures of one call.
const CALL: usize = 100;

pub(super) struct House {
    pub(super) clock: ManualClock,
    pub(super) store: Arc<dyn Store>,
    pub(super) clients: Clients,
    pub(super) post: Arc<Post>,
    /// Everything that was published, in the order of each person.
    pub(super) events: Vec<Event>,
    sweep: Sweep,
    mailer: MailHandler,
    work: WorkServiceClient<Client>,
    context: Context,
    service: Service,
}

impl House {
    /// An empty house on a database, at an instant; without a seed, its mail server takes every mail.
    pub(super) async fn build(url: &str, from: Timestamp, seed: Option<u64>) -> Result<Self> {
        let variables = [
            ("USHER__GRPC__LISTEN", "127.0.0.1:0"),
            ("USHER__DATABASE__URL", url),
            ("USHER__LINKS__KEY", LINK_KEY),
            (
                "USHER__LINKS__ACCEPT_URL",
                "https://learn.example/accept?tenant={tenant}&token={token}",
            ),
            ("USHER__AUDIT__KEY", AUDIT_KEY),
        ];
        let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let (_, config): (_, Config) = load_from(usher_identity::config::DEFAULTS, None, variables)?;
        let store = SeaStore::connect(&StoreConfig::new(url)).await?;
        store.migrate().await?;
        let store: Arc<dyn Store> = Arc::new(store);
        let clock = ManualClock::new(from);
        let context = Context {
            name: "year".into(),
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
            readiness: Readiness::new(),
            drain: Duration::from_secs(1),
        };
        let ground = Ground {
            store: Arc::clone(&store),
            clock: Arc::new(clock.clone()),
            // How hard passwords are to guess is no matter here, how long a thousand of them take is.
            hashing: Argon2::new(Algorithm::Argon2id, Version::V0x13, cheap()?),
        };
        let failed = |error: usher_platform::Failure| anyhow!("{error}");
        let door = Door::open(&config, &context).await.map_err(failed)?;
        let address = format!("http://{}", door.address);
        let service = door.serve(&config, &context, ground).map_err(failed)?;
        let post = Arc::new(Post::new(seed, clock.clone()));
        let identity = channel(&address, &ClientOptions::default())?;
        let callers = tonic::transport::Channel::from_shared(address)?.connect_lazy();
        Ok(Self {
            clock,
            store,
            clients: Clients::new(callers, ""),
            events: Vec::new(),
            sweep: service.sweep(),
            mailer: MailHandler::new(identity.clone(), post.clone(), context.shutdown.clone()),
            work: WorkServiceClient::new(identity),
            post,
            context,
            service,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When something is due again.
    pub(super) async fn next_due(&self) -> Result<Option<Timestamp>> {
        Ok(self.store.next_due().await?)
    }

    /// Moves the clock forward to an instant.
    pub(super) fn move_to(&self, at: Timestamp) {
        self.clock.advance(at - self.now());
    }

    /// Does everything that is due now, as sweep, relay and workers do it.
    pub(super) async fn settle(&mut self) -> Result<()> {
        loop {
            let fired = self.sweep.fire_due().await?;
            let published = self.publish().await?;
            if fired == 0 && published == 0 {
                return Ok(());
            }
        }
    }

    async fn publish(&mut self) -> Result<usize> {
        let lanes: Vec<i16> = (0..LANES).collect();
        let rows = self.store.unpublished(&lanes, &[], PAGE).await?;
        let (mut mails, mut expirations, mut erasures) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let (event, tenant_id) = (&row.event, row.event.tenant.to_string());
            match event.kind {
                EventType::InvitationDue | EventType::ReminderDue => mails.push(work(event)?),
                EventType::ExpirationDue => expirations.push(api::DueExpiration {
                    tenant_id,
                    user_id: event.user.context("an expiration of nobody")?.to_string(),
                    expire_time: work(event)?.event.expire_time,
                }),
                EventType::ErasureDue => erasures.push(api::DueErasure {
                    tenant_id,
                    erasure_id: event.erasure.context("no erasure")?.to_string(),
                }),
                _ => {}
            }
        }
        let mailer = &self.mailer;
        futures::stream::iter(mails.iter().map(|mail| mailer.handle(mail)))
            .buffer_unordered(MAILS)
            .try_collect::<()>()
            .await?;
        for items in expirations.chunks(CALL) {
            let items = items.to_vec();
            self.work.expire_users(api::ExpireUsersRequest { items }).await?;
        }
        for items in erasures.chunks(CALL) {
            let items = items.to_vec();
            self.work.erase_users(api::EraseUsersRequest { items }).await?;
        }
        let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
        self.store.mark_published(&sequences, self.now()).await?;
        self.events.extend(rows.into_iter().map(|row| row.event));
        Ok(sequences.len())
    }

    /// The id of a tenant as the rules know it.
    pub(super) fn id(tenant: &str) -> Result<TenantId> {
        Ok(TenantId(tenant.parse()?))
    }

    /// Ends it.
    pub(super) async fn leave(self) -> Result<()> {
        self.context.shutdown.cancel();
        self.service.wait().await.map_err(|error| anyhow!("{error}"))
    }
}

fn work(event: &Event) -> Result<Work> {
    let envelope = relay::envelope(event);
    let event = LifecycleEvent::decode(envelope.data.clone())?;
    Ok(Work {
        envelope,
        event,
        redelivered: false,
    })
}

fn cheap() -> Result<Params> {
    Params::new(Params::MIN_M_COST, 1, 1, None).map_err(|error| anyhow!("{error}"))
}
