//! What is refused, and that what people typed stays what it is.

use std::sync::LazyLock;

use chrono::DateTime;
use proptest::prelude::*;
use usher_core::invitation::Message;
use usher_core::refusal::FieldViolation;
use usher_core::template::{TemplateKind, TemplateText};

use crate::{Defaults, Expiring, Facts, LANGUAGES, MAX_SOURCE, Mail, Template, Variable, variables};

fn lapses_at() -> DateTime<chrono::Utc> {
    DateTime::from_timestamp(1_772_877_600, 0).unwrap()
}

fn invitation<'a>() -> Mail<'a> {
    Mail {
        language: "en",
        tenant_name: "Lycée Curie & Co",
        first_name: "Ana",
        last_name: "Ruiz",
        link: "https://usher.example/join?token=AbC_-1",
        unsubscribe_url: "",
        message: None,
        test: false,
        facts: Facts::Invitation { lapses_at: lapses_at() },
    }
}

fn source() -> TemplateText {
    TemplateText {
        subject: "Welcome to {{ tenant_name }}".into(),
        text: "{{ message }}\n\n{{ link }}\n".into(),
        mjml: "<mjml><mj-body><mj-section><mj-column>\n<mj-text>{{ message }}</mj-text>\n\
               <mj-button href=\"{{ link }}\">Join</mj-button>\n</mj-column></mj-section></mj-body></mjml>"
            .into(),
    }
}

fn refused(change: impl FnOnce(&mut TemplateText)) -> Vec<(String, String)> {
    let mut source = source();
    change(&mut source);
    let faults = Template::compile(TemplateKind::Invitation, "en", &source).expect_err("it must be refused");
    let pair = |fault: FieldViolation| (fault.field, fault.description);
    faults.into_iter().map(pair).collect()
}

/// What one changed text is refused for.
fn fault(change: impl FnOnce(&mut TemplateText)) -> String {
    let faults = refused(change);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let (field, description) = &faults[0];
    format!("{field}: {description}")
}

fn in_mjml(text: &str) -> String {
    fault(|source| {
        source.mjml = source
            .mjml
            .replace("{{ message }}", &format!("{{{{ message }}}}{text}"));
    })
}

#[test]
fn a_small_template_is_enough() {
    let template = Template::compile(TemplateKind::Invitation, "en", &source()).unwrap();
    let mail = template.render(&invitation()).unwrap();
    assert_eq!(mail.subject, "Welcome to Lycée Curie & Co");
    assert!(mail.html.contains("<html lang=\"en\" dir=\"ltr\""), "{}", mail.html);
    assert!(!mail.html.contains("googleapis"), "nothing is fetched: {}", mail.html);
}

#[test]
fn a_template_that_does_not_compile_is_refused_with_line_and_column() {
    insta::assert_snapshot!(fault(|it| it.subject = "Hi {{ tenant_name".into()), @"subject: line 1, column 7: unexpected end of input, expected end of variable block");
    insta::assert_snapshot!(fault(|it| it.text = "{{ message }}\n{{ link }}\n{% if step".into()), @"text: line 3, column 7: unexpected end of input, expected end of block");
    insta::assert_snapshot!(fault(|it| it.mjml = it.mjml.replace("</mj-text>", "")), @"mjml: ends before its last element does");
    insta::assert_snapshot!(fault(|it| it.mjml = "<p>{{ link }} {{ message }}</p>".into()), @"mjml: line 1, column 1: this does not belong here");
    insta::assert_snapshot!(fault(|it| it.mjml = it.mjml.replace("href", "hreff")), @r#"mjml: misses the link: write for example <mj-button href="{{ link }}">"#);
    insta::assert_snapshot!(in_mjml("</mj-text><mj-text>{% if first_name %}</mj-text><mj-text>"), @"mjml: line 3, column 28: unexpected end of input, expected end of block");
    insta::assert_snapshot!(in_mjml("<mj-include path=\"other.mjml\" />"), @"mjml: line 2, column 23: there is nothing to include; write it here");
}

#[test]
fn an_unknown_variable_filter_or_statement_is_refused_with_line_and_column() {
    insta::assert_snapshot!(fault(|it| it.subject = "{{ tenant_name }} {{ link }}".into()), @"subject: line 1, column 22: there is no variable link; there are tenant_name, first_name, last_name, language, lapse_date");
    insta::assert_snapshot!(fault(|it| it.text.push_str("{{ one_time_password }}")), @"text: line 4, column 4: there is no variable one_time_password; there are tenant_name, first_name, last_name, language, direction, start, subject, link, lapse_date, message");
    for (text, expected) in [
        ("{{ message | safe }}", "there is no filter safe"),
        ("{% set x = 1 %}", "only {% if %}"),
        ("{% include 'x' %}", "unknown statement"),
        ("{% for x in message %}{% endfor %}", "only one loop"),
        ("{{ 'x' * 1000000 }}", "only variables"),
        ("{{ tenant_name ~ tenant_name }}", "only variables"),
        ("{{ tenant_name.x }}", "there is no variable tenant_name.x"),
        ("{{ range(9) }}", "only variables"),
        ("{{ [1, 2] }}", "only variables"),
        (
            "{% autoescape false %}{{ message }}{% endautoescape %}",
            "only {% if %}",
        ),
    ] {
        let found = fault(|it| it.text.push_str(text));
        assert!(
            found.starts_with("text: line ") && found.contains(expected),
            "{text}: {found}"
        );
    }
}

#[test]
fn what_a_mail_is_for_must_be_in_both_parts() {
    insta::assert_snapshot!(fault(|it| it.text = "{{ message }}".into()), @"text: misses the link: write {{ link }}, best on a line of its own");
    insta::assert_snapshot!(fault(|it| it.text = "{{ link }}".into()), @"text: does not show {{ message }} where there is one");
    insta::assert_snapshot!(fault(|it| it.text = "{{ message }} {% if first_name %}{{ link }}{% endif %}".into()), @"text: misses the link: write {{ link }}, best on a line of its own");
    insta::assert_snapshot!(fault(|it| it.mjml = it.mjml.replace("{{ link }}", "https://school.example/")), @r#"mjml: misses the link: write for example <mj-button href="{{ link }}">"#);
    let source = TemplateText {
        text: "{{ link }}".into(),
        mjml: source().mjml.replace("{{ message }}", ""),
        ..source()
    };
    let faults = Template::compile(TemplateKind::AccountCreated, "en", &source).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults
            .iter()
            .all(|fault| fault.description.contains("one_time_password")),
        "{faults:?}"
    );
    let warning = Template::compile(
        TemplateKind::ExpiryWarning,
        "en",
        &TemplateText {
            text: "Until {{ expire_date }}".into(),
            mjml: source.mjml.replace("{{ link }}", "https://school.example/"),
            ..source
        },
    );
    assert!(warning.is_ok(), "a warning needs no link: {warning:?}");
}

/// L11
#[test]
fn a_template_is_tried_in_its_own_language() {
    let only_in = |language: &str| {
        let mut source = source();
        let text = format!("{{% if language == \"{language}\" %}}{{{{ message }}}} {{{{ link }}}}{{% endif %}}");
        source.text = text;
        source
    };
    for (of, shown_in, expected) in [
        ("fr", "fr", true),
        ("fr", "en", false),
        ("en", "fr", false),
        ("en", "en", true),
    ] {
        let checked = Template::compile(TemplateKind::Invitation, of, &only_in(shown_in));
        assert_eq!(checked.is_ok(), expected, "a template of {of}: {checked:?}");
    }
}

#[test]
fn what_people_typed_stands_in_texts_only() {
    insta::assert_snapshot!(in_mjml("<a href=\"{{ first_name }}\">x</a>"), @"mjml: what people typed must not stand in the attribute href");
    insta::assert_snapshot!(in_mjml("<p style=\"color: {{ last_name }}\">x</p>"), @"mjml: what people typed must not stand in the attribute style");
    insta::assert_snapshot!(in_mjml("<img src=\"https://school.example/a.png\" />"), @r#"mjml: a picture has no alternative text: give it alt="…""#);
    insta::assert_snapshot!(in_mjml("<script>1</script>"), @"mjml: <script> is not for mails");
    insta::assert_snapshot!(in_mjml("<p onclick=\"x\">x</p>"), @"mjml: the attribute onclick is not for mails");
    let styled = "<mjml><mj-head><mj-style>p { color: {{ tenant_name }}; }</mj-style></mj-head>";
    insta::assert_snapshot!(fault(|it| it.mjml = it.mjml.replace("<mjml>", styled)), @"mjml: what people typed must not stand in styles");
}

#[test]
fn what_is_too_long_or_too_deep_is_refused() {
    insta::assert_snapshot!(fault(|it| it.subject = "x".repeat(1_001)), @"subject: has 1001 octets; at most 1000 are allowed");
    insta::assert_snapshot!(fault(|it| it.text = "x".repeat(MAX_SOURCE + 1)), @"text: has 65537 octets; at most 65536 are allowed");
    insta::assert_snapshot!(fault(|it| it.text = "{{ message }}".repeat(200) + "{{ link }}"), @"text: the text comes out longer than 1048576 octets");
    insta::assert_snapshot!(in_mjml(&"<div>".repeat(10_000)), @"mjml: line 2, column 318: has more than 64 elements within each other");
    assert_eq!(refused(|it| *it = TemplateText::default()).len(), 3);
}

fn placeholder(variable: &Variable) -> String {
    format!("{{{{ {} }}}}", variable.name)
}

#[test]
fn every_variable_of_a_kind_can_be_used_in_both_parts() {
    for kind in TemplateKind::ALL {
        let all = variables(kind).filter(|variable| variable.name != "people");
        let all = all.map(placeholder).collect::<Vec<_>>().join(" ");
        let people = if kind == TemplateKind::ExpiryWarningToAdministrators {
            "{% for p in people %}{{ loop.index }} {{ p.name | upper }} {{ p.expire_date }}{% endfor %}"
        } else {
            ""
        };
        let in_subject = variables(kind).filter(|variable| variable.in_subject);
        let source = TemplateText {
            subject: in_subject.map(placeholder).collect::<Vec<_>>().concat(),
            text: format!("{all}{people}"),
            mjml: source().mjml.replace("{{ message }}", &format!("{all}{people}")),
        };
        assert!(
            Template::compile(kind, "en", &source).is_ok(),
            "{kind:?} {:?}",
            Template::compile(kind, "en", &source)
        );
    }
}

#[test]
fn ushers_own_templates_pass_every_check() {
    let defaults = Defaults::new();
    for kind in TemplateKind::ALL {
        for language in LANGUAGES {
            let checked = Template::compile(kind, language, defaults.source(kind, language));
            assert!(checked.is_ok(), "{kind:?} {language}: {checked:?}");
        }
    }
}

#[test]
fn a_test_mail_says_that_it_is_one_whatever_its_template_says_l11_l12() {
    let message = Message {
        language: String::new(),
        subject: "{{ 7*7 }} <b>Welcome</b>\r\nBcc: eve@example.org".into(),
        text: "{% if x %}\n<script>alert(1)</script>\n\nBye & {{ 7*7 }}".into(),
    };
    let template = Template::compile(TemplateKind::Invitation, "en", &source()).unwrap();
    let mail = template.render(&Mail {
        message: Some(&message),
        test: true,
        ..invitation()
    });
    let mail = mail.unwrap();
    insta::assert_snapshot!(mail.subject, @"[Test] {{ 7*7 }} <b>Welcome</b>  Bcc: eve@example.org");
    insta::assert_snapshot!(mail.text, @r#"
    This is a test of the mail. Its link does not work, and nobody was invited.

    {% if x %}
    <script>alert(1)</script>

    Bye & {{ 7*7 }}

    https://usher.example/join?token=AbC_-1
    "#);
    let (_, body) = mail.html.split_once("<body").unwrap();
    assert!(body.contains("This is a test of the mail."), "{body}");
    assert!(
        body.contains("&lt;script&gt;alert(1)&lt;/script&gt;</p>\n<p dir=\"auto\">Bye &amp; {{ 7*7 }}</p>"),
        "{body}"
    );
}

static DEFAULTS: LazyLock<Defaults> = LazyLock::new(Defaults::new);

/// A text as it stands in HTML.
fn unescaped(html: &str) -> String {
    html.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

proptest! {
    /// L11: plain text stays the characters that it is, in both parts and in the subject.
    #[test]
    fn any_customised_text_arrives_as_the_characters_that_it_is(
        subject in "(\\PC|[\r\n\t{}%<>&]){0,60}",
        text in "(\\PC|[\n\t{}%#<>&\"']|\\{\\{ 7\\*7 \\}\\}|&lt;|<br>){1,200}",
    ) {
        let message = Message { language: String::new(), subject, text: text.clone() };
        let mail = Mail { message: Some(&message), ..invitation() };
        let rendered = DEFAULTS.template(TemplateKind::Invitation, "en").render(&mail).unwrap();
        prop_assert!(rendered.text.starts_with(&text));
        let (_, shown) = rendered.html.split_once("<p dir=\"auto\">").unwrap();
        let (shown, _) = shown.split_once("</div>").unwrap();
        let shown = shown.trim_end().strip_suffix("</p>").unwrap().replace("</p>\n<p dir=\"auto\">", "\n\n").replace("<br>\n", "\n");
        prop_assert_eq!(unescaped(&shown), text);
        prop_assert!(!rendered.subject.chars().any(char::is_control));
    }

    /// L11: and so does every name, in every kind of mail, in the text and in HTML.
    #[test]
    fn any_name_arrives_as_the_characters_that_it_is(name in "(\\PC|[{}%#<>&\"']){1,60}") {
        // As names are kept: on one line.
        let name = crate::escape::one_line(&name);
        prop_assume!(!name.is_empty());
        let mark = |name: &str| format!("[{name}]");
        let source = |variable: &str, also: &str| TemplateText {
            subject: format!("[{{{{ {variable} }}}}]"),
            text: format!("[{{{{ {variable} }}}}] {also}"),
            mjml: super::tests::source().mjml.replace("{{ message }}", &format!("[{{{{ {variable} }}}}]<img src=\"https://school.example/a.png\" alt=\"[{{{{ {variable} }}}}]\" />{also}")),
        };
        for variable in ["first_name", "last_name", "tenant_name"] {
            let template = Template::compile(TemplateKind::Invitation, "en", &source(variable, "{{ message }} {{ link }}")).unwrap();
            let mail = Mail { tenant_name: &name, first_name: &name, last_name: &name, ..invitation() };
            let mail = template.render(&mail).unwrap();
            prop_assert_eq!(&mail.subject, &mark(&name));
            prop_assert!(mail.text.contains(&mark(&name)));
            let document = scraper::Html::parse_document(&mail.html);
            let shown: String = document.root_element().text().collect();
            prop_assert!(shown.contains(&mark(&name)), "{}", mail.html);
            let picture = scraper::Selector::parse("img").unwrap();
            let picture = document.select(&picture).next().unwrap();
            let alternative = mark(&name);
            prop_assert_eq!(picture.attr("alt"), Some(alternative.as_str()));
        }
        let people = [Expiring { name: name.clone(), expires_at: lapses_at() }];
        let facts = Facts::ExpiryWarningToAdministrators { people: &people, count: 1, now: lapses_at() };
        let mail = DEFAULTS.template(facts.kind(), "en").render(&Mail { facts, ..invitation() }).unwrap();
        let document = scraper::Html::parse_document(&mail.html);
        let shown: String = document.root_element().text().collect();
        prop_assert!(shown.contains(&name) && mail.text.contains(&name), "{}", mail.text);
    }
}
