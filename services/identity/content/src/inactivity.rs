//! The warning that an account is not used (B10): English only, as a message in the layout of a notification.

use chrono::{DateTime, Utc};
use usher_core::invitation::Message;

/// What it says; `ends_at` is when access ends.
pub fn inactivity_warning(tenant_name: &str, ends_at: DateTime<Utc>) -> Message {
    Message {
        language: "en".into(),
        subject: format!("Your account at {tenant_name} will be deactivated"),
        text: format!(
            "You have not signed in to {tenant_name} for a long time. If you do not, your account will be deactivated on {} \
             or soon after.\n\nTo keep it, it is enough to sign in once.",
            ends_at.format("%-d %B %Y")
        ),
    }
}
