//! Renders mails.

use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, Value, context};

use crate::language::{choose, direction};
use crate::templates::TEMPLATES;
use crate::{Kind, MailContext, Rendered, date};

/// Renders mails. Made once, used by all.
#[derive(Debug)]
pub struct Renderer {
    templates: Environment<'static>,
}

impl Default for Renderer {
    fn default() -> Self {
        Self::new()
    }
}

impl Renderer {
    /// Compiles the templates.
    pub fn new() -> Self {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_formatter(write_value);
        for (name, source) in TEMPLATES.iter().copied().flatten() {
            templates
                .add_template(name, source)
                .expect("the templates are compiled in, and the tests render each of them");
        }
        Self { templates }
    }

    /// Renders a mail. A customised text stands in place of the default subject and paragraphs; the password, the link
    /// and the line that says until when it works always follow.
    pub fn render(&self, kind: Kind, mail: &MailContext<'_>) -> Rendered {
        let language = choose(mail.language, mail.default_language);
        let own = |file: &str, values: Value| self.text(&format!("{}/{language}/{file}", kind.folder()), values);
        let shared = |file: &str, values: Value| self.text(&format!("shared/{language}/{file}"), values);
        let values = context! {
            tenant_name => one_line(mail.tenant_name),
            first_name => one_line(mail.first_name),
            step => mail.reminder_step,
            has_password => mail.one_time_password.is_some(),
        };

        let custom_subject = mail
            .message
            .map(|message| message.subject.as_str())
            .filter(|text| !text.is_empty());
        let custom_text = mail
            .message
            .map(|message| message.text.as_str())
            .filter(|text| !text.is_empty());

        let mut subject = match custom_subject {
            Some(subject) => one_line(subject),
            None => own("subject.txt", values.clone()),
        };
        if mail.test {
            subject = format!("{} {subject}", shared("test_mark.txt", Value::UNDEFINED));
        }
        let text = match custom_text {
            Some(text) => text.to_owned(),
            None => own("body.txt", values.clone()),
        };
        let lines = |paragraph: &str| paragraph.split('\n').map(Value::from).collect::<Value>();
        let paragraphs: Value = text.split("\n\n").map(lines).collect();
        let link = mail
            .link
            .or(mail.sign_in_url)
            .map(|url| context! { label => own("link.txt", values.clone()), value => url });
        let password = mail
            .one_time_password
            .map(|password| context! { label => shared("password.txt", Value::UNDEFINED), value => password });
        let lapse = mail
            .lapses_at
            .map(|at| shared("lapse.txt", context! { date => date::format(at, language) }));
        let note = mail.test.then(|| shared("test.txt", Value::UNDEFINED));

        let values = context! {
            language => language,
            direction => direction(language),
            subject => subject.as_str(),
            custom => custom_text.is_some(),
            text => text,
            paragraphs => paragraphs,
            link => link,
            password => password,
            lapse => lapse,
            note => note,
            copy_link => shared("copy_link.txt", Value::UNDEFINED),
            sender => shared("sender.txt", values),
        };
        Rendered {
            text: self.text("layout.txt", values.clone()) + "\n",
            html: self.text("layout.html", values) + "\n",
            subject,
            language: language.to_owned(),
        }
    }

    fn text(&self, name: &str, values: Value) -> String {
        self.templates
            .get_template(name)
            .and_then(|template| template.render(values))
            .expect("every template is compiled in and is rendered with all of its values by the tests")
    }
}

/// Writes a value into a template. As minijinja does, but a `/` in HTML stays a `/`: links are to be found by people and
/// programs that read the source of a mail.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(text) if *state.auto_escape() == AutoEscape::Html && !value.is_safe() => {
            Ok(out.write_str(&escape_html(text))?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text on one line: what would break the line becomes a space.
fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.replace(breaks, " ").trim().to_owned()
}
