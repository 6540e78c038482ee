//! The work of the workers that send mail: claim it, send it, report how that ended.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::Instrument as _;
use tracing::field::Empty;
use usher_mail::{Mail, Phase, Progress, Refused, SendOutcome, Transport};
use usher_platform::grpc::Client;
use usher_proto::identity::v1::begin_delivery_response::Outcome;
use usher_proto::identity::v1::work_service_client::WorkServiceClient;
use usher_proto::identity::v1::{
    BeginDeliveryRequest, ClaimedMail, DeliveryOutcome, FinishDeliveryRequest, OutgoingMail, ReportTransmittingRequest,
    SmtpPhase,
};

use crate::{Handler, Work, WorkError, worker_id};

/// How long the mail server is kept waiting after its 354 while the identity service cannot be reached. RFC 5321 lets it
/// wait for three minutes.
const REPORT_TRANSMITTING: Duration = Duration::from_secs(15);
/// How long to try to report the end of a mail whose content was not begun: what is left of a claim by then ends by itself.
const REPORT_UNSENT: Duration = Duration::from_mins(1);

/// Sends the mails that messages call for.
pub struct MailHandler {
    work: WorkServiceClient<Client>,
    transport: Arc<dyn Transport>,
    worker_id: String,
    shutdown: CancellationToken,
}

impl MailHandler {
    /// Claims at the identity service and sends by the transport. No mail is claimed any more once `shutdown` fired.
    pub fn new(identity: Client, transport: Arc<dyn Transport>, shutdown: CancellationToken) -> Self {
        Self {
            work: WorkServiceClient::new(identity),
            transport,
            worker_id: worker_id(),
            shutdown,
        }
    }

    /// Claims the mail, if it is still wanted.
    async fn begin(&self, work: &Work) -> Result<Option<ClaimedMail>, WorkError> {
        let request = BeginDeliveryRequest {
            tenant_id: work.event.tenant_id.clone(),
            user_id: work.event.user_id.clone(),
            delivery_id: work.event.delivery_id.clone(),
            worker_id: self.worker_id.clone(),
        };
        match self.work.clone().begin_delivery(request).await?.into_inner().outcome {
            Some(Outcome::Mail(claimed)) => Ok(Some(claimed)),
            Some(Outcome::NotNeeded(answer)) => {
                tracing::debug!(reason = answer.reason().as_str_name(), "nothing to send");
                Ok(None)
            }
            None => Err(WorkError::Retry(
                "the identity service answered nothing that is known here".into(),
            )),
        }
    }

    async fn send(&self, mail: &Mail, reporting: &Reporting) -> SendOutcome {
        let begun = Instant::now();
        let outcome = self.transport.send(mail, reporting).await;
        let name = outcome.name();
        metrics::counter!("usher_mail_sends_total", "outcome" => name).increment(1);
        metrics::histogram!("usher_mail_send_seconds", "outcome" => name).record(begun.elapsed());
        let span = tracing::Span::current();
        span.record("outcome", name);
        match &outcome {
            SendOutcome::Sent { .. } => {}
            // The answer itself often quotes the address.
            SendOutcome::Deferred { phase, code, .. } | SendOutcome::Failed { phase, code, .. } => {
                tracing::warn!(outcome = name, ?phase, code, "the mail was not taken");
            }
            SendOutcome::Unreachable { .. } | SendOutcome::Uncertain { .. } | SendOutcome::Withheld => {
                tracing::warn!(outcome = name, "the mail was not taken");
            }
        }
        outcome
    }

    /// Reports how it ended, for as long as the claim can hold. A mail that was sent and not reported would have to be
    /// taken for uncertain.
    async fn finish(&self, request: FinishDeliveryRequest, until: Instant) {
        let (work, outcome) = (self.work.clone(), request.outcome());
        let report = || {
            let (mut work, request) = (work.clone(), request.clone());
            async move { work.finish_delivery(request).await }
        };
        match persistently(until, report).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::FailedPrecondition => {
                tracing::warn!(
                    outcome = outcome.as_str_name(),
                    "the claim was lost before the mail's end was reported"
                );
            }
            Err(status) => {
                tracing::error!(
                    outcome = outcome.as_str_name(),
                    code = ?status.code(),
                    "the mail's end could not be reported; the lease will end the claim"
                );
            }
        }
    }
}

#[async_trait]
impl Handler for MailHandler {
    async fn handle(&self, work: &Work) -> Result<(), WorkError> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Err(WorkError::Retry("shutting down".into())),
            () = self.transport.ready() => {}
        }
        let Some(claimed) = self.begin(work).await? else {
            return Ok(());
        };
        let received = Instant::now();
        let Some(mail) = claimed.mail else {
            return Err(WorkError::Retry(
                "the identity service handed out a claim without a mail".into(),
            ));
        };
        let claim = ReportTransmittingRequest {
            tenant_id: work.event.tenant_id.clone(),
            user_id: work.event.user_id.clone(),
            delivery_id: work.event.delivery_id.clone(),
            claim_id: claimed.claim_id,
        };
        let reporting = Reporting {
            work: self.work.clone(),
            claim: claim.clone(),
            answer: Mutex::default(),
        };
        let span = tracing::info_span!(
            "mail.send",
            delivery = work.event.delivery_id,
            message_id = mail.message_id,
            outcome = Empty,
        );
        let outcome = self.send(&outgoing(mail), &reporting).instrument(span).await;
        let answer = *reporting.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let until = match answer {
            Some(Answer::Transmitting { since }) => {
                since + Duration::from_secs(claimed.transmit_lease_seconds.try_into().unwrap_or(0))
            }
            Some(Answer::ClaimLost) => {
                tracing::warn!("the claim was lost before the content was sent; nothing was sent");
                return Ok(());
            }
            Some(Answer::Unreported) | None => received + REPORT_UNSENT,
        };
        let until = until.max(Instant::now() + Duration::from_secs(10));
        self.finish(finished(claim, outcome), until).await;
        Ok(())
    }
}

/// Reports the moment from which on the mail may have gone out.
struct Reporting {
    work: WorkServiceClient<Client>,
    claim: ReportTransmittingRequest,
    answer: Mutex<Option<Answer>>,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    /// The claim holds, from here on for the longer lease.
    Transmitting { since: Instant },
    /// Somebody else's mail by now.
    ClaimLost,
    /// The identity service could not be asked.
    Unreported,
}

#[async_trait]
impl Progress for Reporting {
    async fn transmitting(&self) -> Result<(), Refused> {
        let since = Instant::now();
        let report = || {
            let (mut work, claim) = (self.work.clone(), self.claim.clone());
            async move { work.report_transmitting(claim).await }
        };
        let answer = match persistently(since + REPORT_TRANSMITTING, report).await {
            Ok(_) => Answer::Transmitting { since },
            Err(status) if status.code() == Code::FailedPrecondition => Answer::ClaimLost,
            Err(status) => {
                tracing::warn!(code = ?status.code(), "the identity service could not be told; the mail is held back");
                Answer::Unreported
            }
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        match answer {
            Answer::Transmitting { .. } => Ok(()),
            Answer::ClaimLost | Answer::Unreported => Err(Refused),
        }
    }
}

/// Calls until it succeeds, until it fails for good, or until the time is over.
async fn persistently<T, F>(until: Instant, call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let pauses = ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times();
    match tokio::time::timeout_at(until, call.retry(pauses).when(may_pass)).await {
        Ok(result) => result,
        Err(_) => Err(Status::deadline_exceeded(
            "the identity service could not be reached in time",
        )),
    }
}

fn may_pass(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound | Code::OutOfRange | Code::Unimplemented
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the header Date tells when the mail was handed over; nothing is decided by it"
)]
fn outgoing(mail: OutgoingMail) -> Mail {
    Mail {
        from_address: mail.from_address,
        from_name: mail.from_name,
        reply_to: mail.reply_to,
        unsubscribe_url: mail.unsubscribe_url,
        to_address: mail.to_address,
        to_name: mail.to_name,
        message_id: mail.message_id,
        subject: mail.subject,
        text: mail.text,
        html: mail.html,
        language: mail.language,
        date: SystemTime::now(),
    }
}

fn finished(claim: ReportTransmittingRequest, outcome: SendOutcome) -> FinishDeliveryRequest {
    let (outcome, phase, code, response) = match outcome {
        SendOutcome::Sent { code, response } => (DeliveryOutcome::Sent, SmtpPhase::Content, code, response),
        SendOutcome::Deferred { phase, code, response } => (DeliveryOutcome::Deferred, smtp(phase), code, response),
        SendOutcome::Failed { phase, code, response } => (DeliveryOutcome::Failed, smtp(phase), code, response),
        SendOutcome::Unreachable { response } => (DeliveryOutcome::Unreachable, SmtpPhase::Connect, 0, response),
        SendOutcome::Uncertain { response } => (DeliveryOutcome::Uncertain, SmtpPhase::Content, 0, response),
        SendOutcome::Withheld => {
            let response = "held back: the identity service could not be reached".to_owned();
            (DeliveryOutcome::Unreachable, SmtpPhase::Data, 0, response)
        }
    };
    FinishDeliveryRequest {
        tenant_id: claim.tenant_id,
        user_id: claim.user_id,
        delivery_id: claim.delivery_id,
        claim_id: claim.claim_id,
        outcome: outcome.into(),
        response,
        smtp_code: code.into(),
        phase: phase.into(),
    }
}

fn smtp(phase: Phase) -> SmtpPhase {
    match phase {
        Phase::Connect => SmtpPhase::Connect,
        Phase::Mail => SmtpPhase::Mail,
        Phase::Recipient => SmtpPhase::Recipient,
        Phase::Data => SmtpPhase::Data,
        Phase::Content => SmtpPhase::Content,
    }
}
