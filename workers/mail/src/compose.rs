//! A mail as MIME (RFC 5322, RFC 2045): multipart/alternative, in ASCII only, so that every server takes it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::address::{Address, AddressError};
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, MultiPart, SinglePart};

use crate::Mail;

/// Lines up to here are left as they are (RFC 5322 section 2.1.1), so that a mail in ASCII can be read as it is.
const READABLE_LINE: usize = 500;

/// Octets in one encoded word: with the header's name they stay below the 76 characters of a line (RFC 2047 section 2).
const ENCODED_WORD: usize = 39;

/// A mail in the form in which it travels.
#[derive(Debug, Clone)]
pub struct Composed {
    /// Envelope sender.
    pub from: Address,
    /// Envelope recipient.
    pub to: Address,
    /// Headers and body: ASCII, lines end with CRLF, no dots doubled yet.
    pub content: Vec<u8>,
}

/// A mail that cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// An address is none.
    #[error("the {field} address is not valid: {cause}")]
    Address {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        cause: AddressError,
    },
    /// The headers do not make a message.
    #[error("the mail cannot be written down: {0}")]
    Message(#[from] lettre::error::Error),
}

/// Writes a mail down. The same mail with the same date gives the same octets.
pub fn compose(mail: &Mail) -> Result<Composed, ComposeError> {
    let from = address("sender's", &mail.from_address)?;
    let to = address("recipient's", &mail.to_address)?;
    let boundary = format!("=_{}", mail.message_id.split('@').next().unwrap_or_default());
    let mut message = Message::builder()
        .date(mail.date)
        .message_id(Some(format!("<{}>", mail.message_id)))
        .from(mailbox(&mail.from_name, from.clone()))
        .to(mailbox(&mail.to_name, to.clone()))
        .raw_header(subject(&mail.subject))
        .raw_header(header("Auto-Submitted", "auto-generated"));
    if !mail.reply_to.is_empty() {
        message = message.reply_to(Mailbox::new(None, address("reply", &mail.reply_to)?));
    }
    if !mail.unsubscribe_url.is_empty() {
        message = message.raw_header(list_unsubscribe(&mail.unsubscribe_url));
        // RFC 8058: one click needs HTTPS.
        if mail.unsubscribe_url.starts_with("https:") {
            message = message.raw_header(header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
        }
    }
    if !mail.language.is_empty() {
        message = message.raw_header(header("Content-Language", &without_controls(&mail.language)));
    }
    let message = message.multipart(
        MultiPart::alternative()
            .boundary(boundary)
            .singlepart(part(ContentType::TEXT_PLAIN, &mail.text))
            .singlepart(part(ContentType::TEXT_HTML, &mail.html)),
    )?;
    Ok(Composed {
        from,
        to,
        content: message.formatted(),
    })
}

fn address(field: &'static str, text: &str) -> Result<Address, ComposeError> {
    text.parse().map_err(|cause| ComposeError::Address { field, cause })
}

fn mailbox(name: &str, address: Address) -> Mailbox {
    let name = without_controls(name);
    Mailbox::new((!name.trim().is_empty()).then_some(name), address)
}

/// A header is one line; lettre panics on a name with a control character.
fn without_controls(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// RFC 2369: addresses stand in angle brackets, on a line of their own if it is long; they have no characters that would
/// have to be encoded, so none is taken apart.
fn list_unsubscribe(url: &str) -> HeaderValue {
    let plain: String = url
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>'))
        .collect();
    let written = format!("<{plain}>");
    HeaderValue::dangerous_new_pre_encoded(
        HeaderName::new_from_ascii_str("List-Unsubscribe"),
        written.clone(),
        written,
    )
}

/// A subject that holds what looks like an encoded word (RFC 2047) would be read as what that stands for: all of it is
/// encoded then, so that it arrives as the characters that it is.
fn subject(text: &str) -> HeaderValue {
    let text = without_controls(text);
    if !text.contains("=?") {
        return header("Subject", &text);
    }
    let mut words: Vec<String> = Vec::new();
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if word.len() + c.len_utf8() <= ENCODED_WORD => word.push(c),
            _ => words.push(c.into()),
        }
    }
    let words = words
        .iter()
        .map(|word| format!("=?utf-8?b?{}?=", BASE64_STANDARD.encode(word)));
    let encoded = words.collect::<Vec<_>>().join("\r\n ");
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str("Subject"), text, encoded)
}

fn part(content_type: ContentType, text: &str) -> SinglePart {
    let readable = text.is_ascii() && text.lines().all(|line| line.len() <= READABLE_LINE);
    let body = readable
        .then(|| Body::new_with_encoding(text.to_owned(), ContentTransferEncoding::SevenBit).ok())
        .flatten()
        .or_else(|| Body::new_with_encoding(text.to_owned(), ContentTransferEncoding::QuotedPrintable).ok())
        .unwrap_or_else(|| Body::new(text.to_owned()));
    SinglePart::builder().content_type(content_type).body(body)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn mail() -> Mail {
        Mail {
            from_address: "no-reply@school.example".into(),
            from_name: "Lycée Curie".into(),
            reply_to: "office@school.example".into(),
            unsubscribe_url: String::new(),
            to_address: "ana+1@xn--bcher-kva.example".into(),
            to_name: "Ana Löwe, 山田".into(),
            message_id: "0192ab@usher.example".into(),
            subject: "Votre invitation à rejoindre Lycée Curie".into(),
            text: "Hello Ana,\n\nhttps://usher.example/join?token=AbC=\n".into(),
            html: "<p>Déjà vu</p>\n".into(),
            language: "fr".into(),
            date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_877_601),
        }
    }

    #[test]
    fn a_mail_is_multipart_alternative_in_ascii_and_says_that_a_program_wrote_it() {
        let composed = compose(&mail()).unwrap();
        let content = String::from_utf8(composed.content).unwrap();
        assert!(content.is_ascii());
        assert_eq!(content.matches('\n').count(), content.matches("\r\n").count());
        insta::assert_snapshot!(content.replace("\r\n", "\n"), @r#"
        Date: Sat, 07 Mar 2026 10:00:01 +0000
        Message-ID: <0192ab@usher.example>
        From: =?utf-8?b?THljw6llIEN1cmll?= <no-reply@school.example>
        To: =?utf-8?b?QW5hIEzDtndlLCDlsbHnlLA=?= <ana+1@xn--bcher-kva.example>
        Subject: Votre invitation =?utf-8?b?w6A=?= rejoindre =?utf-8?b?THljw6ll?=
         Curie
        Auto-Submitted: auto-generated
        Reply-To: office@school.example
        Content-Language: fr
        MIME-Version: 1.0
        Content-Type: multipart/alternative; boundary="=_0192ab"

        --=_0192ab
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: 7bit

        Hello Ana,

        https://usher.example/join?token=AbC=

        --=_0192ab
        Content-Type: text/html; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        <p>D=C3=A9j=C3=A0 vu</p>

        --=_0192ab--
        "#);
    }

    #[test]
    fn a_mail_that_can_be_done_without_says_how_to_get_no_more_of_them() {
        let headers = |url: &str| {
            let mail = Mail {
                unsubscribe_url: url.into(),
                ..mail()
            };
            let content = String::from_utf8(compose(&mail).unwrap().content).unwrap();
            let lines = content.lines().filter(|line| line.starts_with("List-"));
            lines.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(headers(""), Vec::<String>::new());
        assert_eq!(
            headers("mailto:stop@school.example?subject=stop"),
            ["List-Unsubscribe: <mailto:stop@school.example?subject=stop>"]
        );
        let long = format!("https://school.example/stop?user={}", "0".repeat(100));
        assert_eq!(
            headers(&long),
            [
                format!("List-Unsubscribe: <{long}>").as_str(),
                "List-Unsubscribe-Post: List-Unsubscribe=One-Click"
            ]
        );
        assert_eq!(
            headers("https://school.example/\r\nBcc: <eve@example.org>")[0],
            "List-Unsubscribe: <https://school.example/Bcc:eve@example.org>"
        );
    }

    #[test]
    fn the_same_mail_is_the_same_octets() {
        assert_eq!(compose(&mail()).unwrap().content, compose(&mail()).unwrap().content);
    }

    #[test]
    fn header_tricks_stay_inside_their_header() {
        let mut mail = mail();
        mail.subject = "Hi\r\nBcc: eve@example.org".into();
        mail.to_name = "Ana\r\nX-Evil: 1".into();
        let content = String::from_utf8(compose(&mail).unwrap().content).unwrap();
        assert!(
            !content
                .lines()
                .any(|line| line.starts_with("Bcc:") || line.starts_with("X-Evil:")),
            "{content}"
        );
    }

    #[test]
    fn a_subject_that_looks_encoded_arrives_as_the_characters_that_it_is() {
        let subject = "Hi =?utf-8?q?=0D=0ABcc:_eve@example.org?= and =?iso-8859-1?b?4Q==?=, déjà vu: 山田";
        let mail = Mail {
            subject: subject.into(),
            ..mail()
        };
        let content = compose(&mail).unwrap().content;
        let parsed = mail_parser::MessageParser::default().parse(&content).unwrap();
        assert_eq!(parsed.subject(), Some(subject));
        let content = String::from_utf8(content).unwrap();
        assert!(
            content
                .lines()
                .take_while(|line| !line.is_empty())
                .all(|line| line.len() <= 76),
            "{content}"
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_name_or_a_subject_holds_the_headers_stay_what_they_are(text in "(.|[\r\n\t\"\\\\<>,;@=?_]){0,40}") {
            let mail = Mail { from_name: text.clone(), to_name: text.clone(), subject: text, ..mail() };
            let content = String::from_utf8(compose(&mail).unwrap().content).unwrap();
            let (headers, _) = content.split_once("\r\n\r\n").unwrap();
            let names: Vec<_> = headers
                .lines()
                .filter(|line| !line.starts_with([' ', '\t']))
                .map(|line| line.split(':').next().unwrap())
                .collect();
            proptest::prop_assert_eq!(names.join(" "), "Date Message-ID From To Subject Auto-Submitted Reply-To Content-Language MIME-Version Content-Type");
            proptest::prop_assert!(content.is_ascii());
        }
    }
}
