//! What becomes of one mail, between an identity service and a transport that do as a test tells them.

#[expect(dead_code, reason = "only the envelope is needed here")]
mod support;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use usher_mail::{Mail, Phase, Progress, SendOutcome, Transport};
use usher_platform::grpc::{ClientOptions, channel};
use usher_proto::events::v1::LifecycleEvent;
use usher_proto::identity::v1::begin_delivery_response::Outcome;
use usher_proto::identity::v1::work_service_server::{WorkService, WorkServiceServer};
use usher_proto::identity::v1::{
    BeginDeliveryRequest, BeginDeliveryResponse, ClaimedMail, DeliveryOutcome, EraseUsersRequest, EraseUsersResponse,
    ExpireUsersRequest, ExpireUsersResponse, FinishDeliveryRequest, FinishDeliveryResponse, NotNeeded, NotNeededReason,
    OutgoingMail, ReportTransmittingRequest, ReportTransmittingResponse, SmtpPhase,
};
use usher_worker_runtime::{Handler, MailHandler, Work, WorkError};

use self::support::envelope;

/// Answers with what it was told to, once each, and then as if all were well.
#[derive(Clone, Default)]
struct Identity(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    begin: VecDeque<Result<Outcome, Code>>,
    transmitting: VecDeque<Code>,
    finish: VecDeque<Code>,
    /// Every call, by name.
    calls: Vec<&'static str>,
    finished: Vec<FinishDeliveryRequest>,
}

#[tonic::async_trait]
impl WorkService for Identity {
    async fn begin_delivery(
        &self,
        request: Request<BeginDeliveryRequest>,
    ) -> Result<Response<BeginDeliveryResponse>, Status> {
        assert!(!request.get_ref().worker_id.is_empty());
        let mut script = self.0.lock().unwrap();
        script.calls.push("begin");
        let outcome = match script.begin.pop_front() {
            None => Outcome::Mail(ClaimedMail {
                claim_id: "claim".into(),
                transmit_lease_seconds: 660,
                mail: Some(OutgoingMail {
                    to_address: "ana@example.org".into(),
                    ..OutgoingMail::default()
                }),
                ..ClaimedMail::default()
            }),
            Some(Ok(outcome)) => outcome,
            Some(Err(code)) => return Err(Status::new(code, "as told")),
        };
        Ok(Response::new(BeginDeliveryResponse { outcome: Some(outcome) }))
    }

    async fn report_transmitting(
        &self,
        request: Request<ReportTransmittingRequest>,
    ) -> Result<Response<ReportTransmittingResponse>, Status> {
        assert_eq!(request.get_ref().claim_id, "claim");
        let mut script = self.0.lock().unwrap();
        script.calls.push("transmitting");
        match script.transmitting.pop_front() {
            None => Ok(Response::new(ReportTransmittingResponse::default())),
            Some(code) => Err(Status::new(code, "as told")),
        }
    }

    async fn finish_delivery(
        &self,
        request: Request<FinishDeliveryRequest>,
    ) -> Result<Response<FinishDeliveryResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script.calls.push("finish");
        script.finished.push(request.into_inner());
        match script.finish.pop_front() {
            None => Ok(Response::new(FinishDeliveryResponse::default())),
            Some(code) => Err(Status::new(code, "as told")),
        }
    }

    async fn expire_users(&self, _: Request<ExpireUsersRequest>) -> Result<Response<ExpireUsersResponse>, Status> {
        Err(Status::unimplemented("not a mail"))
    }

    async fn erase_users(&self, _: Request<EraseUsersRequest>) -> Result<Response<EraseUsersResponse>, Status> {
        Err(Status::unimplemented("not a mail"))
    }
}

/// Asks whether it may send, and then ends as it was told to.
struct Relay {
    outcome: SendOutcome,
    ready: bool,
}

#[async_trait]
impl Transport for Relay {
    async fn ready(&self) {
        if !self.ready {
            std::future::pending::<()>().await;
        }
    }

    async fn send(&self, mail: &Mail, progress: &dyn Progress) -> SendOutcome {
        assert_eq!(mail.to_address, "ana@example.org");
        match progress.transmitting().await {
            Ok(()) => self.outcome.clone(),
            Err(_) => SendOutcome::Withheld,
        }
    }
}

fn sent() -> SendOutcome {
    SendOutcome::Sent {
        code: 250,
        response: "250 2.0.0 queued as 7".into(),
    }
}

/// One mail, from the message to the answer.
async fn deliver(identity: &Identity, relay: Relay, shutdown: CancellationToken) -> Result<(), WorkError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(WorkServiceServer::new(identity.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let client = channel(&url, &ClientOptions::default()).unwrap();
    let handler = MailHandler::new(client, Arc::new(relay), shutdown);
    let event = LifecycleEvent {
        delivery_id: "delivery".into(),
        ..LifecycleEvent::default()
    };
    let work = Work {
        envelope: envelope(1, "delivery"),
        event,
        redelivered: false,
    };
    handler.handle(&work).await
}

async fn deliver_with(script: Script, outcome: SendOutcome) -> (Result<(), WorkError>, Script) {
    let identity = Identity(Arc::new(Mutex::new(script)));
    let result = deliver(&identity, Relay { outcome, ready: true }, CancellationToken::new()).await;
    let script = std::mem::take(&mut *identity.0.lock().unwrap());
    (result, script)
}

#[tokio::test]
async fn a_mail_is_claimed_reported_at_the_point_of_no_return_and_reported_as_sent() {
    let (result, script) = deliver_with(Script::default(), sent()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(script.calls, ["begin", "transmitting", "finish"]);
    let finished = &script.finished[0];
    assert_eq!(finished.outcome(), DeliveryOutcome::Sent);
    assert_eq!(
        (finished.smtp_code, finished.response.as_str()),
        (250, "250 2.0.0 queued as 7")
    );
    assert_eq!(
        (finished.delivery_id.as_str(), finished.claim_id.as_str()),
        ("delivery", "claim")
    );
}

#[tokio::test]
async fn each_outcome_is_reported_with_its_phase_code_and_answer() {
    let response = || "as told".to_owned();
    for (outcome, told, phase, code) in [
        (
            SendOutcome::Deferred {
                phase: Phase::Recipient,
                code: 450,
                response: response(),
            },
            DeliveryOutcome::Deferred,
            SmtpPhase::Recipient,
            450,
        ),
        (
            SendOutcome::Failed {
                phase: Phase::Content,
                code: 554,
                response: response(),
            },
            DeliveryOutcome::Failed,
            SmtpPhase::Content,
            554,
        ),
        (
            SendOutcome::Unreachable { response: response() },
            DeliveryOutcome::Unreachable,
            SmtpPhase::Connect,
            0,
        ),
        (
            SendOutcome::Uncertain { response: response() },
            DeliveryOutcome::Uncertain,
            SmtpPhase::Content,
            0,
        ),
    ] {
        let (result, script) = deliver_with(Script::default(), outcome).await;
        assert_eq!(result, Ok(()));
        let finished = &script.finished[0];
        assert_eq!(
            (finished.outcome(), finished.phase(), finished.smtp_code),
            (told, phase, code)
        );
        assert_eq!(finished.response, "as told");
    }
}

#[tokio::test]
async fn a_mail_that_is_not_wanted_any_more_is_left_alone() {
    let not_needed = Outcome::NotNeeded(NotNeeded {
        reason: NotNeededReason::Cancelled.into(),
    });
    let script = Script {
        begin: [Ok(not_needed)].into(),
        ..Script::default()
    };
    let (result, script) = deliver_with(script, sent()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(script.calls, ["begin"]);
}

/// B12: the content follows only once the identity service knows.
#[tokio::test]
async fn a_lost_claim_sends_nothing_and_reports_nothing() {
    let script = Script {
        transmitting: [Code::FailedPrecondition].into(),
        ..Script::default()
    };
    let (result, script) = deliver_with(script, sent()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(script.calls, ["begin", "transmitting"]);
}

#[tokio::test]
async fn a_mail_that_had_to_be_held_back_is_given_back_without_an_attempt() {
    let script = Script {
        transmitting: [Code::Unimplemented].into(),
        ..Script::default()
    };
    let (result, script) = deliver_with(script, sent()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(script.finished[0].outcome(), DeliveryOutcome::Unreachable);
}

#[tokio::test]
async fn reports_are_repeated_until_they_are_heard() {
    let away = || [Code::Unavailable, Code::DeadlineExceeded].into();
    let script = Script {
        transmitting: away(),
        finish: away(),
        ..Script::default()
    };
    let (result, script) = deliver_with(script, sent()).await;
    assert_eq!(result, Ok(()));
    let expected = [
        "begin",
        "transmitting",
        "transmitting",
        "transmitting",
        "finish",
        "finish",
        "finish",
    ];
    assert_eq!(script.calls, expected);
    assert!(script.finished.iter().all(|finished| *finished == script.finished[0]));
}

#[tokio::test]
async fn an_identity_service_that_is_away_makes_the_message_come_again_and_a_senseless_one_does_not() {
    for (code, retry) in [
        (Code::Unavailable, true),
        (Code::DeadlineExceeded, true),
        (Code::InvalidArgument, false),
    ] {
        let script = Script {
            begin: [Err(code)].into(),
            ..Script::default()
        };
        let (result, _) = deliver_with(script, sent()).await;
        assert_eq!(matches!(result, Err(WorkError::Retry(_))), retry, "{result:?}");
        assert!(result.is_err());
    }
}

#[tokio::test]
async fn while_the_mail_server_is_away_no_mail_is_claimed_and_a_shutdown_does_not_wait_for_it() {
    let (identity, shutdown) = (Identity::default(), CancellationToken::new());
    shutdown.cancel();
    let result = deliver(
        &identity,
        Relay {
            outcome: sent(),
            ready: false,
        },
        shutdown,
    )
    .await;
    assert!(matches!(result, Err(WorkError::Retry(_))), "{result:?}");
    assert!(identity.0.lock().unwrap().calls.is_empty());
}
