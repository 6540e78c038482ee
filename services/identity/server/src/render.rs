//! Mails as they are sent: what an account and its delivery say, put into the templates.

use usher_content::{Kind, MailContext, Rendered};
use usher_core::account::Account;
use usher_core::delivery::{Delivery, DeliveryKind, TestContent};
use usher_core::tenant::Tenant;
use usher_core::token::InvitationToken;
use usher_core::user::Credential;
use usher_proto::identity::v1::OutgoingMail;

use crate::app::App;

/// The mail of a delivery to an account.
pub(crate) fn mail(app: &App, account: &Account, delivery: &Delivery) -> OutgoingMail {
    let Account {
        tenant,
        user,
        invitation,
        ..
    } = account;
    let link = delivery.invitation.map(|invitation| {
        app.sender.link(
            &app.keys,
            tenant.id,
            InvitationToken {
                invitation,
                generation: delivery.generation,
            },
        )
    });
    let password = match (delivery.kind, &user.credential) {
        (DeliveryKind::AccountCreated, Credential::OneTime { generation }) => {
            Some(app.keys.one_time_password(tenant.id, user.id, *generation))
        }
        _ => None,
    };
    let invitation = invitation
        .as_ref()
        .filter(|invitation| Some(invitation.id) == delivery.invitation);
    let kind = match delivery.kind {
        DeliveryKind::Invitation | DeliveryKind::Test => Kind::Invitation,
        DeliveryKind::Reminder => Kind::Reminder,
        DeliveryKind::AccountCreated | DeliveryKind::InactivityWarning => Kind::AccountCreated,
    };
    let warning = (delivery.kind == DeliveryKind::InactivityWarning).then(|| {
        let policy = &tenant.settings.inactivity;
        let schedule = policy.schedule(user.inactive_since(), user.inactivity_warned_at, app.now());
        usher_content::inactivity_warning(&tenant.settings.display_name, schedule.deactivate_at)
    });
    let rendered = app.renderer.render(
        kind,
        &MailContext {
            language: warning
                .as_ref()
                .map_or(&user.profile.language, |warning| &warning.language),
            default_language: &tenant.settings.default_language,
            tenant_name: &tenant.settings.display_name,
            first_name: &user.profile.first_name,
            link: link.as_deref(),
            one_time_password: password.as_deref(),
            sign_in_url: Some(app.sender.sign_in_url.as_str()).filter(|url| !url.is_empty()),
            lapses_at: invitation.map(|invitation| invitation.lapses_at),
            reminder_step: delivery.reminder_step,
            message: warning
                .as_ref()
                .or_else(|| invitation.and_then(|invitation| invitation.message.as_ref())),
            test: false,
        },
    );
    let name = format!("{} {}", user.profile.first_name, user.profile.last_name);
    outgoing(app, tenant, delivery, name.trim(), rendered)
}

/// The mail of a test delivery (L12).
pub(crate) fn test_mail(app: &App, tenant: &Tenant, delivery: &Delivery) -> OutgoingMail {
    let empty = TestContent {
        language: String::new(),
        first_name: String::new(),
        message: None,
    };
    let content = delivery.test.as_ref().unwrap_or(&empty);
    outgoing(
        app,
        tenant,
        delivery,
        &content.first_name,
        sample(app, tenant, content, 0, true),
    )
}

/// An invitation, or a step of its ladder, with a link that leads nowhere.
pub(crate) fn sample(app: &App, tenant: &Tenant, content: &TestContent, reminder_step: i32, test: bool) -> Rendered {
    let link = app.sender.sample_link(tenant.id);
    let kind = if reminder_step > 0 {
        Kind::Reminder
    } else {
        Kind::Invitation
    };
    app.renderer.render(
        kind,
        &MailContext {
            language: &content.language,
            default_language: &tenant.settings.default_language,
            tenant_name: &tenant.settings.display_name,
            first_name: &content.first_name,
            link: Some(&link),
            one_time_password: None,
            sign_in_url: None,
            lapses_at: Some(app.now() + tenant.settings.invitation_lifetime()),
            reminder_step,
            message: content.message.as_ref(),
            test,
        },
    )
}

fn outgoing(app: &App, tenant: &Tenant, delivery: &Delivery, to_name: &str, rendered: Rendered) -> OutgoingMail {
    let settings = &tenant.settings;
    let from_name = if settings.sender_name.is_empty() {
        &settings.display_name
    } else {
        &settings.sender_name
    };
    OutgoingMail {
        from_address: app.sender.from_address.clone(),
        from_name: from_name.clone(),
        reply_to: settings.reply_to.clone(),
        to_address: delivery.email.envelope(),
        to_name: to_name.to_owned(),
        message_id: delivery.message_id(&app.sender.message_id_domain),
        subject: rendered.subject,
        text: rendered.text,
        html: rendered.html,
        language: rendered.language,
    }
}
