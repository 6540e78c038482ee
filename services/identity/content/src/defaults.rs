//! Usher's own templates: small texts per purpose and language, which one layout for each part puts together. So a text
//! is written once, and the text part and the HTML part cannot differ.
//!
//! A layout has two kinds of placeholders: `[[ … ]]` and `[% … %]` take the small texts in, once; `{{ … }}` and `{% … %}`
//! are left for the mails. What comes out is a template like those that tenants save, and can be taken as a beginning
//! for one.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use usher_core::template::{TemplateKind, TemplateText};

use crate::LANGUAGES;
use crate::template::Template;
use crate::variables::variables;

/// The texts of a folder in every language, as (name, source). One that is missing does not build.
macro_rules! folder {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        &[$(
            (concat!($folder, "/ar/", $file), include_str!(concat!("../templates/", $folder, "/ar/", $file, ".j2"))),
            (concat!($folder, "/de/", $file), include_str!(concat!("../templates/", $folder, "/de/", $file, ".j2"))),
            (concat!($folder, "/en/", $file), include_str!(concat!("../templates/", $folder, "/en/", $file, ".j2"))),
            (concat!($folder, "/es/", $file), include_str!(concat!("../templates/", $folder, "/es/", $file, ".j2"))),
            (concat!($folder, "/fr/", $file), include_str!(concat!("../templates/", $folder, "/fr/", $file, ".j2"))),
        )+]
    };
}

/// A folder's texts: name and source.
type Folder = &'static [(&'static str, &'static str)];

const TEXTS: &[Folder] = &[
    folder!(
        "shared": "copy_link.txt", "lapse.txt", "more.txt", "password.txt", "sender.txt", "stop.txt", "test.txt",
        "test_mark.txt",
    ),
    folder!("invitation": "subject.txt", "body.txt", "link.txt"),
    folder!("reminder": "subject.txt", "body.txt", "link.txt"),
    folder!("account_created": "subject.txt", "body.txt", "link.txt"),
    folder!("fresh_link": "subject.txt", "body.txt", "link.txt"),
    folder!("expiry_warning": "subject.txt", "body.txt", "link.txt"),
    folder!("expiry_warning_to_administrators": "subject.txt", "body.txt", "link.txt"),
    folder!("inactivity_warning": "subject.txt", "body.txt", "link.txt"),
];

const TEXT_LAYOUT: &str = include_str!("../templates/layout.txt.j2");
const MJML_LAYOUT: &str = include_str!("../templates/layout.mjml.j2");

fn text(name: &str) -> &'static str {
    let found = TEXTS.iter().copied().flatten().find(|(known, _)| *known == name);
    found.map_or("", |(_, source)| source.trim_end_matches('\n'))
}

/// The mark of a test in its subject, and what it says about itself; of languages that Usher does not speak in English.
pub(crate) fn notes(language: &str) -> (&'static str, &'static str) {
    let base = crate::language::base(language);
    let language = if LANGUAGES.contains(&base) { base } else { "en" };
    (
        text(&format!("shared/{language}/test_mark.txt")),
        text(&format!("shared/{language}/test.txt")),
    )
}

type Compiled = OnceLock<Arc<Template>>;

/// Usher's own templates, compiled as they are first needed.
#[derive(Debug)]
pub struct Defaults {
    all: HashMap<(TemplateKind, &'static str), (TemplateText, Compiled)>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self::new()
    }
}

impl Defaults {
    /// Puts them together.
    pub fn new() -> Self {
        let layouts = layouts();
        let all = TemplateKind::ALL.into_iter().flat_map(|kind| {
            let layouts = &layouts;
            LANGUAGES.map(|language| ((kind, language), (compose(layouts, kind, language), Compiled::new())))
        });
        Self { all: all.collect() }
    }

    /// What a template says; of a language that there is none in, in English.
    pub fn source(&self, kind: TemplateKind, language: &str) -> &TemplateText {
        &self.entry(kind, language).0
    }

    /// A template; of a language that there is none in, in English.
    pub fn template(&self, kind: TemplateKind, language: &str) -> Arc<Template> {
        let (source, compiled) = self.entry(kind, language);
        let compiled = compiled.get_or_init(|| {
            let template = Template::load(kind, source);
            Arc::new(template.expect("Usher's own templates are compiled in, and the tests compile each of them"))
        });
        Arc::clone(compiled)
    }

    fn entry(&self, kind: TemplateKind, language: &str) -> &(TemplateText, Compiled) {
        let language = LANGUAGES.into_iter().find(|known| *known == language).unwrap_or("en");
        &self.all[&(kind, language)]
    }
}

fn layouts() -> Environment<'static> {
    let mut layouts = Environment::new();
    let syntax = SyntaxConfig::builder()
        .block_delimiters("[%", "%]")
        .variable_delimiters("[[", "]]")
        .comment_delimiters("[#", "#]")
        .trim_blocks(true)
        .build();
    layouts.set_syntax(syntax.expect("the delimiters differ"));
    layouts.set_undefined_behavior(UndefinedBehavior::Strict);
    // What is put together is a source, so nothing is escaped.
    layouts.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    for (name, source) in [("text", TEXT_LAYOUT), ("mjml", MJML_LAYOUT)] {
        layouts
            .add_template(name, source)
            .expect("the layouts are compiled in, and the tests use each of them");
    }
    layouts
}

fn compose(layouts: &Environment<'_>, kind: TemplateKind, language: &str) -> TemplateText {
    let folder = kind.as_str().to_ascii_lowercase();
    let own = |file: &str| text(&format!("{folder}/{language}/{file}"));
    let shared = |file: &str| text(&format!("shared/{language}/{file}"));
    let has = |name: &str| variables(kind).any(|variable| variable.name == name);
    let body = own("body.txt");
    let paragraphs: Vec<&str> = body.split("\n\n").collect();
    let values = context! {
        body,
        preview => paragraphs.get(1).copied(),
        paragraphs => paragraphs.iter().map(|paragraph| paragraph.replace('\n', "<br />\n")).collect::<Value>(),
        has_message => has("message"),
        has_password => has("one_time_password"),
        has_lapse => has("lapse_date"),
        has_people => has("people"),
        has_unsubscribe => has("unsubscribe_url"),
        link => own("link.txt"),
        password => shared("password.txt"),
        lapse => shared("lapse.txt"),
        more => shared("more.txt"),
        stop => shared("stop.txt"),
        copy_link => shared("copy_link.txt"),
        sender => shared("sender.txt"),
    };
    let put_together = |name: &str| {
        let layout = layouts.get_template(name);
        layout
            .and_then(|layout| layout.render(values.clone()))
            .expect("the layouts are compiled in, and the tests use each of them")
    };
    TemplateText {
        subject: own("subject.txt").to_owned(),
        text: put_together("text"),
        mjml: put_together("mjml"),
    }
}
