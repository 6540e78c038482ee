//! Feedback reports (RFC 5965): a recipient called a mail unwanted.

use usher_proto::identity::v1::BounceKind;

use super::delivery_status::address;
use super::fields::Fields;
use super::{Envelope, MAX_RECIPIENTS, Reading, report};

/// Reads the part with the feedback. A report that only names a Message-ID, since the address was blacked out, is one too.
pub(super) fn read(text: &str, envelope: &Envelope) -> Reading {
    let groups = Fields::all(text);
    let Some(fields) = groups.first() else {
        return Reading::Nothing("its feedback is empty");
    };
    let kind = fields.get("feedback-type").unwrap_or_default().to_ascii_lowercase();
    // Others are about the mail server, or say that a mail was wanted.
    if !matches!(kind.as_str(), "abuse" | "fraud" | "opt-out" | "opt-out-list") {
        return Reading::Nothing("its feedback is no complaint");
    }
    let mut recipients: Vec<String> = ["original-rcpt-to", "removal-recipient"]
        .into_iter()
        .flat_map(|name| fields.every(name))
        .map(address)
        .take(MAX_RECIPIENTS)
        .collect();
    recipients.sort_unstable();
    recipients.dedup();
    if recipients.is_empty() || !envelope.message_id.is_empty() {
        // Usher's mails have one recipient: the Message-ID says it all.
        recipients.truncate(1);
        recipients.resize(1, String::new());
    }
    let reports: Vec<_> = recipients
        .iter()
        .filter_map(|recipient| report(BounceKind::Complaint, recipient, "", &kind, envelope))
        .collect();
    if reports.is_empty() {
        Reading::Nothing("it names neither a mail nor an address")
    } else {
        Reading::Reports(reports)
    }
}
