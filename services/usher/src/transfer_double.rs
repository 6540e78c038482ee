//! For tests: a `TransferService` that breaks off when it is told to, and remembers what it was sent.

use std::sync::{Arc, Mutex};

use futures::Stream;
use tonic::{Request, Response, Status, Streaming};
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::transfer_service_server::{TransferService, TransferServiceServer};
use usher_proto::identity::v1::{
    ExportUsersRequest, ExportUsersResponse, ImportSettings, ImportUsersRequest, ImportUsersResponse,
};

use crate::client::{Client, DEMO_TENANT};

/// What the service does, and what it saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Double {
    breaks: usize,
    refuses: bool,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    exports: usize,
    uploads: Vec<Upload>,
}

/// A file that was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upload {
    pub(crate) settings: ImportSettings,
    pub(crate) pieces: Vec<Vec<u8>>,
}

impl Double {
    /// Breaks off so many calls before it lets one through.
    pub(crate) fn breaking(self, breaks: usize) -> Self {
        Self { breaks, ..self }
    }

    /// Permits nothing.
    pub(crate) fn refusing(self) -> Self {
        Self { refuses: true, ..self }
    }

    /// How many exports were asked for.
    pub(crate) fn exports(&self) -> usize {
        self.seen.lock().unwrap().exports
    }

    /// All files that were sent.
    pub(crate) fn uploads(&self) -> Vec<Upload> {
        self.seen.lock().unwrap().uploads.clone()
    }
}

type Pieces = Vec<Result<ExportUsersResponse, Status>>;

#[tonic::async_trait]
impl TransferService for Double {
    type ExportUsersStream = std::pin::Pin<Box<dyn Stream<Item = Result<ExportUsersResponse, Status>> + Send>>;

    async fn import_users(
        &self,
        request: Request<Streaming<ImportUsersRequest>>,
    ) -> Result<Response<ImportUsersResponse>, Status> {
        let mut parts = request.into_inner();
        let mut upload = Upload::default();
        while let Some(request) = parts.message().await? {
            match request.part {
                Some(Part::Settings(settings)) => upload.settings = settings,
                Some(Part::Data(piece)) => upload.pieces.push(piece),
                None => return Err(Status::invalid_argument("an empty part")),
            }
        }
        let mut seen = self.seen.lock().unwrap();
        seen.uploads.push(upload);
        if seen.uploads.len() <= self.breaks {
            return Err(Status::unavailable("broken off"));
        }
        let notes = vec!["taken".into()];
        Ok(Response::new(ImportUsersResponse { job: None, notes }))
    }

    async fn export_users(&self, _: Request<ExportUsersRequest>) -> Result<Response<Self::ExportUsersStream>, Status> {
        let mut seen = self.seen.lock().unwrap();
        seen.exports += 1;
        if self.refuses {
            return Err(Status::permission_denied("no"));
        }
        let piece = |text: &str, done_count| {
            Ok(ExportUsersResponse {
                data: text.into(),
                done_count,
            })
        };
        let mut pieces: Pieces = vec![piece("first\n", 1)];
        pieces.push(if seen.exports <= self.breaks {
            Err(Status::unavailable("broken off"))
        } else {
            piece("second\n", 2)
        });
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }
}

/// Starts it, and answers a client and what looks into it.
pub(crate) async fn serve(double: Double) -> (Client, Double) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let service = tonic::transport::Server::builder().add_service(TransferServiceServer::new(double.clone()));
    tokio::spawn(service.serve_with_incoming(incoming));
    (Client::try_new(&server, DEMO_TENANT, "").unwrap(), double)
}
