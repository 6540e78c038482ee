//! The connection to the identity service, and how users are named on the command line; groups and roles: see
//! [`crate::names`].

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use usher_platform::grpc::{self, ClientOptions};
use usher_proto::identity::v1::access_service_client::AccessServiceClient;
use usher_proto::identity::v1::activity_service_client::ActivityServiceClient;
use usher_proto::identity::v1::audit_service_client::AuditServiceClient;
use usher_proto::identity::v1::bulk_service_client::BulkServiceClient;
use usher_proto::identity::v1::delivery_service_client::DeliveryServiceClient;
use usher_proto::identity::v1::erasure_service_client::ErasureServiceClient;
use usher_proto::identity::v1::event_service_client::EventServiceClient;
use usher_proto::identity::v1::group_service_client::GroupServiceClient;
use usher_proto::identity::v1::inactivity_service_client::InactivityServiceClient;
use usher_proto::identity::v1::invitation_service_client::InvitationServiceClient;
use usher_proto::identity::v1::lookup_user_request::Key;
use usher_proto::identity::v1::role_service_client::RoleServiceClient;
use usher_proto::identity::v1::seat_service_client::SeatServiceClient;
use usher_proto::identity::v1::template_service_client::TemplateServiceClient;
use usher_proto::identity::v1::tenant_service_client::TenantServiceClient;
use usher_proto::identity::v1::transfer_service_client::TransferServiceClient;
use usher_proto::identity::v1::user_service_client::UserServiceClient;
use usher_proto::identity::v1::{GetUserRequest, LookupUserRequest, User};

use crate::failure::Failure;

/// Where `usher up` listens.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// The tenant that `usher up` makes for trying.
pub(crate) const DEMO_TENANT: &str = "de300000-0000-4000-8000-000000000001";

/// Who acts, until callers prove who they are.
const ACTOR: &str = "usher-actor-id";
/// Octets of an answer: a page of 1,000 items may be larger than the 4 MB that are usual.
const MAX_ANSWER: usize = 64 << 20;
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Adds the actor to each call.
#[derive(Debug, Clone)]
pub(crate) struct Actor(Option<MetadataValue<Ascii>>);

impl Interceptor for Actor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(actor) = &self.0 {
            request.metadata_mut().insert(ACTOR, actor.clone());
        }
        Ok(request)
    }
}

/// What the generated clients are built on.
pub(crate) type Channel = InterceptedService<grpc::Client, Actor>;

/// A server, a tenant and an actor: what every command speaks with.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The tenant's id.
    pub(crate) tenant: String,
    calls: Channel,
    streams: Channel,
}

impl Client {
    /// A client that connects when it is first used.
    pub(crate) fn try_new(server: &str, tenant: &str, actor: &str) -> Result<Self, Failure> {
        let actor = match actor {
            "" => None,
            actor => Some(
                MetadataValue::try_from(actor)
                    .map_err(|_| Failure::Usage("--actor takes an id in printable ASCII characters".into()))?,
            ),
        };
        let channel = |deadline| {
            let options = ClientOptions {
                deadline,
                certificate_authority: None,
            };
            let channel =
                grpc::channel(server, &options).map_err(|error| Failure::Usage(format!("--server: {error}")))?;
            Ok::<_, Failure>(InterceptedService::new(channel, Actor(actor.clone())))
        };
        Ok(Self {
            tenant: tenant.to_owned(),
            calls: channel(Some(DEADLINE))?,
            streams: channel(None)?,
        })
    }

    /// `TenantService`
    pub(crate) fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.calls.clone())
    }

    /// `UserService`
    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `InvitationService`
    pub(crate) fn invitations(&self) -> InvitationServiceClient<Channel> {
        InvitationServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `AccessService`
    pub(crate) fn access(&self) -> AccessServiceClient<Channel> {
        AccessServiceClient::new(self.calls.clone())
    }

    /// `DeliveryService`
    pub(crate) fn deliveries(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `GroupService`
    pub(crate) fn groups(&self) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `RoleService`
    pub(crate) fn roles(&self) -> RoleServiceClient<Channel> {
        RoleServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `AuditService`, whose logs take as long as they take.
    pub(crate) fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.streams.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `ActivityService`
    pub(crate) fn activity(&self) -> ActivityServiceClient<Channel> {
        ActivityServiceClient::new(self.calls.clone())
    }

    /// `ActivityService`, whose streams take as long as what is sent.
    pub(crate) fn activity_streams(&self) -> ActivityServiceClient<Channel> {
        ActivityServiceClient::new(self.streams.clone())
    }

    /// `InactivityService`
    pub(crate) fn inactivity(&self) -> InactivityServiceClient<Channel> {
        InactivityServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `TemplateService`
    pub(crate) fn templates(&self) -> TemplateServiceClient<Channel> {
        TemplateServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `SeatService`
    pub(crate) fn seats(&self) -> SeatServiceClient<Channel> {
        SeatServiceClient::new(self.calls.clone())
    }

    /// `ErasureService`
    pub(crate) fn erasures(&self) -> ErasureServiceClient<Channel> {
        ErasureServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `BulkService`
    pub(crate) fn bulk(&self) -> BulkServiceClient<Channel> {
        BulkServiceClient::new(self.calls.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// `BulkService`, for jobs that are watched and reports that are downloaded.
    pub(crate) fn bulk_streams(&self) -> BulkServiceClient<Channel> {
        BulkServiceClient::new(self.streams.clone())
    }

    /// `TransferService`, whose files take as long as they take.
    pub(crate) fn transfers(&self) -> TransferServiceClient<Channel> {
        TransferServiceClient::new(self.streams.clone())
    }

    /// `EventService`, whose streams stay open.
    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.streams.clone())
    }

    /// `grpc.health.v1`
    pub(crate) fn health(&self) -> tonic_health::pb::health_client::HealthClient<Channel> {
        tonic_health::pb::health_client::HealthClient::new(self.calls.clone())
    }

    /// The user that a person means.
    pub(crate) async fn user(&self, name: &str) -> Result<User, Failure> {
        let tenant_id = self.tenant.clone();
        let user = match UserName::of(name) {
            UserName::Id(user_id) => {
                let request = GetUserRequest { tenant_id, user_id };
                self.users().get_user(request).await?.into_inner().user
            }
            UserName::Key(key) => {
                let request = LookupUserRequest {
                    tenant_id,
                    key: Some(key),
                };
                self.users().lookup_user(request).await?.into_inner().user
            }
        };
        user.ok_or_else(|| incomplete("user"))
    }

    /// The id of the user that a person means; asks the server only where the name is not the id itself.
    pub(crate) async fn user_id(&self, name: &str) -> Result<String, Failure> {
        match UserName::of(name) {
            UserName::Id(id) => Ok(id),
            UserName::Key(_) => Ok(self.user(name).await?.user_id),
        }
    }
}

/// Tries again, for about half a minute, what may go through a moment later: a restart must not end what takes long.
pub(crate) async fn patiently<T, W>(call: impl FnMut() -> W) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(10)
        .with_jitter();
    call.retry(pauses).when(Failure::is_passing).await
}

/// An answer that lacks what its .proto promises.
pub(crate) fn incomplete(field: &str) -> Failure {
    Failure::Refused(Box::new(Status::internal(format!(
        "the server's answer lacks its {field}"
    ))))
}

/// How a user was named: by id, by e-mail address, or by the id in the caller's own system.
#[derive(Debug, PartialEq)]
enum UserName {
    Id(String),
    Key(Key),
}

impl UserName {
    fn of(name: &str) -> Self {
        let name = name.trim();
        match uuid::Uuid::try_parse(name) {
            Ok(id) => Self::Id(id.to_string()),
            Err(_) if name.contains('@') => Self::Key(Key::Email(name.to_owned())),
            Err(_) => Self::Key(Key::ExternalId(name.to_owned())),
        }
    }
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let result = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    result.map_err(|cause| Failure::io(format!("cannot read {}", path.display()), cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_id_by_address_or_by_external_id() {
        let id = "0197a2f0-0000-7000-8000-000000000001";
        assert_eq!(UserName::of(&id.to_uppercase()), UserName::Id(id.into()));
        assert_eq!(
            UserName::of("Ana@Example.org"),
            UserName::Key(Key::Email("Ana@Example.org".into()))
        );
        assert_eq!(
            UserName::of(" S-1024 "),
            UserName::Key(Key::ExternalId("S-1024".into()))
        );
    }

    #[tokio::test]
    async fn a_server_that_is_no_url_and_an_actor_with_a_line_break_are_wrong_usage() {
        for (server, actor) in [("not a url", ""), (DEFAULT_SERVER, "a\nb")] {
            assert!(matches!(
                Client::try_new(server, DEMO_TENANT, actor),
                Err(Failure::Usage(_))
            ));
        }
    }
}
