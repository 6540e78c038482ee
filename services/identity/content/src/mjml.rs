//! MJML to HTML. Placeholders stay as they are: for MJML they are text.

use htmlparser::{ElementEnd, Token, Tokenizer};
use mrml::prelude::parser::{Error, Span};
use mrml::prelude::render::RenderOptions;
use usher_core::refusal::FieldViolation;

use crate::fault::Part;

/// Elements within each other at most: deeper than any layout, shallow enough for a parser that calls itself.
const MAX_DEPTH: usize = 64;
/// Elements that have no end (HTML living standard, 13.1.2).
const VOID: [&str; 13] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
];

/// The HTML document, or what is wrong.
pub(crate) fn to_html(source: &str) -> Result<String, Vec<FieldViolation>> {
    if let Some(offset) = too_deep(source) {
        let fault = format!("has more than {MAX_DEPTH} elements within each other");
        return Err(vec![Part::Mjml.fault_at(source, offset, &fault)]);
    }
    if let Some(offset) = source.find("<mj-include") {
        return Err(vec![Part::Mjml.fault_at(
            source,
            offset,
            "there is nothing to include; write it here",
        )]);
    }
    let parsed = mrml::parse(source).map_err(|error| vec![fault(source, &error)])?;
    let warnings: Vec<_> = parsed
        .warnings
        .iter()
        .map(|warning| Part::Mjml.fault_at(source, warning.span.start, warning.kind.as_str()))
        .collect();
    if !warnings.is_empty() {
        return Err(warnings);
    }
    let mut document = parsed.element;
    document.attributes.lang.get_or_insert_with(|| "{{ language }}".into());
    document.attributes.dir.get_or_insert_with(|| "{{ direction }}".into());
    let options = RenderOptions {
        disable_comments: true,
        // Nothing is fetched from elsewhere when a mail is opened.
        fonts: std::collections::HashMap::new(),
        ..RenderOptions::default()
    };
    document
        .render(&options)
        .map_err(|error| vec![Part::Mjml.fault(format!("cannot be laid out: {error}"))])
}

fn fault(source: &str, error: &Error) -> FieldViolation {
    let at = |span: &Span, text: &str| Part::Mjml.fault_at(source, span.start, text);
    match error {
        Error::UnexpectedElement { position, .. } => at(position, "this element does not belong here"),
        Error::UnexpectedToken { position, .. } => at(position, "this does not belong here"),
        Error::MissingAttribute { name, position, .. } => at(position, &format!("the attribute {name} is missing")),
        Error::InvalidAttribute { position, .. } => at(position, "this attribute is not valid"),
        Error::InvalidFormat { position, .. } => at(position, "this is not well-formed"),
        Error::IncludeLoaderError { position, .. } => at(position, "there is nothing to include; write it here"),
        Error::ParserError { source: cause, .. } => {
            let position = cause.pos();
            Part::Mjml.fault(format!("line {}, column {}: {cause}", position.row, position.col))
        }
        Error::NoRootNode => Part::Mjml.fault("has no element <mjml>"),
        Error::EndOfStream { .. } => Part::Mjml.fault("ends before its last element does"),
        Error::SizeLimit { .. } => Part::Mjml.fault("is too long"),
    }
}

/// Where the first element opens that is too deep.
fn too_deep(source: &str) -> Option<usize> {
    let (mut depth, mut name, mut start) = (0_usize, "", 0);
    for token in Tokenizer::from(source) {
        match token {
            Ok(Token::ElementStart { local, span, .. }) => (name, start) = (local.as_str(), span.start()),
            Ok(Token::ElementEnd {
                end: ElementEnd::Open, ..
            }) if !VOID.contains(&name) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(start);
                }
            }
            Ok(Token::ElementEnd {
                end: ElementEnd::Close(..),
                ..
            }) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            // MJML says what is wrong.
            Err(_) => return None,
        }
    }
    None
}
