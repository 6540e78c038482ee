//! What came back: which mails the reports are about, and what is done about each (L13).

use tonic::{Request, Status};
use usher_core::account::Heard;
use usher_core::bounce::{Bounce, BounceKind, delivery_of};
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::ids::{DeliveryId, TenantId};
use usher_core::ports::{FoundMail, Keys, MailRef};
use usher_core::role::Permission;
use usher_core::text;
use usher_proto::identity::v1 as proto;
use usher_proto::identity::v1::{BounceOutcome, BounceReport, BounceResult, ReportBounceRequest, ReportBounceResponse};

use super::work_service::one_line;
use crate::app::App;
use crate::call::{finish, tenant as parse_tenant};
use crate::operations::engine::Failure;
use crate::operations::world::World;
use crate::parse::Faults;

/// Reports of one call at most.
const MAX_REPORTS: usize = 100;
/// Characters of a Message-ID at most.
const MAX_MESSAGE_ID: usize = 500;

/// `DeliveryService.ReportBounce`.
pub(super) async fn report(app: &App, request: Request<ReportBounceRequest>) -> Result<ReportBounceResponse, Status> {
    let body = request.get_ref();
    let (caller, mutation, mut faults) = app.begin("ReportBounce", &request, body.options.as_ref())?;
    let tenant = parse_tenant(&body.tenant_id, &mut faults);
    if body.reports.is_empty() || body.reports.len() > MAX_REPORTS {
        let count = body.reports.len();
        faults.add("reports", format!("has {count} reports; give 1 to {MAX_REPORTS}"));
    }
    let now = app.now();
    let mut reports = Vec::new();
    for (index, report) in body.reports.iter().take(MAX_REPORTS).enumerate() {
        reports.push(parse(&format!("reports[{index}]"), report, now, &mut faults));
    }
    finish(faults)?;
    app.permit(&caller, tenant, Permission::DeliveriesReport).await?;
    let wanted: Vec<MailRef> = reports.iter().filter_map(|report| report.about.clone()).collect();
    let mut found = app
        .store
        .find_mails(tenant, &wanted)
        .await
        .map_err(Failure::from)?
        .into_iter();
    let reports: Vec<(Option<FoundMail>, Bounce)> = reports
        .into_iter()
        .map(|report| (report.about.and_then(|_| found.next().flatten()), report.bounce))
        .collect();
    let mails = || reports.iter().filter_map(|(mail, _)| mail.as_ref());
    let keys = Keys {
        tenants: [tenant].into(),
        deliveries: mails().map(|mail| (tenant, mail.id)).collect(),
        emails: mails().map(|mail| (tenant, mail.email.clone())).collect(),
        with_mail: true,
        ..Keys::default()
    };
    let weight = reports.len();
    let mut command = mutation.clone().command(tenant, keys, move |world, changes| {
        let act = mutation.act(world.now);
        world.tenant(tenant)?;
        let results = reports
            .iter()
            .map(|(mail, bounce)| match mail {
                Some(mail) => hear(world, tenant, mail, bounce, &act, changes),
                None => result(Heard::NeverSent, None),
            })
            .collect();
        Ok(ReportBounceResponse { results })
    });
    command.weight = weight;
    Ok(app.engine.run(command).await?)
}

/// A report, as far as it can be read without the store.
struct Parsed {
    /// Which mail it means; `None`: by its Message-ID, none of ours.
    about: Option<MailRef>,
    bounce: Bounce,
}

fn parse(field: &str, report: &BounceReport, now: Timestamp, faults: &mut Faults) -> Parsed {
    let at = |name: &str| format!("{field}.{name}");
    let kind = match proto::BounceKind::try_from(report.kind) {
        Ok(proto::BounceKind::Hard) => BounceKind::Hard,
        Ok(proto::BounceKind::Soft) => BounceKind::Soft,
        Ok(proto::BounceKind::Complaint) => BounceKind::Complaint,
        Ok(proto::BounceKind::Unspecified) | Err(_) => {
            faults.add(at("kind"), "is required: HARD, SOFT or COMPLAINT");
            BounceKind::Soft
        }
    };
    if !report.status.is_empty() && !is_status(&report.status) {
        faults.add(at("status"), "is no enhanced status code (RFC 3463), such as 5.1.1");
    } else if kind == BounceKind::Hard && !report.status.is_empty() && !report.status.starts_with("5.") {
        faults.add(at("status"), "is not for good; a HARD bounce has a code of class 5");
    }
    let bounce = Bounce {
        kind,
        status: report.status.clone(),
        diagnostic: one_line(&report.diagnostic),
        at: faults.instant(&at("time"), report.time),
    };
    let delivery: Option<DeliveryId> = faults.optional_id(&at("delivery_id"), &report.delivery_id);
    let message_id = faults.take(&at("message_id"), text::line(&report.message_id, MAX_MESSAGE_ID));
    let recipient = (!report.recipient.is_empty()).then(|| faults.email(&at("recipient"), &report.recipient));
    if delivery.is_none() && message_id.is_empty() && recipient.is_none() {
        faults.add(field, "names no mail; give delivery_id, message_id or recipient");
    }
    let (since, until) = bounce.span(now);
    let about = match (delivery, recipient) {
        (Some(id), _) => Some(MailRef::Id(id)),
        (None, Some(recipient)) if message_id.is_empty() => Some(MailRef::To {
            email: recipient.key().to_owned(),
            since,
            until,
        }),
        (None, _) => delivery_of(&message_id).map(MailRef::Id),
    };
    Parsed { about, bounce }
}

/// `class.subject.detail` of RFC 3463 section 2.
fn is_status(text: &str) -> bool {
    let mut parts = text.split('.');
    let class = matches!(parts.next(), Some("2" | "4" | "5"));
    let mut number = || {
        parts
            .next()
            .is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit()))
    };
    class && number() && number() && parts.next().is_none()
}

fn hear(
    world: &mut World,
    tenant: TenantId,
    mail: &FoundMail,
    bounce: &Bounce,
    act: &Act,
    changes: &mut Changeset,
) -> BounceResult {
    let heard = match mail.user {
        None => world
            .detached(tenant, mail.id)
            .map(|test| test.bounce(bounce, act, changes)),
        Some(_) => world
            .account_by_delivery(tenant, mail.id)
            .map(|account| account.bounce(mail.id, bounce, act, changes)),
    };
    let heard = heard.unwrap_or(Heard::NeverSent);
    if heard == Heard::Suppressed {
        world.loaded.suppressed.insert((tenant, mail.email.clone()));
        // The address may be another account's by now.
        if let Some(account) = world.account_by_email(tenant, &mail.email) {
            account.suppressed = true;
        }
    }
    result(heard, Some(mail.id))
}

fn result(heard: Heard, delivery: Option<DeliveryId>) -> BounceResult {
    let (outcome, reason) = match heard {
        Heard::Suppressed => (BounceOutcome::Suppressed, "the address gets no mail any more"),
        Heard::Recorded => (
            BounceOutcome::Recorded,
            "a soft bounce is written down, and suppresses nothing by itself",
        ),
        Heard::Repeated => (BounceOutcome::Repeated, "the same was reported of this mail before"),
        Heard::NeverSent => (
            BounceOutcome::Unknown,
            "it is about no mail of this tenant that went out",
        ),
    };
    let delivery = delivery.filter(|_| outcome != BounceOutcome::Unknown);
    BounceResult {
        outcome: outcome.into(),
        reason: reason.into(),
        delivery_id: delivery.map(|id| id.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l13_a_status_is_a_code_of_rfc_3463() {
        for good in ["5.1.1", "4.2.2", "2.0.0", "5.1.10", "5.7.515"] {
            assert!(is_status(good), "{good}");
        }
        for bad in [
            "", "5", "5.1", "550", "3.1.1", "5.1.1.1", "5.1.x", "5..1", "5.1.1000", "5.1.1 ",
        ] {
            assert!(!is_status(bad), "{bad}");
        }
    }
}
