//! What people type is text. Nothing in it is a command to anybody (L11).

use anyhow::{Context as _, Result};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::InitialState;
use usher_tests::environment::mail::ParsedMail;

use crate::stage::together;

/// L11, L12: in both parts of the mail, and in its preview.
#[test]
fn markup_template_syntax_and_header_tricks_arrive_as_the_characters_that_they_are() -> Result<()> {
    together(async |stage| {
        stage.invite("plain").await?;
        let expected = stage.mail("plain", 1).await?;
        let text = "<script>alert('x')</script> <a href=\"https://evil.example\">click</a> & &amp;\n\
                    {{ 7 * 7 }} {% raw %}{% include 'secret' %} {# gone? #} ${HOME} %s %n \\u0041\n\
                    \n\
                    Bcc: eve@example.org\n\
                    .\n\
                    ..\n\
                    From here on\n\
                    --=_boundary--\n\
                    =3D =?utf-8?q?x?= \t end";
        let subject = "Bcc: eve@example.org =?utf-8?q?=0D=0AX-Evil:_1?= <b>{{ 7 * 7 }}</b>";
        let request = api::InviteUsersRequest {
            messages: vec![api::Message {
                language: String::new(),
                subject: subject.into(),
                text: text.into(),
            }],
            ..stage.inviting(stage.address("ana"))
        };
        stage.clients.invitations().invite_users(request).await?;
        let mail = stage.mail("ana", 1).await?;
        let (own, link) = mail
            .text
            .split_once("\n\nAccept the invitation\n")
            .context("the link below the text")?;
        assert_eq!(own, text);
        assert!(link.starts_with("https://learn.example/accept?"), "{link}");
        assert_eq!(mail.subject, subject);
        for escaped in [
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
            "&lt;a href=&quot;https://evil.example&quot;&gt;click&lt;/a&gt; &amp; &amp;amp;",
            "{{ 7 * 7 }} {% raw %}{% include &#39;secret&#39; %} {# gone? #} ${HOME} %s %n \\u0041",
            "<title>Bcc: eve@example.org =?utf-8?q?=0D=0AX-Evil:_1?= &lt;b&gt;{{ 7 * 7 }}&lt;/b&gt;</title>",
        ] {
            assert!(mail.html.contains(escaped), "{escaped} is not in\n{}", mail.html);
        }
        assert!(!mail.html.contains("<script") && !mail.html.contains("<a href=\"https://evil"));
        let names = |mail: &ParsedMail| mail.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&mail), names(&expected), "the headers of an ordinary mail");
        assert_eq!(stage.sink.received_by("eve@example.org").len(), 0);

        // A preview shows the very same.
        let preview = api::PreviewInvitationRequest {
            tenant_id: stage.tenant.clone(),
            messages: vec![api::Message {
                language: String::new(),
                subject: subject.into(),
                text: text.into(),
            }],
            ..api::PreviewInvitationRequest::default()
        };
        let shown = stage
            .clients
            .invitations()
            .preview_invitation(preview)
            .await?
            .into_inner();
        assert!(shown.text.starts_with(text) && shown.subject == subject);
        Ok(())
    })
}

/// L4: nor is anything in a name, which stands in a header.
#[test]
fn a_name_that_looks_like_a_command_stays_a_name_in_the_mail() -> Result<()> {
    together(async |stage| {
        let user = api::User {
            email: stage.address("ana"),
            first_name: "\"Ana\", Bcc: eve@example.org; {{ 7 * 7 }} &amp; \\".into(),
            last_name: "山田, O’Connor (x)".into(),
            ..api::User::default()
        };
        let user = stage.create_as(user, InitialState::ActiveWithPassword).await?;
        let mail = stage.mail("ana", 1).await?;
        assert_eq!(mail.to, stage.address("ana"));
        assert!(
            mail.text.starts_with(&format!("Hello {},", user.first_name)),
            "{}",
            mail.text
        );
        assert!(
            mail.html
                .contains("&quot;Ana&quot;, Bcc: eve@example.org; {{ 7 * 7 }} &amp;amp; \\"),
            "{}",
            mail.html
        );
        assert!(mail.header("Bcc").is_none());
        Ok(())
    })
}
