//! What a tenant's mails say: in its own words, in the reader's language (L11).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{TemplateKind, TemplateSource};

use crate::stage::{DAY, PATIENCE, Stage, alone, assert_refused, together};

fn key(kind: TemplateKind, language: &str) -> api::TemplateKey {
    api::TemplateKey {
        kind: kind.into(),
        step: i32::from(kind == TemplateKind::Reminder),
        language: language.into(),
    }
}

/// A template that says one thing, and what it must.
fn content(words: &str) -> api::TemplateContent {
    api::TemplateContent {
        subject: format!("{words} – {{{{ tenant_name }}}}"),
        text: format!("{words}\n\n{{{{ message }}}}\n\n{{{{ link }}}}\n"),
        mjml: format!(
            "<mjml><mj-body><mj-section><mj-column><mj-text>{words} {{{{ first_name }}}} {{{{ message }}}}</mj-text>\
             <mj-button href=\"{{{{ link }}}}\">{words}</mj-button></mj-column></mj-section></mj-body></mjml>"
        ),
    }
}

fn saving(tenant: &str, key: api::TemplateKey, content: api::TemplateContent) -> api::UpdateTemplateRequest {
    api::UpdateTemplateRequest {
        tenant_id: tenant.into(),
        key: Some(key),
        content: Some(content),
        expected_version: 0,
        options: None,
    }
}

/// What is wrong, by field.
#[track_caller]
fn faults<T: std::fmt::Debug>(answer: Result<T, Status>) -> BTreeMap<String, String> {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let found = details.bad_request().map(|found| found.field_violations.clone());
    let found = found.unwrap_or_default().into_iter();
    found.map(|fault| (fault.field, fault.description)).collect()
}

impl<G: std::ops::Deref<Target = usher_tests::system::System>> Stage<G> {
    async fn save(&self, key: api::TemplateKey, words: &str) -> Result<api::Template> {
        let request = saving(&self.tenant, key, content(words));
        let saved = self.clients.templates().update_template(request).await?;
        saved.into_inner().template.context("the template")
    }

    async fn template(&self, key: api::TemplateKey, version: i64) -> Result<api::Template> {
        let request = api::GetTemplateRequest {
            tenant_id: self.tenant.clone(),
            key: Some(key),
            version,
        };
        let found = self.clients.templates().get_template(request).await?;
        found.into_inner().template.context("the template")
    }

    async fn reset(&self, key: api::TemplateKey) -> Result<api::Template> {
        let request = api::ResetTemplateRequest {
            tenant_id: self.tenant.clone(),
            key: Some(key),
            ..api::ResetTemplateRequest::default()
        };
        let reset = self.clients.templates().reset_template(request).await?;
        reset.into_inner().template.context("the template")
    }

    async fn invite_in(
        &self,
        name: &str,
        language: &str,
        text: &str,
    ) -> Result<usher_tests::environment::mail::ParsedMail> {
        let request = api::InviteUsersRequest {
            language: language.into(),
            messages: (!text.is_empty())
                .then(|| api::Message {
                    text: text.into(),
                    ..api::Message::default()
                })
                .into_iter()
                .collect(),
            ..self.inviting(self.address(name))
        };
        self.clients.invitations().invite_users(request).await?;
        self.mail(name, 1).await
    }
}

/// L11
#[test]
fn a_tenant_writes_its_own_invitation_and_people_get_it_in_their_language() -> Result<()> {
    together(async |stage| {
        let invitation = |language| key(TemplateKind::Invitation, language);
        stage.save(invitation("fr"), "Bienvenue chez nous").await?;
        stage.save(invitation("pt-BR"), "Bem-vindo").await?;
        for (name, language, expected) in [
            ("fr", "fr", "Bienvenue chez nous – École des Tests"),
            ("ca", "fr-CA", "Bienvenue chez nous – École des Tests"),
            ("br", "pt-BR", "Bem-vindo – École des Tests"),
            // Usher speaks German, so a German reader is not written to in another language.
            ("de", "de", "Ihre Einladung zu École des Tests"),
            ("none", "", "Your invitation to École des Tests"),
        ] {
            let mail = stage.invite_in(name, language, "").await?;
            assert_eq!(mail.subject, expected, "{language}");
            assert!(mail.html.contains("https://learn.example/accept?"), "{}", mail.html);
            assert!(mail.text.contains("https://learn.example/accept?"), "{}", mail.text);
            let written = match language {
                "" => "en",
                "fr-CA" => "fr",
                language => language,
            };
            assert_eq!(mail.header("Content-Language"), Some(written));
            assert!(
                mail.html.contains(&format!("<html lang=\"{written}\" dir=\"ltr\"")),
                "{}",
                mail.html
            );
        }
        // A text that was written for one invitation stands where the template puts it, as the characters that it is.
        let mail = stage
            .invite_in("own", "fr", "<b>Bonjour</b>\n{{ link }}\n\nÀ lundi")
            .await?;
        assert!(
            mail.text
                .contains("Bienvenue chez nous\n\n<b>Bonjour</b>\n{{ link }}\n\nÀ lundi\n\nhttps://"),
            "{}",
            mail.text
        );
        let expected = "<p dir=\"auto\">&lt;b&gt;Bonjour&lt;/b&gt;<br>\n{{ link }}</p>\n<p dir=\"auto\">À lundi</p>";
        assert!(mail.html.contains(expected), "{}", mail.html);
        Ok(())
    })
}

/// L11, L14: a reminder's words change with the step, and steps without words of their own have those of the step below.
#[test]
fn each_step_of_the_ladder_can_have_words_of_its_own() -> Result<()> {
    alone(async |mut stage| {
        stage
            .settings(api::Tenant {
                unsubscribe_url: "https://school.example/stop?user={user_id}".into(),
                ..api::Tenant::default()
            })
            .await?;
        let step = |step| api::TemplateKey {
            step,
            ..key(TemplateKind::Reminder, "en")
        };
        stage.save(step(2), "The second time").await?;
        let (user, _) = stage.invited("ana").await?;
        let first = stage.mail("ana", 1).await?;
        assert_eq!(first.header("Auto-Submitted"), Some("auto-generated"));
        assert_eq!(
            first.header("List-Unsubscribe"),
            None,
            "an invitation was asked for by somebody"
        );
        let expected = [
            (3, "Reminder: your invitation to École des Tests"),
            (4, "The second time – École des Tests"),
            (7, "The second time – École des Tests"),
        ];
        for (number, (days, subject)) in expected.into_iter().enumerate() {
            stage.system.advance(days * DAY).await?;
            let mail = stage.mail("ana", number + 2).await?;
            assert_eq!(mail.subject, subject);
            let leave = format!("<https://school.example/stop?user={}>", user.user_id);
            assert_eq!(mail.header("List-Unsubscribe"), Some(leave.as_str()));
            assert_eq!(mail.header("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
            assert_eq!(mail.header("Auto-Submitted"), Some("auto-generated"));
            stage.settled().await?;
        }
        Ok(())
    })
}

/// L11, B11: a fresh link comes with words of its own.
#[test]
fn a_fresh_link_that_was_asked_for_is_no_second_invitation() -> Result<()> {
    alone(async |stage| {
        stage.invited("ana").await?;
        let lapsed = stage.link("ana", 1).await?;
        stage.system.advance(31 * DAY).await?;
        let before = stage.mails("ana").len();
        let request = api::RequestFreshInvitationRequest {
            tenant_id: stage.tenant.clone(),
            token: lapsed,
        };
        stage.clients.invitations().request_fresh_invitation(request).await?;
        let mail = stage.mail("ana", before + 1).await?;
        assert_eq!(mail.subject, "Your new link to École des Tests");
        stage.accept(&stage.link("ana", before + 1).await?).await?;
        Ok(())
    })
}

/// L11
#[test]
fn what_is_wrong_with_a_template_is_named_field_by_field_and_nothing_is_saved() -> Result<()> {
    together(async |stage| {
        let good = content("Welcome");
        let bad = api::TemplateContent {
            subject: "{{ nickname }}".into(),
            text: "Welcome {{ message }}".into(),
            mjml: good.mjml.replace("</mj-button>", ""),
        };
        let update = async |content: &api::TemplateContent, key| {
            let request = saving(&stage.tenant, key, content.clone());
            stage.clients.templates().update_template(request).await
        };
        let invitation = key(TemplateKind::Invitation, "en");
        let fields = faults(update(&bad, invitation.clone()).await);
        assert!(
            fields["content.subject"].starts_with("line 1, column 4: there is no variable nickname"),
            "{fields:?}"
        );
        assert!(fields["content.mjml"].contains("ends before"), "{fields:?}");
        let bad = api::TemplateContent {
            text: bad.text,
            ..good.clone()
        };
        let found = faults(update(&bad, invitation.clone()).await);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found["content.text"].contains("misses the link"), "{found:?}");
        for (wrong, field) in [
            (key(TemplateKind::Unspecified, "en"), "key.kind"),
            (key(TemplateKind::Invitation, ""), "key.language"),
            (key(TemplateKind::Invitation, "english"), "key.language"),
            (
                api::TemplateKey {
                    step: 1,
                    ..invitation.clone()
                },
                "key.step",
            ),
            (
                api::TemplateKey {
                    step: 11,
                    ..key(TemplateKind::Reminder, "en")
                },
                "key.step",
            ),
        ] {
            let found = faults(update(&good, wrong).await);
            assert!(found.contains_key(field), "{found:?}");
        }
        // A draft is checked the same way, and shown if it is good.
        let preview = |draft| api::PreviewTemplateRequest {
            tenant_id: stage.tenant.clone(),
            key: Some(key(TemplateKind::Invitation, "ar")),
            draft: Some(draft),
            sample: [("first_name".into(), "<Zoë>".into())].into(),
            ..api::PreviewTemplateRequest::default()
        };
        let found = faults(stage.clients.templates().preview_template(preview(bad)).await);
        assert!(found.contains_key("draft.text"), "{found:?}");
        let shown = stage
            .clients
            .templates()
            .preview_template(preview(good))
            .await?
            .into_inner();
        assert_eq!(
            (shown.subject.as_str(), shown.language.as_str()),
            ("Welcome – École des Tests", "ar")
        );
        assert!(
            shown.html.contains("&lt;Zoë&gt;") && shown.html.contains("<html lang=\"ar\" dir=\"rtl\""),
            "{}",
            shown.html
        );
        let now = stage.template(invitation, 0).await?;
        assert_eq!((now.source(), now.newest_version), (TemplateSource::Default, 0));
        Ok(())
    })
}

/// L11
#[test]
fn a_template_has_versions_can_be_reset_and_an_old_one_restored() -> Result<()> {
    together(async |stage| {
        let invitation = || key(TemplateKind::Invitation, "en");
        assert_eq!(stage.save(invitation(), "First").await?.version, 1);
        assert_eq!(
            stage.save(invitation(), "First").await?.version,
            1,
            "the same is no new version"
        );
        let late = api::UpdateTemplateRequest {
            expected_version: 7,
            ..saving(&stage.tenant, invitation(), content("Late"))
        };
        let answer = stage.clients.templates().update_template(late).await;
        assert_refused(answer, Code::Aborted, "VERSION_MISMATCH");
        let trying = api::UpdateTemplateRequest {
            options: Some(api::MutationOptions {
                validate_only: true,
                ..api::MutationOptions::default()
            }),
            ..saving(&stage.tenant, invitation(), content("Tried"))
        };
        let tried = stage.clients.templates().update_template(trying).await?.into_inner();
        assert_eq!(tried.template.context("the template")?.version, 2);
        assert_eq!(
            stage.save(invitation(), "Second").await?.version,
            2,
            "trying saved nothing"
        );
        assert!(stage.invite_in("second", "en", "").await?.subject.starts_with("Second"));

        let reset = stage.reset(invitation()).await?;
        assert_eq!(
            (reset.source(), reset.version, reset.newest_version),
            (TemplateSource::Default, 0, 3)
        );
        assert!(
            stage
                .invite_in("reset", "en", "")
                .await?
                .subject
                .starts_with("Your invitation")
        );
        assert_eq!(
            stage.reset(invitation()).await?.newest_version,
            3,
            "there is nothing left to reset"
        );

        let old = stage.template(invitation(), 1).await?.content.context("its texts")?;
        let restore = saving(&stage.tenant, invitation(), old);
        stage.clients.templates().update_template(restore).await?;
        assert!(
            stage
                .invite_in("restored", "en", "")
                .await?
                .subject
                .starts_with("First")
        );

        let list = api::ListTemplateVersionsRequest {
            tenant_id: stage.tenant.clone(),
            key: Some(invitation()),
            page_size: 3,
            page_token: String::new(),
        };
        let page = stage
            .clients
            .templates()
            .list_template_versions(list.clone())
            .await?
            .into_inner();
        let following = api::ListTemplateVersionsRequest {
            page_token: page.next_page_token,
            ..list
        };
        let older = stage
            .clients
            .templates()
            .list_template_versions(following)
            .await?
            .into_inner();
        let versions: Vec<_> = page
            .versions
            .iter()
            .chain(&older.versions)
            .map(|it| (it.version, it.reset))
            .collect();
        assert_eq!(versions, [(4, false), (3, true), (2, false), (1, false)]);
        let unknown = api::GetTemplateRequest {
            tenant_id: stage.tenant.clone(),
            key: Some(invitation()),
            version: 5,
        };
        let answer = stage.clients.templates().get_template(unknown).await;
        assert_refused(answer, Code::NotFound, "TEMPLATE_NOT_FOUND");

        let mut templates = stage.clients.templates();
        let listed = templates.list_templates(api::ListTemplatesRequest {
            tenant_id: stage.tenant.clone(),
            ..api::ListTemplatesRequest::default()
        });
        let listed = listed.await?.into_inner().templates;
        assert_eq!(listed.len(), 7 * 5, "each kind in each language");
        let own: Vec<_> = listed
            .iter()
            .filter(|it| it.source() == TemplateSource::Tenant)
            .collect();
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].key.clone(), own[0].version), (Some(invitation()), 4));
        Ok(())
    })
}

/// L11
#[test]
fn a_template_that_was_saved_at_one_replica_is_used_by_another_from_the_next_mail_on() -> Result<()> {
    together(async |stage| {
        let (mut replica, other) = stage.system.replica().await?;
        let preview = async |expected: &str| -> Result<()> {
            let request = api::PreviewInvitationRequest {
                tenant_id: stage.tenant.clone(),
                ..api::PreviewInvitationRequest::default()
            };
            let shown = other.invitations().preview_invitation(request).await?.into_inner();
            assert!(shown.subject.starts_with(expected), "{}", shown.subject);
            Ok(())
        };
        preview("Your invitation").await?;
        for words in ["One", "Two", "Three"] {
            stage.save(key(TemplateKind::Invitation, "en"), words).await?;
            preview(words).await?;
        }
        stage.reset(key(TemplateKind::Invitation, "en")).await?;
        preview("Your invitation").await?;
        replica.terminate(PATIENCE).await?;
        Ok(())
    })
}

/// L11, U1: only whoever runs the platform changes what its mails say.
#[test]
fn a_group_administrator_neither_reads_nor_changes_templates() -> Result<()> {
    together(async |stage| {
        let group = stage.group("Maths", "").await?;
        let head = stage.active("head").await?;
        stage
            .give(&head.user_id, "administrator", crate::stage::in_group(&group))
            .await?;
        let acting = stage.acting(&head.user_id)?;
        let request = saving(&stage.tenant, key(TemplateKind::Invitation, "en"), content("Mine"));
        let answer = acting.templates().update_template(request.clone()).await;
        assert_refused(answer, Code::PermissionDenied, "PERMISSION_DENIED");
        let list = api::ListTemplatesRequest {
            tenant_id: stage.tenant.clone(),
            ..api::ListTemplatesRequest::default()
        };
        assert_refused(
            acting.templates().list_templates(list).await,
            Code::PermissionDenied,
            "PERMISSION_DENIED",
        );
        stage
            .give(&head.user_id, "administrator", crate::stage::platform())
            .await?;
        acting.templates().update_template(request).await?;
        Ok(())
    })
}
