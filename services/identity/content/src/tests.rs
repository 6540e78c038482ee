//! What the mails say, and that what people typed stays what it is.

use proptest::prelude::*;
use usher_core::invitation::Message;

use super::*;

fn mail<'a>() -> MailContext<'a> {
    MailContext {
        language: "en",
        default_language: "en",
        tenant_name: "Lycée Curie & Co",
        first_name: "Ana",
        link: None,
        one_time_password: None,
        sign_in_url: None,
        lapses_at: None,
        reminder_step: 0,
        message: None,
        test: false,
    }
}

fn invitation<'a>() -> MailContext<'a> {
    MailContext {
        link: Some("https://usher.example/join?token=AbC_-1"),
        lapses_at: "2026-03-07T10:00:00Z".parse().ok(),
        ..mail()
    }
}

fn message(subject: &str, text: &str) -> Message {
    Message {
        language: String::new(),
        subject: subject.into(),
        text: text.into(),
    }
}

/// The paragraphs of an HTML part, as they were before they were escaped.
fn shown_text(html: &str) -> String {
    let (_, rest) = html.split_once("<div class=\"text\"").unwrap();
    let (_, rest) = rest.split_once(">\n<p>").unwrap();
    let (text, _) = rest.split_once("</p>\n</div>").unwrap();
    text.replace("</p>\n<p>", "\n\n")
        .replace("<br>\n", "\n")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[test]
fn an_invitation_in_english() {
    let rendered = Renderer::new().render(Kind::Invitation, &invitation());
    insta::assert_snapshot!(rendered.subject, @"Your invitation to Lycée Curie & Co");
    insta::assert_snapshot!(rendered.text, @"
    Hello Ana,

    You are invited to join Lycée Curie & Co.

    Open the link below, tell us your name and choose a password. Your account is ready right after that.

    Accept the invitation
    https://usher.example/join?token=AbC_-1

    This link works until 7 March 2026.

    Sent on behalf of Lycée Curie & Co.
    ");
    assert!(rendered.text.starts_with(&shown_text(&rendered.html)));
}

#[test]
fn a_reminder_in_french() {
    let rendered = Renderer::new().render(
        Kind::Reminder,
        &MailContext {
            language: "fr-CA",
            reminder_step: 1,
            ..invitation()
        },
    );
    insta::assert_snapshot!(rendered.subject, @"Rappel : votre invitation à rejoindre Lycée Curie & Co");
    insta::assert_snapshot!(rendered.text, @"
    Bonjour Ana,

    Petit rappel : vous avez été invité(e) à rejoindre Lycée Curie & Co et votre inscription n’est pas encore terminée.

    Cela prend environ une minute : ouvrez le lien ci-dessous, indiquez votre nom et choisissez un mot de passe.

    Terminer votre inscription
    https://usher.example/join?token=AbC_-1

    Ce lien fonctionne jusqu’au 7 mars 2026.

    Envoyé pour le compte de Lycée Curie & Co.
    ");
    assert_eq!(rendered.language, "fr");
}

#[test]
fn an_account_with_a_one_time_password_in_german() {
    let rendered = Renderer::new().render(
        Kind::AccountCreated,
        &MailContext {
            language: "de",
            first_name: "",
            one_time_password: Some("kupfer-<7>-Regen"),
            sign_in_url: Some("https://usher.example/sign-in"),
            ..mail()
        },
    );
    insta::assert_snapshot!(rendered.subject, @"Ihr Konto bei Lycée Curie & Co");
    insta::assert_snapshot!(rendered.text, @"
    Guten Tag,

    Bei Lycée Curie & Co wurde ein Konto für Sie angelegt. Sie können es sofort nutzen.

    Melden Sie sich mit dem Einmalpasswort unten an. Danach werden Sie gebeten, ein eigenes Passwort zu wählen.

    Ihr Einmalpasswort
    kupfer-<7>-Regen

    Anmelden
    https://usher.example/sign-in

    Gesendet im Auftrag von Lycée Curie & Co.
    ");
    insta::assert_snapshot!(rendered.html, @r#"
    <!doctype html>
    <html lang="de" dir="ltr">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="supported-color-schemes" content="light dark">
    <title>Ihr Konto bei Lycée Curie &amp; Co</title>
    <style>
    :root { color-scheme: light dark; supported-color-schemes: light dark; }
    body { margin: 0; padding: 0; background: #f4f5f7; color: #1c2430; }
    .page { max-width: 560px; margin: 0 auto; padding: 24px 16px; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
    .card { background: #ffffff; border-radius: 8px; padding: 24px; overflow-wrap: anywhere; }
    .note { border-inline-start: 4px solid #b7791f; padding-inline-start: 12px; }
    .button { display: inline-block; padding: 12px 20px; border-radius: 6px; background: #1f5fbf; color: #ffffff; font-weight: 600; text-decoration: none; }
    .password { font: 18px/1.5 ui-monospace, Menlo, Consolas, monospace; letter-spacing: 0.05em; }
    .small { font-size: 14px; color: #5b6675; }
    @media (prefers-color-scheme: dark) {
      body { background: #14181d; color: #e6e9ee; }
      .card { background: #1e242b; }
      .button { background: #8ab4f8; color: #10151b; }
      .small { color: #a3adba; }
      .small a { color: #8ab4f8; }
    }
    </style>
    </head>
    <body>
    <div class="page" lang="de" dir="ltr">
    <div class="card">
    <div class="text">
    <p>Guten Tag,</p>
    <p>Bei Lycée Curie &amp; Co wurde ein Konto für Sie angelegt. Sie können es sofort nutzen.</p>
    <p>Melden Sie sich mit dem Einmalpasswort unten an. Danach werden Sie gebeten, ein eigenes Passwort zu wählen.</p>
    </div>
    <p>Ihr Einmalpasswort<br>
    <span class="password" dir="ltr">kupfer-&lt;7&gt;-Regen</span></p>
    <p><a class="button" href="https://usher.example/sign-in">Anmelden</a></p>
    <p class="small">Falls die Schaltfläche nicht funktioniert, kopieren Sie diese Adresse in Ihren Browser:<br>
    <a href="https://usher.example/sign-in" dir="ltr">https://usher.example/sign-in</a></p>
    </div>
    <p class="small">Gesendet im Auftrag von Lycée Curie &amp; Co.</p>
    </div>
    </body>
    </html>
    "#);
}

#[test]
fn an_arabic_mail_is_written_from_right_to_left_but_its_link_is_not() {
    let rendered = Renderer::new().render(
        Kind::Invitation,
        &MailContext {
            language: "ar",
            ..invitation()
        },
    );
    assert!(rendered.html.contains(r#"<html lang="ar" dir="rtl">"#));
    assert!(
        rendered
            .html
            .contains(r#"<a href="https://usher.example/join?token=AbC_-1" dir="ltr">"#)
    );
    insta::assert_snapshot!(rendered.text, @"
    مرحبًا Ana،

    ندعوك للانضمام إلى Lycée Curie & Co.

    افتح الرابط أدناه، واكتب اسمك، واختر كلمة مرور. سيصبح حسابك جاهزًا بعد ذلك مباشرة.

    قبول الدعوة
    https://usher.example/join?token=AbC_-1

    يعمل هذا الرابط حتى 7 مارس 2026.

    أُرسلت نيابةً عن Lycée Curie & Co.
    ");
}

#[test]
fn a_test_mail_says_that_it_is_one_and_shows_the_customised_text_l11_l12() {
    let message = message(
        "{{ 7*7 }} <b>Welcome</b>\r\nBcc: eve@example.org",
        "{% if x %}\n<script>alert(1)</script>\n\nBye & {{ 7*7 }}",
    );
    let rendered = Renderer::new().render(
        Kind::Invitation,
        &MailContext {
            message: Some(&message),
            test: true,
            ..invitation()
        },
    );
    insta::assert_snapshot!(rendered.subject, @"[Test] {{ 7*7 }} <b>Welcome</b>  Bcc: eve@example.org");
    insta::assert_snapshot!(rendered.text, @"
    This is a test of the mail. Its link does not work, and nobody was invited.

    {% if x %}
    <script>alert(1)</script>

    Bye & {{ 7*7 }}

    Accept the invitation
    https://usher.example/join?token=AbC_-1

    This link works until 7 March 2026.

    Sent on behalf of Lycée Curie & Co.
    ");
    let (_, body) = rendered.html.split_once("<body>").unwrap();
    insta::assert_snapshot!(body.trim(), @r#"
    <div class="page" lang="en" dir="ltr">
    <div class="card">
    <p class="note">This is a test of the mail. Its link does not work, and nobody was invited.</p>
    <div class="text" dir="auto">
    <p>{% if x %}<br>
    &lt;script&gt;alert(1)&lt;/script&gt;</p>
    <p>Bye &amp; {{ 7*7 }}</p>
    </div>
    <p><a class="button" href="https://usher.example/join?token=AbC_-1">Accept the invitation</a></p>
    <p>This link works until 7 March 2026.</p>
    <p class="small">If the button does not work, copy this address into your browser:<br>
    <a href="https://usher.example/join?token=AbC_-1" dir="ltr">https://usher.example/join?token=AbC_-1</a></p>
    </div>
    <p class="small">Sent on behalf of Lycée Curie &amp; Co.</p>
    </div>
    </body>
    </html>
    "#);
}

#[test]
fn every_mail_is_complete_in_every_language_with_its_link_on_a_line_of_its_own() {
    let mails = Renderer::new();
    for kind in Kind::ALL {
        for language in LANGUAGES {
            for (reminder_step, one_time_password) in [(0, None), (1, Some("secret")), (2, None)] {
                let mail = MailContext {
                    language,
                    reminder_step,
                    one_time_password,
                    test: true,
                    ..invitation()
                };
                let rendered = mails.render(kind, &mail);
                assert_eq!(rendered.language, language);
                assert!(rendered.subject.contains("Lycée Curie & Co"), "{rendered:?}");
                assert!(
                    rendered.text.lines().any(|line| Some(line) == mail.link),
                    "{rendered:?}"
                );
                assert!(rendered.text.contains("2026"), "{rendered:?}");
                assert_eq!(
                    rendered.text.contains("secret"),
                    one_time_password.is_some(),
                    "{rendered:?}"
                );
                assert!(
                    !rendered.text.contains("\n\n\n") && !rendered.text.contains("{%"),
                    "{rendered:?}"
                );
                assert!(rendered.html.contains("Lycée Curie &amp; Co"), "{rendered:?}");
            }
        }
    }
}

#[test]
fn a_mail_without_a_name_greets_without_one() {
    let mails = Renderer::new();
    for (language, greeting) in [
        ("en", "Hello,"),
        ("fr", "Bonjour,"),
        ("es", "Hola,"),
        ("de", "Guten Tag,"),
        ("ar", "مرحبًا،"),
    ] {
        let rendered = mails.render(
            Kind::Invitation,
            &MailContext {
                language,
                first_name: "",
                ..invitation()
            },
        );
        assert_eq!(rendered.text.lines().next(), Some(greeting));
    }
}

proptest! {
    /// L11: plain text stays the characters that it is, in both parts.
    #[test]
    fn any_customised_text_arrives_as_the_characters_that_it_is(
        subject in "(\\PC|[\r\n\t{}%<>&]){0,60}",
        text in "(\\PC|[\n\t{}%#<>&\"']|\\{\\{ 7\\*7 \\}\\}|&lt;|<br>){1,200}",
    ) {
        let message = message(&subject, &text);
        let rendered = Renderer::new().render(
            Kind::Invitation,
            &MailContext { message: Some(&message), ..invitation() },
        );
        prop_assert!(rendered.text.starts_with(&text));
        prop_assert_eq!(shown_text(&rendered.html), text);
        prop_assert!(!rendered.subject.chars().any(char::is_control));
    }
}
