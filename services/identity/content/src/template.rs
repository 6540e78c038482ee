//! A template: compiled once, filled for each mail.

use std::fmt;
use std::io::{self, Write};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, filters};
use usher_core::refusal::FieldViolation;
use usher_core::template::{TemplateKind, TemplateText};

use crate::defaults::notes;
use crate::escape::{html, one_line, write_value};
use crate::fault::Part;
use crate::language::direction;
use crate::mail::{Mail, Rendered};
use crate::{check, mjml, syntax};

/// Octets of a subject's template at most.
pub const MAX_SUBJECT: usize = 1_000;
/// Octets of a text or of an MJML document at most.
pub const MAX_SOURCE: usize = 64 << 10;
/// Octets of each part of a mail at most.
pub const MAX_RENDERED: usize = 1 << 20;
/// Steps that filling one part may take.
const FUEL: u64 = 1_000_000;

/// A mail that its template cannot be filled for: a fault of ours, since whatever is saved was tried before.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// It comes out longer than [`MAX_RENDERED`].
    #[error("the {part} comes out longer than {MAX_RENDERED} octets", part = .0.field())]
    TooLong(Part),
    /// A placeholder has no value.
    #[error("the {part} cannot be filled: {1}", part = .0.field())]
    Fill(Part, #[source] minijinja::Error),
}

impl RenderError {
    pub(crate) fn part(&self) -> Part {
        match self {
            Self::TooLong(part) | Self::Fill(part, _) => *part,
        }
    }
}

/// A template, ready to be filled.
pub struct Template {
    kind: TemplateKind,
    parts: Environment<'static>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Compiles a template of a kind and a language (BCP 47), or answers every fault that it has, each with the field that it is in (`subject`,
    /// `text` or `mjml`) and, where that is known, the line and column.
    ///
    /// Refused is what is too long, what does not compile, a variable, filter or statement that there is none of, an
    /// include, what a mail must bring and does not (the link, the customised text, the password), what people typed in
    /// places where it could be more than text, scripts, and pictures without alternative text.
    pub fn compile(kind: TemplateKind, language: &str, source: &TemplateText) -> Result<Self, Vec<FieldViolation>> {
        let mut faults = Vec::new();
        for (part, source, limit) in [
            (Part::Subject, &source.subject, MAX_SUBJECT),
            (Part::Text, &source.text, MAX_SOURCE),
            (Part::Mjml, &source.mjml, MAX_SOURCE),
        ] {
            let length = source.len();
            if length > limit {
                faults.push(part.fault(format!("has {length} octets; at most {limit} are allowed")));
            } else if source.trim().is_empty() {
                faults.push(part.fault("is required"));
            } else {
                faults.extend(syntax::faults(kind, part, source));
            }
        }
        let document = match mjml::to_html(&source.mjml) {
            Ok(document) => document,
            Err(more) => {
                let known = faults.iter().any(|fault| fault.field == Part::Mjml.field());
                faults.extend(more.into_iter().filter(|_| !known));
                String::new()
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let template = Self::assemble(kind, source, document)?;
        let faults = check::faults(&template, kind, language);
        if faults.is_empty() { Ok(template) } else { Err(faults) }
    }

    /// Without the checks: for Usher's own, which the tests check, and for what was checked when it was saved.
    pub fn load(kind: TemplateKind, source: &TemplateText) -> Result<Self, Vec<FieldViolation>> {
        Self::assemble(kind, source, mjml::to_html(&source.mjml)?)
    }

    fn assemble(kind: TemplateKind, source: &TemplateText, document: String) -> Result<Self, Vec<FieldViolation>> {
        // Nothing but what the syntax check allows: above all no `safe`.
        let mut parts = Environment::empty();
        parts.set_undefined_behavior(UndefinedBehavior::Strict);
        parts.set_formatter(write_value);
        parts.set_auto_escape_callback(minijinja::default_auto_escape_callback);
        parts.set_fuel(Some(FUEL));
        parts.add_filter("upper", filters::upper);
        parts.add_filter("lower", filters::lower);
        parts.add_filter("capitalize", filters::capitalize);
        parts.add_filter("title", filters::title);
        parts.add_filter("trim", filters::trim);
        for (part, source) in [
            (Part::Subject, source.subject.clone()),
            (Part::Text, source.text.clone()),
            (Part::Mjml, document),
        ] {
            // What stands in MJML is moved about, so a statement may have lost its end.
            let added = parts.add_template_owned(part.template(), source);
            added.map_err(|error| vec![part.fault(format!("does not compile: {error}"))])?;
        }
        Ok(Self { kind, parts })
    }

    /// What its mails are about.
    pub fn kind(&self) -> TemplateKind {
        self.kind
    }

    /// Fills it. A customised subject stands in place of the template's.
    pub fn render(&self, mail: &Mail<'_>) -> Result<Rendered, RenderError> {
        let mut subject = match mail.custom_subject() {
            Some(subject) => one_line(subject),
            None => one_line(&self.part(Part::Subject, mail, "")?),
        };
        let (mark, note) = notes(mail.language);
        if mail.test {
            subject = format!("{mark} {subject}");
        }
        let mut text = self.part(Part::Text, mail, &subject)?.trim_end().to_owned() + "\n";
        let mut document = self.part(Part::Mjml, mail, &subject)? + "\n";
        if mail.test {
            text.insert_str(0, &format!("{note}\n\n"));
            mark_as_test(&mut document, note, mail.language);
        }
        Ok(Rendered {
            subject,
            text,
            html: document,
            language: mail.language.to_owned(),
        })
    }

    fn part(&self, part: Part, mail: &Mail<'_>, subject: &str) -> Result<String, RenderError> {
        let mut written = Bounded(Vec::new());
        let filled = self.parts.get_template(part.template()).and_then(|template| {
            template
                .render_captured_to(mail.values(subject, part), &mut written)
                .map(drop)
        });
        filled.map_err(|error| match error.kind() {
            ErrorKind::WriteFailure => RenderError::TooLong(part),
            _ => RenderError::Fill(part, error),
        })?;
        // Only ever written to as text.
        Ok(String::from_utf8(written.0).unwrap_or_default())
    }
}

/// Says at the top of a document that it is a test, whatever its template says.
fn mark_as_test(document: &mut String, note: &str, language: &str) {
    let body = document
        .find("<body")
        .and_then(|at| Some(at + document[at..].find('>')? + 1));
    let mark = format!(
        "<div role=\"note\" lang=\"{language}\" dir=\"{}\" style=\"padding:12px 16px;background:#b7791f;color:#ffffff;\
         font:bold 16px/1.5 sans-serif;\">{}</div>",
        direction(language),
        html(note),
    );
    document.insert_str(body.unwrap_or(0), &mark);
}

/// Takes up to `MAX_RENDERED` octets.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.0.len() + octets.len() > MAX_RENDERED {
            return Err(io::Error::other("it grows too long"));
        }
        self.0.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
