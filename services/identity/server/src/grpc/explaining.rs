//! Why an account stands where it stands, what comes next, and what became of its mail (B6).

use usher_core::account::{NextAction, NextStep, mailed_since};
use usher_core::delivery::{Attempt, Delivery, Outcome, Report};
use usher_core::ids::{TenantId, UserId};
use usher_core::inactivity::RECENT_RUNS;
use usher_core::ports::{DeliveryQuery, DeliveryRecord, Keys};
use usher_proto::identity::v1::{ExplainUserResponse, MailReturn, NextStep as ProtoNextStep};

use crate::app::App;
use crate::convert;
use crate::operations::engine::Failure;

/// Changes that are told, the newest first.
const HISTORY: u32 = 100;
/// Mails that are looked at, the newest first.
const MAILS: u32 = 100;
/// Of what came back, the newest.
const RETURNS: usize = 20;

impl App {
    /// Explains an account; `None`: there is none.
    pub(super) async fn explain(&self, tenant: TenantId, user: UserId) -> Result<Option<ExplainUserResponse>, Failure> {
        let now = self.now();
        let keys = Keys {
            users: [(tenant, user)].into(),
            with_mail: true,
            with_belonging: true,
            with_mailed_since: Some(mailed_since(now)),
            with_erasures: true,
            ..Keys::default()
        };
        let mut world = self.store.look(&keys).await?;
        let Some(account) = world.accounts.remove(&(tenant, user)) else {
            return Ok(None);
        };
        let erasure = world.erasures.into_values().find(|erasure| erasure.user == user);
        let history = self.store.history(tenant, user, HISTORY).await?;
        let mails = DeliveryQuery {
            tenant,
            user: Some(user),
            delivery: None,
            groups: Vec::new(),
            states: Vec::new(),
            after: None,
            limit: MAILS,
        };
        let mails = self.store.list_deliveries(&mails).await?;
        let address = account.user.profile.email.key();
        let suppression = if account.suppressed {
            self.store.suppression(tenant, address).await?
        } else {
            None
        };
        let runs = if account.tenant.settings.inactivity.is_on() {
            self.store.inactivity_runs(tenant, None, RECENT_RUNS).await?
        } else {
            Vec::new()
        };
        let mut steps = account.next_steps(&runs, now);
        steps.extend(account.erasure_step(erasure.as_ref(), now));
        steps.sort_by_key(|step| (step.at, step.action));
        Ok(Some(ExplainUserResponse {
            user: Some(convert::user(&account.user, now)),
            summary: account.summary(now) + &account.erasure_summary(erasure.as_ref()),
            history: history.iter().map(convert::history_entry).collect(),
            next_steps: steps.iter().map(next_step).collect(),
            mail_returns: returns(&mails, address),
            suppression: suppression.map(|found| convert::suppression(tenant, &found)),
        }))
    }
}

/// What came back of mails to an address, or was refused, the newest first.
fn returns(mails: &[DeliveryRecord], address: &str) -> Vec<MailReturn> {
    let to_address = mails
        .iter()
        .filter(|mail| !address.is_empty() && mail.delivery.email.key() == address);
    let attempts = to_address.flat_map(|mail| mail.attempts.iter().map(|attempt| (&mail.delivery, attempt)));
    let mut found: Vec<_> = attempts
        .filter_map(|(mail, attempt)| Some((attempt.ended_at?, mail_return(mail, attempt)?)))
        .collect();
    found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    found.into_iter().take(RETURNS).map(|(_, told)| told).collect()
}

fn mail_return(mail: &Delivery, attempt: &Attempt) -> Option<MailReturn> {
    let outcome = attempt.outcome?;
    let report = Report {
        outcome,
        response: attempt.response.clone(),
        smtp_code: attempt.smtp_code,
        phase: attempt.phase,
    };
    let (stops_mail, description) = match outcome {
        Outcome::Bounced => (
            true,
            "It came back as undeliverable: no mail goes to the address after it.",
        ),
        Outcome::Complained => (true, "It was called unwanted: no mail goes to the address after it."),
        Outcome::SoftBounced => (
            false,
            "It came back, or was delayed, for a reason that may pass: mail goes on.",
        ),
        Outcome::Failed if report.is_hard_bounce() => (
            true,
            "The mail server does not know the address: no mail goes to it after this.",
        ),
        Outcome::Failed => (
            false,
            "The mail server refused the mail, and not for the address: mail goes on.",
        ),
        Outcome::Sent | Outcome::Deferred | Outcome::Unreachable | Outcome::Uncertain => return None,
    };
    Some(MailReturn {
        time: attempt.ended_at.map(convert::time),
        delivery_id: mail.id.to_string(),
        kind: convert::delivery_kind(mail.kind).into(),
        outcome: convert::outcome(outcome).into(),
        response: report.response,
        stops_mail,
        description: description.into(),
    })
}

fn next_step(step: &NextStep) -> ProtoNextStep {
    let (action, description) = match step.action {
        NextAction::SendInvitation => ("send_invitation", "The invitation is sent.".to_owned()),
        NextAction::SendReminder => (
            "send_reminder",
            format!("Reminder {} is sent, unless they accept before.", step.reminder_step),
        ),
        NextAction::SendAccountCreated => (
            "send_account_created",
            "The notification about the account is sent.".to_owned(),
        ),
        NextAction::SendExpiryWarning => (
            "send_expiry_warning",
            "They are warned that their access ends soon.".to_owned(),
        ),
        NextAction::SendExpiryWarningToAdministrators => (
            "send_expiry_warning_to_administrators",
            "They are told whose access ends soon among the people in their care.".to_owned(),
        ),
        NextAction::LapseInvitation => (
            "lapse_invitation",
            "The invitation's link dies, unless they accept before.".to_owned(),
        ),
        NextAction::WarnInactive => (
            "warn_inactive",
            "They are warned of their inactivity, unless they sign in before.".to_owned(),
        ),
        NextAction::DeactivateInactive => (
            "deactivate_inactive",
            "The account is deactivated for inactivity, unless they sign in before or an administrator decides against it."
                .to_owned(),
        ),
        NextAction::DeactivateInactiveOnceDecided => (
            "deactivate_inactive",
            "The account is due to be deactivated for inactivity; that waits until somebody decides about the run that is parked."
                .to_owned(),
        ),
        NextAction::Expire => ("expire", "The account expires and access ends.".to_owned()),
        NextAction::Erase => (
            "erase",
            "The account and its traces are erased, unless that is cancelled or the deletion date is moved before.".to_owned(),
        ),
    };
    ProtoNextStep {
        time: Some(convert::time(step.at)),
        action: action.into(),
        description,
    }
}
