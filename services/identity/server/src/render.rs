//! Mails as they are sent: what an account and its delivery say, put into the template that is theirs.

use std::sync::Arc;

use usher_content::{Facts, Mail, Rendered};
use usher_core::account::Account;
use usher_core::clock::Timestamp;
use usher_core::delivery::{Delivery, DeliveryKind, TestContent};
use usher_core::ids::UserId;
use usher_core::template::TemplateKind;
use usher_core::tenant::Tenant;
use usher_core::token::InvitationToken;
use usher_core::user::Credential;
use usher_proto::identity::v1::OutgoingMail;

use crate::app::App;
use crate::operations;
use crate::operations::digest::Digest;
use crate::operations::engine::Failure;

/// A mail that is to be written, as it stood when it was claimed.
pub(crate) enum Letter {
    /// To a person.
    Personal(Box<Account>, Box<Delivery>),
    /// A test, which belongs to nobody (L12).
    Test(Arc<Tenant>, Box<Delivery>),
}

impl Letter {
    /// Writes it; `None`: it has nothing to say any more.
    pub(crate) async fn write(&self, app: &App) -> Result<Option<OutgoingMail>, Failure> {
        match self {
            Self::Personal(account, delivery) => personal(app, account, delivery).await,
            Self::Test(tenant, delivery) => test(app, tenant, delivery).await.map(Some),
        }
    }
}

async fn personal(app: &App, account: &Account, delivery: &Delivery) -> Result<Option<OutgoingMail>, Failure> {
    let Account {
        tenant,
        user,
        invitation,
        ..
    } = account;
    let token = delivery.invitation.map(|invitation| InvitationToken {
        invitation,
        generation: delivery.generation,
    });
    let link = match token {
        Some(token) => app.sender.link(&app.keys, tenant.id, token),
        None => app.sender.sign_in_url.clone(),
    };
    let password = match (delivery.kind, &user.credential) {
        (DeliveryKind::AccountCreated, Credential::OneTime { generation }) => {
            app.keys.one_time_password(tenant.id, user.id, *generation)
        }
        _ => String::new(),
    };
    let invitation = invitation
        .as_ref()
        .filter(|invitation| Some(invitation.id) == delivery.invitation);
    let lapses_at = invitation.map_or(delivery.give_up_at, |invitation| invitation.lapses_at);
    // What the clock on their wall shows.
    let zone = account.time_zone();
    let wall = |at: Timestamp| at.with_timezone(&zone).naive_local().and_utc();
    let mut digest = Digest::default();
    if delivery.kind == DeliveryKind::ExpiryWarningToAdministrators {
        match operations::digest::digest(&*app.store, user.id, delivery, app.now()).await? {
            Some(found) => digest = found,
            None => return Ok(None),
        }
        for person in &mut digest.people {
            person.expires_at = wall(person.expires_at);
        }
    }
    let (lapses_at, now) = (wall(lapses_at), wall(app.now()));
    let facts = match delivery.kind {
        DeliveryKind::Invitation | DeliveryKind::Test => Facts::Invitation { lapses_at },
        DeliveryKind::FreshLink => Facts::FreshLink { lapses_at },
        DeliveryKind::Reminder => Facts::Reminder {
            step: delivery.reminder_step,
            lapses_at,
        },
        DeliveryKind::ExpiryWarning => Facts::ExpiryWarning {
            expires_at: wall(delivery.give_up_at),
            now,
        },
        DeliveryKind::ExpiryWarningToAdministrators => Facts::ExpiryWarningToAdministrators {
            people: &digest.people,
            count: digest.count,
            now,
        },
        DeliveryKind::InactivityWarning => {
            let policy = &tenant.settings.inactivity;
            // The time that the warning leaves begins with this try.
            let schedule = policy.schedule(user.inactive_since(), Some(app.now()), app.now());
            Facts::InactivityWarning {
                last_login_at: user.last_login_at.map(wall),
                deactivates_at: wall(schedule.deactivate_at),
                now,
            }
        }
        DeliveryKind::AccountCreated => Facts::AccountCreated {
            one_time_password: &password,
        },
    };
    let chosen = app
        .templates
        .choose(tenant, facts.kind(), delivery.reminder_step, &user.profile.language)
        .await?;
    let unsubscribe_url = unsubscribe_url(tenant, facts.kind(), user.id);
    let mail = Mail {
        language: &chosen.language,
        tenant_name: &tenant.settings.display_name,
        first_name: &user.profile.first_name,
        last_name: &user.profile.last_name,
        link: &link,
        unsubscribe_url: &unsubscribe_url,
        message: invitation.and_then(|invitation| invitation.message.as_ref()),
        test: false,
        facts,
    };
    let rendered = filled(chosen.template.render(&mail))?;
    let name = format!("{} {}", user.profile.first_name, user.profile.last_name);
    let outgoing = outgoing(app, tenant, delivery, name.trim(), rendered);
    Ok(Some(OutgoingMail {
        unsubscribe_url,
        ..outgoing
    }))
}

async fn test(app: &App, tenant: &Tenant, delivery: &Delivery) -> Result<OutgoingMail, Failure> {
    let empty = TestContent {
        language: String::new(),
        first_name: String::new(),
        message: None,
    };
    let content = delivery.test.as_ref().unwrap_or(&empty);
    let rendered = sample(app, tenant, content, 0, true).await?;
    Ok(outgoing(app, tenant, delivery, &content.first_name, rendered))
}

/// An invitation, or a step of its ladder, with a link that leads nowhere.
pub(crate) async fn sample(
    app: &App,
    tenant: &Tenant,
    content: &TestContent,
    reminder_step: i32,
    test: bool,
) -> Result<Rendered, Failure> {
    let lapses_at = app.now() + tenant.settings.invitation_lifetime();
    let facts = if reminder_step > 0 {
        Facts::Reminder {
            step: reminder_step,
            lapses_at,
        }
    } else {
        Facts::Invitation { lapses_at }
    };
    let chosen = app
        .templates
        .choose(tenant, facts.kind(), reminder_step, &content.language)
        .await?;
    filled(chosen.template.render(&Mail {
        language: &chosen.language,
        tenant_name: &tenant.settings.display_name,
        first_name: &content.first_name,
        last_name: "",
        link: &app.sender.sample_link(tenant.id),
        unsubscribe_url: "",
        message: content.message.as_ref(),
        test,
        facts,
    }))
}

/// Where a recipient says that they want no more mails of a kind; empty: nowhere.
pub(crate) fn unsubscribe_url(tenant: &Tenant, kind: TemplateKind, user: UserId) -> String {
    if kind.is_optional() {
        tenant.settings.unsubscribe_url.replace("{user_id}", &user.to_string())
    } else {
        String::new()
    }
}

pub(crate) fn filled(rendered: Result<Rendered, usher_content::RenderError>) -> Result<Rendered, Failure> {
    rendered.map_err(|error| Failure::Internal(error.to_string()))
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
        unsubscribe_url: String::new(),
    }
}
