//! What Usher's mails say: Usher's own templates in five languages, those of tenants, and how both become mails.
//!
//! A template is a subject, a text and an MJML document (<https://documentation.mjml.io>), all with placeholders of
//! Jinja. It is compiled once for each version, the MJML to HTML whose placeholders stay; a mail then only fills these.
//! What a tenant saves is checked first ([`Template::compile`]), so that a mail never fails for its template.
//!
//! What people typed (names, a customised text: L11) is only ever a *value* of a template, never a part of one. It
//! arrives as the characters that it is, in text and in HTML.

mod check;
mod date;
mod defaults;
mod escape;
mod fault;
mod language;
mod mail;
mod mjml;
mod sample;
mod syntax;
mod template;
#[cfg(test)]
mod tests;
mod variables;

pub use self::defaults::Defaults;
pub use self::fault::Part;
pub use self::language::direction;
pub use self::mail::{Expiring, Facts, Mail, Rendered};
pub use self::sample::{Sample, SampleFault};
pub use self::template::{MAX_RENDERED, MAX_SOURCE, MAX_SUBJECT, RenderError, Template};
pub use self::variables::{Variable, variables};

/// The languages that Usher's own templates are written in.
pub const LANGUAGES: [&str; 5] = ["ar", "de", "en", "es", "fr"];
