//! The listener: limits, layers, health, reflection, gRPC-Web, and the drain.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, Method};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::Service;
use tower_http::cors::{AllowOrigin, CorsLayer};
use usher_platform::{Failure, Readiness};
use usher_proto::identity::v1::access_service_server::AccessServiceServer;
use usher_proto::identity::v1::activity_service_server::ActivityServiceServer;
use usher_proto::identity::v1::audit_service_server::AuditServiceServer;
use usher_proto::identity::v1::bulk_service_server::BulkServiceServer;
use usher_proto::identity::v1::delivery_service_server::DeliveryServiceServer;
use usher_proto::identity::v1::erasure_service_server::ErasureServiceServer;
use usher_proto::identity::v1::event_service_server::EventServiceServer;
use usher_proto::identity::v1::group_service_server::GroupServiceServer;
use usher_proto::identity::v1::inactivity_service_server::InactivityServiceServer;
use usher_proto::identity::v1::invitation_service_server::InvitationServiceServer;
use usher_proto::identity::v1::role_service_server::RoleServiceServer;
use usher_proto::identity::v1::seat_service_server::SeatServiceServer;
use usher_proto::identity::v1::template_service_server::TemplateServiceServer;
use usher_proto::identity::v1::tenant_service_server::TenantServiceServer;
use usher_proto::identity::v1::transfer_service_server::TransferServiceServer;
use usher_proto::identity::v1::user_service_server::UserServiceServer;
use usher_proto::identity::v1::work_service_server::WorkServiceServer;

use crate::app::App;
use crate::audit::{AuditLayer, Recorder};
use crate::config;
use crate::grpc::event_service::Watch;
use crate::health;
use crate::observe::ObserveLayer;
use crate::status;

/// Octets of a request at most: 1,000 addresses with 50 texts fit well.
const MAX_REQUEST: usize = 4 << 20;
/// Octets of an answer at most: 1,000 users fit well.
const MAX_ANSWER: usize = 16 << 20;

/// Names of the services, as health and reflection know them.
pub(crate) const SERVICES: [&str; 17] = [
    "usher.identity.v1.AccessService",
    "usher.identity.v1.ActivityService",
    "usher.identity.v1.AuditService",
    "usher.identity.v1.BulkService",
    "usher.identity.v1.DeliveryService",
    "usher.identity.v1.ErasureService",
    "usher.identity.v1.EventService",
    "usher.identity.v1.GroupService",
    "usher.identity.v1.InactivityService",
    "usher.identity.v1.InvitationService",
    "usher.identity.v1.RoleService",
    "usher.identity.v1.SeatService",
    "usher.identity.v1.TemplateService",
    "usher.identity.v1.TenantService",
    "usher.identity.v1.TransferService",
    "usher.identity.v1.UserService",
    "usher.identity.v1.WorkService",
];

macro_rules! bounded {
    ($server:ident, $service:expr) => {
        $server::from_arc($service)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_ANSWER)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .send_compressed(tonic::codec::CompressionEncoding::Gzip)
    };
}

/// What the calls go to, once it is there.
struct Services {
    app: Arc<App>,
    watch: Arc<Watch>,
}

/// A server that listens. Health and reflection answer at once, calls from [`Api::open`] on.
pub(crate) struct Api {
    services: Arc<OnceLock<Services>>,
    recorder: Arc<OnceLock<Recorder>>,
    shutdown: CancellationToken,
    served: AbortOnDropHandle<Result<(), Failure>>,
}

impl Api {
    /// Serves until `shutdown`, then drains; stops at once on `abort`, or when it is dropped.
    pub(crate) async fn start(
        listener: TcpListener,
        settings: &config::Grpc,
        readiness: Readiness,
        shutdown: CancellationToken,
        abort: CancellationToken,
    ) -> Result<Self, Failure> {
        let services = Arc::new(OnceLock::new());
        let recorder = Arc::new(OnceLock::new());
        let late = (&services, &recorder);
        let served = serve(listener, settings, readiness, late, shutdown.clone(), abort).await?;
        Ok(Self {
            services,
            recorder,
            shutdown,
            served: AbortOnDropHandle::new(served),
        })
    }

    /// From now on calls are answered.
    pub(crate) fn open(&self, app: App) {
        let watch = Watch {
            app: app.clone(),
            shutdown: self.shutdown.clone(),
        };
        let services = Services {
            app: Arc::new(app),
            watch: Arc::new(watch),
        };
        // Opened twice, the first stays.
        let _ = self.recorder.set(services.app.recorder.clone());
        let _ = self.services.set(services);
    }

    /// Ends when it has drained, or failed.
    pub(crate) async fn wait(self) -> Result<(), Failure> {
        self.served.await?
    }
}

/// A service that answers UNAVAILABLE until it is there: while the database is waited for, a caller is told so instead of
/// being kept waiting.
struct Late<S> {
    services: Arc<OnceLock<Services>>,
    make: fn(&Services) -> S,
}

impl<S> Clone for Late<S> {
    fn clone(&self) -> Self {
        Self {
            services: Arc::clone(&self.services),
            make: self.make,
        }
    }
}

impl<S: NamedService> NamedService for Late<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Late<S>
where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = BoxFuture<http::Response<Body>, Infallible>,
        >,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.services.get() {
            Some(services) => (self.make)(services).call(request),
            None => Box::pin(std::future::ready(Ok(status::starting().into_http()))),
        }
    }
}

async fn serve(
    listener: TcpListener,
    settings: &config::Grpc,
    readiness: Readiness,
    (services, recorder): (&Arc<OnceLock<Services>>, &Arc<OnceLock<Recorder>>),
    shutdown: CancellationToken,
    abort: CancellationToken,
) -> Result<JoinHandle<Result<(), Failure>>, Failure> {
    let (mirror, health) = health::service().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(usher_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    macro_rules! late {
        ($make:expr) => {
            Late {
                services: Arc::clone(services),
                make: $make,
            }
        };
    }
    let mut routes = Routes::builder();
    routes
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(late!(|it| bounded!(TemplateServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(TenantServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(UserServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(BulkServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(TransferServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(GroupServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(RoleServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(InactivityServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(SeatServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(ActivityServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(InvitationServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(AccessServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(AuditServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(WorkServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(DeliveryServiceServer, it.app.clone())))
        .add_service(late!(|it| bounded!(ErasureServiceServer, it.app.clone())))
        .add_service(late!(|it| EventServiceServer::from_arc(it.watch.clone())));
    let serving = Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(settings.max_concurrent_streams)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_pending_accept_reset_streams(Some(50))
        .http2_max_local_error_reset_streams(Some(1_024))
        .max_connection_age(Duration::from_secs(settings.max_connection_age_seconds.max(1)))
        .max_connection_age_grace(Duration::from_secs(30))
        .layer(cors(settings)?)
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(ObserveLayer)
        .layer(AuditLayer {
            recorder: Arc::clone(recorder),
        })
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.clone().cancelled_owned(),
        );
    Ok(tokio::spawn(async move {
        tokio::select! {
            served = serving => served.map_err(Failure::from),
            () = mirror.run(readiness, shutdown) => Ok(()),
            () = abort.cancelled() => Ok(()),
        }
    }))
}

/// Binds the API's address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("grpc.listen: cannot listen on {address}: {error}; choose a free port").into())
}

fn cors(settings: &config::Grpc) -> Result<CorsLayer, Failure> {
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    let allowed = [
        "content-type",
        "x-grpc-web",
        "x-user-agent",
        "grpc-timeout",
        "traceparent",
        crate::call::ACTOR,
    ];
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(settings.origins()?))
        .allow_methods([Method::POST])
        .allow_headers(allowed.map(HeaderName::from_static))
        .expose_headers(exposed))
}
