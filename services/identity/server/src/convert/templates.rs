//! Mail templates, between core's types and the wire.

use usher_core::template::{Effective, TemplateKey, TemplateKind, TemplateText, TemplateVersion};
use usher_core::tenant::Tenant;
use usher_proto::identity::v1 as proto;

use super::time;

/// What a mail is about.
pub(crate) fn kind(kind: TemplateKind) -> proto::TemplateKind {
    match kind {
        TemplateKind::Invitation => proto::TemplateKind::Invitation,
        TemplateKind::Reminder => proto::TemplateKind::Reminder,
        TemplateKind::AccountCreated => proto::TemplateKind::AccountCreated,
        TemplateKind::FreshLink => proto::TemplateKind::FreshLink,
        TemplateKind::ExpiryWarning => proto::TemplateKind::ExpiryWarning,
        TemplateKind::ExpiryWarningToAdministrators => proto::TemplateKind::ExpiryWarningToAdministrators,
        TemplateKind::InactivityWarning => proto::TemplateKind::InactivityWarning,
    }
}

/// The reverse of `kind`.
pub(crate) fn kind_of(given: i32) -> Option<TemplateKind> {
    let wanted = proto::TemplateKind::try_from(given).ok()?;
    TemplateKind::ALL.into_iter().find(|known| kind(*known) == wanted)
}

/// Which template.
pub(crate) fn key(key: &TemplateKey) -> proto::TemplateKey {
    proto::TemplateKey {
        kind: kind(key.kind).into(),
        step: key.step,
        language: key.language.clone(),
    }
}

/// The texts of a template.
pub(crate) fn content(content: &TemplateText) -> proto::TemplateContent {
    proto::TemplateContent {
        subject: content.subject.clone(),
        text: content.text.clone(),
        mjml: content.mjml.clone(),
    }
}

/// The reverse of `content`; the line breaks of all systems become `\n`.
pub(crate) fn text_of(given: Option<&proto::TemplateContent>) -> TemplateText {
    let given = given.cloned().unwrap_or_default();
    let lines = |text: &str| text.replace("\r\n", "\n");
    TemplateText {
        subject: lines(&given.subject),
        text: lines(&given.text),
        mjml: lines(&given.mjml),
    }
}

/// The template that mails are made with, without its texts.
pub(crate) fn effective(tenant: &Tenant, asked: &TemplateKey, found: &Effective) -> proto::Template {
    let (source, found, version) = match found {
        Effective::Own { key, version } => (proto::TemplateSource::Tenant, key.clone(), *version),
        Effective::Default(language) => {
            let found = TemplateKey {
                language: (*language).to_owned(),
                ..asked.clone()
            };
            (proto::TemplateSource::Default, found, 0)
        }
    };
    proto::Template {
        tenant_id: tenant.id.to_string(),
        key: Some(key(asked)),
        source: source.into(),
        found: Some(key(&found)),
        version,
        newest_version: tenant.templates.version(asked),
        ..proto::Template::default()
    }
}

/// The same with what was saved.
pub(crate) fn with_version(template: proto::Template, saved: &TemplateVersion) -> proto::Template {
    proto::Template {
        content: saved.content.as_ref().map(content),
        save_time: Some(time(saved.saved_at)),
        saved_by: saved.saved_by.clone(),
        reason: saved.reason.clone(),
        reset: saved.content.is_none(),
        ..template
    }
}

/// A version that was saved.
pub(crate) fn version(saved: &TemplateVersion, newest: i64) -> proto::Template {
    let template = proto::Template {
        tenant_id: saved.tenant.to_string(),
        key: Some(key(&saved.key)),
        source: proto::TemplateSource::Tenant.into(),
        found: Some(key(&saved.key)),
        version: saved.version,
        newest_version: newest,
        ..proto::Template::default()
    };
    with_version(template, saved)
}
