//! Core's types as messages. Pure; no conversion can fail.

pub(crate) mod templates;

use prost_types::{Duration, Timestamp as ProtoTimestamp};
use usher_core::clock::Timestamp;
use usher_core::delivery::{Attempt, Delivery, DeliveryKind, DeliveryStateName, Outcome, Phase};
use usher_core::event::Event;
use usher_core::group::Group;
use usher_core::ids::UserId;
use usher_core::inactivity::InactivityPolicy;
use usher_core::invitation::{Invitation, InvitationState, Message};
use usher_core::job::{ItemOutcome, ItemResult, Job, JobAction, JobState};
use usher_core::ports::{DeliveryRecord, Suppression};
use usher_core::role::{BuiltInRole, CustomRole, Permission, RoleRef, Scope};
use usher_core::seats::SeatPolicy;
use usher_core::status::StatusName;
use usher_core::tenant::Tenant;
use usher_core::user::{Credential, Engagement, User};
use usher_proto::events::v1::LifecycleEvent;
use usher_proto::identity::v1 as proto;

/// An instant.
pub(crate) fn time(at: Timestamp) -> ProtoTimestamp {
    ProtoTimestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// A duration of whole seconds.
pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

/// A status.
pub(crate) fn status(status: StatusName) -> proto::UserStatus {
    match status {
        StatusName::Pending => proto::UserStatus::Pending,
        StatusName::Invited => proto::UserStatus::Invited,
        StatusName::Active => proto::UserStatus::Active,
        StatusName::Deactivated => proto::UserStatus::Deactivated,
        StatusName::Expired => proto::UserStatus::Expired,
        StatusName::Erased => proto::UserStatus::Erased,
    }
}

/// A status, from a filter; `None` for an unspecified or unknown one.
pub(crate) fn status_name(status: i32) -> Option<StatusName> {
    match proto::UserStatus::try_from(status).ok()? {
        proto::UserStatus::Unspecified => None,
        proto::UserStatus::Pending => Some(StatusName::Pending),
        proto::UserStatus::Invited => Some(StatusName::Invited),
        proto::UserStatus::Active => Some(StatusName::Active),
        proto::UserStatus::Deactivated => Some(StatusName::Deactivated),
        proto::UserStatus::Expired => Some(StatusName::Expired),
        proto::UserStatus::Erased => Some(StatusName::Erased),
    }
}

/// A tenant.
pub(crate) fn tenant(tenant: &Tenant) -> proto::Tenant {
    let settings = &tenant.settings;
    proto::Tenant {
        tenant_id: tenant.id.to_string(),
        display_name: settings.display_name.clone(),
        default_language: settings.default_language.clone(),
        invitation_lifetime: Some(seconds(settings.invitation_lifetime_seconds)),
        reminder_ladder: settings.reminder_ladder_seconds.iter().copied().map(seconds).collect(),
        seat_limit: settings.seat_limit,
        sender_name: settings.sender_name.clone(),
        reply_to: settings.reply_to.clone(),
        unsubscribe_url: settings.unsubscribe_url.clone(),
        create_time: Some(time(tenant.created_at)),
        version: tenant.version,
        no_reminders: settings.reminder_ladder_seconds.is_empty(),
        seat_policy: match settings.seat_policy {
            SeatPolicy::Refuse => proto::SeatPolicy::Refuse,
            SeatPolicy::Wait => proto::SeatPolicy::Wait,
        }
        .into(),
        time_zone: settings.time_zone.clone(),
        quiet_hours: settings.quiet_hours.map(|quiet| {
            let (start, end) = quiet.texts();
            proto::QuietHours { start, end }
        }),
        daily_mail_cap: settings.daily_mail_cap,
        expiry_warnings: settings.expiry_warning_seconds.iter().copied().map(seconds).collect(),
        no_expiry_warnings_to_administrators: !settings.expiry_warnings_to_administrators,
        mail_pause_time: settings.mail_paused_at.map(time),
        inactivity_policy: settings
            .inactivity
            .is_on()
            .then(|| inactivity_policy(&settings.inactivity)),
        erasure_cool_off: Some(seconds(settings.erasure_cool_off_seconds)),
        erasure_second_approver: settings.erasure_second_approver,
        erasure_deadline: Some(seconds(settings.erasure_deadline_seconds)),
    }
}

fn inactivity_policy(policy: &InactivityPolicy) -> proto::InactivityPolicy {
    // The bounds are those of the policy.
    let number = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    proto::InactivityPolicy {
        warn_after_days: number(policy.warn_after_days),
        deactivate_after_days: number(policy.deactivate_after_days),
        include_administrators: !policy.exempt_administrators,
        max_share_percent: number(policy.max_share_percent),
    }
}

/// A user, with the status that counts at `now` (S5).
pub(crate) fn user(user: &User, now: Timestamp) -> proto::User {
    let effective = user.effective_status(now);
    proto::User {
        tenant_id: user.tenant.to_string(),
        user_id: user.id.to_string(),
        email: user.profile.email.as_str().to_owned(),
        external_id: user.profile.external_id.clone().unwrap_or_default(),
        first_name: user.profile.first_name.clone(),
        last_name: user.profile.last_name.clone(),
        language: user.profile.language.clone(),
        labels: user.profile.labels.clone(),
        status: status(effective.name()).into(),
        status_time: Some(time(user.effective_since(now))),
        restores: effective
            .restores()
            .map_or(proto::UserStatus::Unspecified, status)
            .into(),
        expire_time: user.expires_at.map(time),
        version: user.version,
        create_time: Some(time(user.created_at)),
        update_time: Some(time(user.updated_at)),
        activate_time: user.activated_at.map(time),
        must_change_password: matches!(user.credential, Credential::OneTime { .. }),
        delete_time: user.deletes_at.map(time),
        last_login_time: user.last_login_at.map(time),
        seat_wait_time: user.seat_waiting_since.map(time),
        time_zone: user.profile.time_zone.clone(),
        engagement: match user.engagement(now) {
            None => proto::Engagement::Unspecified,
            Some(Engagement::Activated) => proto::Engagement::Activated,
            Some(Engagement::Engaged) => proto::Engagement::Engaged,
        }
        .into(),
        first_course_time: user.first_course_at.map(time),
    }
}

/// A group.
pub(crate) fn group(group: &Group) -> proto::Group {
    proto::Group {
        tenant_id: group.tenant.to_string(),
        group_id: group.id.to_string(),
        name: group.name.clone(),
        external_id: group.external_id.clone().unwrap_or_default(),
        parent_group_id: group.parent.map(|id| id.to_string()).unwrap_or_default(),
        version: group.version,
        create_time: Some(time(group.created_at)),
        update_time: Some(time(group.updated_at)),
    }
}

/// A permission.
pub(crate) fn permission(permission: Permission) -> proto::Permission {
    proto::Permission {
        name: permission.as_str().to_owned(),
        description: permission.description().to_owned(),
    }
}

/// A role that every tenant has, with what the policies allow it.
pub(crate) fn built_in_role<'a>(
    role: BuiltInRole,
    permissions: impl IntoIterator<Item = &'a Permission>,
) -> proto::Role {
    proto::Role {
        role: role.as_str().to_owned(),
        display_name: role.as_str().to_owned(),
        permissions: permissions.into_iter().copied().map(permission).collect(),
        built_in: true,
        ..proto::Role::default()
    }
}

/// A role of a tenant's own.
pub(crate) fn custom_role(role: &CustomRole) -> proto::Role {
    proto::Role {
        tenant_id: role.tenant.to_string(),
        role: role.id.to_string(),
        display_name: role.name.clone(),
        permissions: role.permissions.iter().copied().map(permission).collect(),
        built_in: false,
        version: role.version,
        create_time: Some(time(role.created_at)),
    }
}

/// A role that somebody holds somewhere.
pub(crate) fn assignment(user: UserId, role: RoleRef, scope: &Scope) -> proto::RoleAssignment {
    let (kind, id) = match scope {
        Scope::Platform => (proto::ScopeKind::Platform, String::new()),
        Scope::Group(group) => (proto::ScopeKind::Group, group.to_string()),
        Scope::Session(session) => (proto::ScopeKind::Session, session.clone()),
    };
    proto::RoleAssignment {
        user_id: user.to_string(),
        role: role.to_string(),
        scope: Some(proto::Scope { kind: kind.into(), id }),
    }
}

/// A job.
pub(crate) fn job(job: &Job) -> proto::Job {
    let state = match job.state {
        JobState::Running => proto::JobState::Running,
        JobState::Done => proto::JobState::Done,
        JobState::Cancelled => proto::JobState::Cancelled,
    };
    let import = match job.action {
        JobAction::Import { mode, dry_run, .. } => Some((mode, dry_run)),
        _ => None,
    };
    proto::Job {
        tenant_id: job.tenant.to_string(),
        job_id: job.id.to_string(),
        action: job.action.name().to_owned(),
        state: state.into(),
        total_count: job.total,
        done_count: job.counts.done(),
        changed_count: job.counts.changed,
        unchanged_count: job.counts.unchanged,
        skipped_count: job.counts.skipped,
        failed_count: job.counts.failed,
        origin_job_id: job.origin.map(|id| id.to_string()).unwrap_or_default(),
        create_time: Some(time(job.created_at)),
        end_time: job.ended_at.map(time),
        actor_id: job.actor.clone(),
        reason: job.reason.clone(),
        can_be_undone: job.action.can_be_undone() && job.state.has_ended() && job.counts.changed > 0,
        dry_run: import.is_some_and(|(_, dry_run)| dry_run),
        request_id: job.request_id.clone(),
        import_mode: import.map(|(mode, _)| mode.as_str().to_owned()).unwrap_or_default(),
    }
}

/// How an item ended.
pub(crate) fn item_outcome(outcome: ItemOutcome) -> proto::JobOutcome {
    match outcome {
        ItemOutcome::Changed => proto::JobOutcome::Changed,
        ItemOutcome::Unchanged => proto::JobOutcome::Unchanged,
        ItemOutcome::Skipped => proto::JobOutcome::Skipped,
        ItemOutcome::Failed => proto::JobOutcome::Failed,
    }
}

/// How an item ended, as reports name it.
pub(crate) fn item_outcome_name(outcome: ItemOutcome) -> &'static str {
    match outcome {
        ItemOutcome::Changed => "CHANGED",
        ItemOutcome::Unchanged => "UNCHANGED",
        ItemOutcome::Skipped => "SKIPPED",
        ItemOutcome::Failed => "FAILED",
    }
}

/// How an item ended, from a filter.
pub(crate) fn item_outcome_named(outcome: i32) -> Option<ItemOutcome> {
    match proto::JobOutcome::try_from(outcome).ok()? {
        proto::JobOutcome::Unspecified => None,
        proto::JobOutcome::Changed => Some(ItemOutcome::Changed),
        proto::JobOutcome::Unchanged => Some(ItemOutcome::Unchanged),
        proto::JobOutcome::Skipped => Some(ItemOutcome::Skipped),
        proto::JobOutcome::Failed => Some(ItemOutcome::Failed),
    }
}

/// What became of an item: one answer for each fault of a row. `address` is that of its account.
pub(crate) fn job_items<'a>(
    item: &'a ItemResult,
    address: Option<&str>,
) -> impl Iterator<Item = proto::JobItem> + use<'a> {
    let first = job_item(item, address);
    let further = item.further.iter().map({
        let first = first.clone();
        move |(column, message)| proto::JobItem {
            column: column.clone(),
            message: message.clone(),
            ..first.clone()
        }
    });
    std::iter::once(first).chain(further)
}

fn job_item(item: &ItemResult, address: Option<&str>) -> proto::JobItem {
    proto::JobItem {
        position: item.position,
        user_id: item.user.map(|id| id.to_string()).unwrap_or_default(),
        outcome: item_outcome(item.outcome).into(),
        reason: item.reason.clone(),
        message: item.message.clone(),
        column: item.column.clone(),
        detail: item.detail.clone(),
        address: address.unwrap_or(&item.address).to_owned(),
    }
}

/// The state of an invitation.
pub(crate) fn invitation_state(state: InvitationState) -> proto::InvitationState {
    match state {
        InvitationState::Queued => proto::InvitationState::Queued,
        InvitationState::Sent => proto::InvitationState::Sent,
        InvitationState::Accepted => proto::InvitationState::Accepted,
        InvitationState::Cancelled => proto::InvitationState::Cancelled,
        InvitationState::Superseded => proto::InvitationState::Superseded,
        InvitationState::Lapsed => proto::InvitationState::Lapsed,
        InvitationState::Undeliverable => proto::InvitationState::Undeliverable,
    }
}

/// The state of an invitation, from a filter.
pub(crate) fn invitation_state_name(state: i32) -> Option<InvitationState> {
    let wanted = proto::InvitationState::try_from(state).ok()?;
    InvitationState::ALL
        .into_iter()
        .find(|state| invitation_state(*state) == wanted)
}

/// An invitation, with the state that counts at `now`.
pub(crate) fn invitation(invitation: &Invitation, now: Timestamp) -> proto::Invitation {
    proto::Invitation {
        tenant_id: invitation.tenant.to_string(),
        invitation_id: invitation.id.to_string(),
        user_id: invitation.user.to_string(),
        email: invitation.email.as_str().to_owned(),
        state: invitation_state(invitation.effective_state(now)).into(),
        generation: invitation.generation,
        create_time: Some(time(invitation.created_at)),
        send_time: invitation.sent_at.map(time),
        lapse_time: Some(time(invitation.lapses_at)),
        accept_time: invitation.accepted_at.map(time),
        reminders: invitation.last_step,
        message: invitation.message.as_ref().map(message),
    }
}

fn message(message: &Message) -> proto::Message {
    proto::Message {
        language: message.language.clone(),
        subject: message.subject.clone(),
        text: message.text.clone(),
    }
}

/// The state of a delivery.
pub(crate) fn delivery_state(state: DeliveryStateName) -> proto::DeliveryState {
    match state {
        DeliveryStateName::Queued => proto::DeliveryState::Queued,
        DeliveryStateName::Claimed => proto::DeliveryState::Claimed,
        DeliveryStateName::Transmitting => proto::DeliveryState::Transmitting,
        DeliveryStateName::Deferred => proto::DeliveryState::Deferred,
        DeliveryStateName::Sent => proto::DeliveryState::Sent,
        DeliveryStateName::Failed => proto::DeliveryState::Failed,
        DeliveryStateName::Uncertain => proto::DeliveryState::Uncertain,
        DeliveryStateName::Suppressed => proto::DeliveryState::Suppressed,
        DeliveryStateName::Cancelled => proto::DeliveryState::Cancelled,
    }
}

/// The state of a delivery, from a filter.
pub(crate) fn delivery_state_name(state: i32) -> Option<DeliveryStateName> {
    let wanted = proto::DeliveryState::try_from(state).ok()?;
    DeliveryStateName::ALL
        .into_iter()
        .find(|state| delivery_state(*state) == wanted)
}

pub(crate) fn delivery_kind(kind: DeliveryKind) -> proto::DeliveryKind {
    match kind {
        DeliveryKind::Invitation => proto::DeliveryKind::Invitation,
        DeliveryKind::Reminder => proto::DeliveryKind::Reminder,
        DeliveryKind::AccountCreated => proto::DeliveryKind::AccountCreated,
        DeliveryKind::ExpiryWarning => proto::DeliveryKind::ExpiryWarning,
        DeliveryKind::ExpiryWarningToAdministrators => proto::DeliveryKind::ExpiryWarningToAdministrators,
        DeliveryKind::FreshLink => proto::DeliveryKind::FreshLink,
        DeliveryKind::InactivityWarning => proto::DeliveryKind::InactivityWarning,
        DeliveryKind::Test => proto::DeliveryKind::Test,
    }
}

pub(crate) fn outcome(outcome: Outcome) -> proto::DeliveryOutcome {
    match outcome {
        Outcome::Sent => proto::DeliveryOutcome::Sent,
        Outcome::Deferred => proto::DeliveryOutcome::Deferred,
        Outcome::Failed => proto::DeliveryOutcome::Failed,
        Outcome::Unreachable => proto::DeliveryOutcome::Unreachable,
        Outcome::Uncertain => proto::DeliveryOutcome::Uncertain,
        Outcome::Bounced => proto::DeliveryOutcome::Bounced,
        Outcome::SoftBounced => proto::DeliveryOutcome::SoftBounced,
        Outcome::Complained => proto::DeliveryOutcome::Complained,
    }
}

/// The outcome of a worker's report; `None` for an unspecified or unknown one, and for what ends no try.
pub(crate) fn outcome_of(wanted: i32) -> Option<Outcome> {
    let wanted = proto::DeliveryOutcome::try_from(wanted).ok()?;
    let mut ends = Outcome::ALL.into_iter().filter(|known| known.ends_a_try());
    ends.find(|known| outcome(*known) == wanted)
}

fn phase(phase: Phase) -> proto::SmtpPhase {
    match phase {
        Phase::Unknown => proto::SmtpPhase::Unspecified,
        Phase::Connect => proto::SmtpPhase::Connect,
        Phase::Mail => proto::SmtpPhase::Mail,
        Phase::Recipient => proto::SmtpPhase::Recipient,
        Phase::Data => proto::SmtpPhase::Data,
        Phase::Content => proto::SmtpPhase::Content,
    }
}

/// The phase of a report.
pub(crate) fn phase_of(wanted: i32) -> Phase {
    let wanted = proto::SmtpPhase::try_from(wanted).unwrap_or(proto::SmtpPhase::Unspecified);
    Phase::ALL
        .into_iter()
        .find(|known| phase(*known) == wanted)
        .unwrap_or_default()
}

/// A mail with its attempts.
pub(crate) fn delivery(record: &DeliveryRecord, message_id_domain: &str) -> proto::Delivery {
    let DeliveryRecord { delivery, attempts } = record;
    proto::Delivery {
        attempts: attempts
            .iter()
            .zip(1..)
            .map(|(tried, number)| attempt(tried, number))
            .collect(),
        ..delivery_alone(delivery, message_id_domain)
    }
}

/// A mail without its attempts.
pub(crate) fn delivery_alone(delivery: &Delivery, message_id_domain: &str) -> proto::Delivery {
    proto::Delivery {
        tenant_id: delivery.tenant.to_string(),
        delivery_id: delivery.id.to_string(),
        user_id: delivery.user.map(|id| id.to_string()).unwrap_or_default(),
        invitation_id: delivery.invitation.map(|id| id.to_string()).unwrap_or_default(),
        kind: delivery_kind(delivery.kind).into(),
        generation: delivery.generation,
        reminder_step: delivery.reminder_step,
        email: delivery.email.as_str().to_owned(),
        state: delivery_state(delivery.state.name()).into(),
        create_time: Some(time(delivery.created_at)),
        due_time: Some(time(delivery.due_at)),
        end_time: delivery.ended_at.map(time),
        message_id: delivery.message_id(message_id_domain),
        attempts: Vec::new(),
    }
}

fn attempt(attempt: &Attempt, number: i32) -> proto::DeliveryAttempt {
    proto::DeliveryAttempt {
        number,
        worker_id: attempt.worker.clone(),
        start_time: Some(time(attempt.started_at)),
        end_time: attempt.ended_at.map(time),
        outcome: attempt
            .outcome
            .map_or(proto::DeliveryOutcome::Unspecified, outcome)
            .into(),
        response: attempt.response.clone(),
        smtp_code: attempt.smtp_code,
        phase: phase(attempt.phase).into(),
    }
}

/// A suppression.
pub(crate) fn suppression(tenant: usher_core::ids::TenantId, suppression: &Suppression) -> proto::Suppression {
    proto::Suppression {
        tenant_id: tenant.to_string(),
        email: suppression.email.clone(),
        cause: suppression.cause.clone(),
        create_time: Some(time(suppression.at)),
    }
}

/// The data of an event.
pub(crate) fn event(event: &Event) -> LifecycleEvent {
    let name = |status: Option<StatusName>| status.map(|status| status.as_str().to_owned()).unwrap_or_default();
    LifecycleEvent {
        tenant_id: event.tenant.to_string(),
        user_id: event.user.map(|id| id.to_string()).unwrap_or_default(),
        user_version: event.user_version,
        from_status: name(event.from),
        to_status: name(event.to),
        reason: event.reason.clone(),
        actor_id: event.actor.clone(),
        request_id: event.request_id.clone(),
        invitation_id: event.invitation.map(|id| id.to_string()).unwrap_or_default(),
        delivery_id: event.delivery.map(|id| id.to_string()).unwrap_or_default(),
        expire_time: event.expires_at.map(time),
        reminder_step: event.reminder_step,
        changed_fields: event.changed_fields.clone(),
        group_id: event.group.map(|id| id.to_string()).unwrap_or_default(),
        role: event.role.clone(),
        session_id: event.session.clone(),
        template: event.template.clone(),
        job_id: event.job.map(|id| id.to_string()).unwrap_or_default(),
        audit_sequence: event.sealed.as_ref().map_or(0, |sealed| sealed.sequence),
        audit_chain: event
            .sealed
            .as_ref()
            .map(|sealed| sealed.chain.clone())
            .unwrap_or_default(),
        erasure_id: event.erasure.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// A change, as it stands in the history (B6).
pub(crate) fn history_entry(event: &Event) -> proto::HistoryEntry {
    proto::HistoryEntry {
        time: Some(time(event.at)),
        event_type: event.kind.as_str().to_owned(),
        from_status: event.from.map_or(proto::UserStatus::Unspecified, status).into(),
        to_status: event.to.map_or(proto::UserStatus::Unspecified, status).into(),
        actor_id: event.actor.clone(),
        reason: event.reason.clone(),
        request_id: event.request_id.clone(),
    }
}
