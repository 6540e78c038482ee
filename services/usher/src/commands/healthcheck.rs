//! `usher healthcheck`: for probes and scripts.

use clap::Args;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::Session;
use crate::failure::{Exit, Failure};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    /// One gRPC service, for example usher.identity.v1.UserService; the whole server if left out.
    #[arg(default_value = "", hide_default_value = true)]
    service: String,
}

pub(super) async fn run(command: &Healthcheck, session: &Session) -> Result<Exit, Failure> {
    let request = HealthCheckRequest {
        service: command.service.clone(),
    };
    let status = session.client.health().check(request).await?.into_inner().status();
    let name = match status {
        ServingStatus::Serving => "SERVING",
        ServingStatus::NotServing => "NOT_SERVING",
        ServingStatus::Unknown | ServingStatus::ServiceUnknown => "UNKNOWN",
    };
    if session.out.json {
        output::lines([serde_json::json!({ "service": command.service, "status": name })])?;
    } else {
        output::lines([name])?;
    }
    Ok(if status == ServingStatus::Serving {
        Exit::Done
    } else {
        Exit::Unavailable
    })
}
