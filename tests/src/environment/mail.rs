//! A mail as a test looks at it.

use mail_parser::{Message, MessageParser, PartType};

/// A mail, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedMail {
    /// Every header in order, names as they were written, values unfolded but not decoded.
    pub headers: Vec<(String, String)>,
    /// The subject, decoded.
    pub subject: String,
    /// Without angle brackets.
    pub message_id: String,
    /// The address in `To`.
    pub to: String,
    /// The first text/plain part, decoded, with `\n` at the end of a line.
    pub text: String,
    /// The first text/html part, likewise; empty if there is none.
    pub html: String,
    /// As it came.
    pub raw: Vec<u8>,
}

impl ParsedMail {
    /// Takes a mail apart. `None`: it is not one.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let mail = MessageParser::default().parse(raw)?;
        let unfolded = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(Self {
            headers: mail
                .headers_raw()
                .map(|(name, value)| (name.to_owned(), unfolded(value)))
                .collect(),
            subject: mail.subject().unwrap_or_default().to_owned(),
            message_id: mail.message_id().unwrap_or_default().to_owned(),
            to: mail
                .to()
                .and_then(|to| to.first()?.address.as_deref())
                .unwrap_or_default()
                .to_owned(),
            text: part(&mail, |body| match body {
                PartType::Text(text) => Some(text),
                _ => None,
            }),
            html: part(&mail, |body| match body {
                PartType::Html(html) => Some(html),
                _ => None,
            }),
            raw: raw.to_vec(),
        })
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

fn part<'x, T: ToString + 'x>(mail: &'x Message<'x>, pick: impl Fn(&'x PartType<'x>) -> Option<&'x T>) -> String {
    mail.parts
        .iter()
        .find_map(|part| pick(&part.body))
        .map(|body| body.to_string().replace("\r\n", "\n"))
        .unwrap_or_default()
}
