//! Values on their way into a template.

use minijinja::{AutoEscape, Output, State, Value};

/// Writes a value. As minijinja does, but a `/` in HTML stays a `/`: links are to be found by people and programs that
/// read the source of a mail.
pub(crate) fn write_value(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(text) if *state.auto_escape() == AutoEscape::Html && !value.is_safe() => Ok(out.write_str(&html(text))?),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// A text as HTML, for between tags and in attributes that stand in quotes.
pub(crate) fn html(text: &str) -> String {
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

/// A text of several paragraphs as HTML. Each finds its own direction, since a message need not be in the mail's language.
pub(crate) fn paragraphs(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| format!("<p dir=\"auto\">{}</p>", html(paragraph).replace('\n', "<br>\n")))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A text on one line: what would break the line becomes a space.
pub(crate) fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.replace(breaks, " ").trim().to_owned()
}
