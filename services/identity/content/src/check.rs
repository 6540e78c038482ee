//! What a template's mails must bring, and must not: seen in mails that it is tried with.

use chrono::DateTime;
use htmlparser::{ElementEnd, Token, Tokenizer};
use usher_core::refusal::FieldViolation;
use usher_core::template::TemplateKind;

use crate::fault::Part;
use crate::sample::Sample;
use crate::template::Template;

const LINK: &str = "https://usher.invalid/q7/link";
const MESSAGE: &str = "q7-message";
const PASSWORD: &str = "q7-password";
/// In every text that a person may have typed.
const TYPED: &str = "q7typed";
/// Elements that mail programs drop, and that could do more than show something.
const ACTIVE: [&str; 7] = ["script", "iframe", "object", "embed", "form", "base", "applet"];

/// Every fault of a template that compiles, in the mails of its own language: whoever gets it gets it in that one, also where
/// they asked for another that there is none in.
pub(crate) fn faults(template: &Template, kind: TemplateKind, language: &str) -> Vec<FieldViolation> {
    let mut faults = Vec::new();
    for trial in trials(kind) {
        trial.run(template, language, &mut faults);
    }
    faults.dedup();
    faults.sort_by(|a, b| a.field.cmp(&b.field).then_with(|| a.description.cmp(&b.description)));
    faults.dedup();
    faults
}

struct Trial {
    sample: Sample,
    /// What must be shown: what it is called, and as which text.
    shown: Vec<(&'static str, &'static str)>,
    /// Whether the link must be there.
    linked: bool,
}

/// Mails of a kind, with and without what may be missing.
fn trials(kind: TemplateKind) -> Vec<Trial> {
    let now = DateTime::from_timestamp(1_772_877_600, 0).unwrap_or_default();
    let sample = |link| Sample::new(kind, "", link, "https://usher.invalid/q7/stop", now);
    let inviting = matches!(
        kind,
        TemplateKind::Invitation | TemplateKind::Reminder | TemplateKind::FreshLink
    );
    // The link of an invitation is what the mail is for; that of a sign-in is only needed where somebody has to.
    let needs_link = !matches!(
        kind,
        TemplateKind::ExpiryWarning | TemplateKind::ExpiryWarningToAdministrators
    );
    let mut trials = Vec::new();
    for step in kind.steps() {
        for bare in [false, true] {
            let mut full = sample(LINK).typed(TYPED);
            full.step = step;
            let mut shown = Vec::new();
            if bare {
                full = full.bare();
            } else if kind == TemplateKind::AccountCreated {
                let _ = full.set("one_time_password", PASSWORD);
                shown.push(("one_time_password", PASSWORD));
            }
            trials.push(Trial {
                sample: full.clone(),
                shown: shown.clone(),
                linked: needs_link,
            });
            if inviting {
                trials.push(Trial {
                    sample: full.with_message(&format!("{MESSAGE} {TYPED}")),
                    shown: [("message", MESSAGE)].into(),
                    linked: true,
                });
            } else {
                full.link.clear();
                trials.push(Trial {
                    sample: full,
                    shown,
                    linked: false,
                });
            }
        }
    }
    if inviting {
        // As long as a customised text can be, and as escaping makes it.
        trials.push(Trial {
            sample: sample(LINK).with_message(&"\"\n".repeat(usher_core::text::MAX_MESSAGE / 2)),
            shown: Vec::new(),
            linked: true,
        });
    }
    trials
}

impl Trial {
    fn run(&self, template: &Template, language: &str, faults: &mut Vec<FieldViolation>) {
        let mail = match template.render(&self.sample.mail(language)) {
            Ok(mail) => mail,
            Err(error) => {
                faults.push(error.part().fault(error.to_string()));
                return;
            }
        };
        if mail.subject.is_empty() {
            faults.push(Part::Subject.fault("comes out empty"));
        }
        if self.linked && !mail.text.lines().any(|line| line.contains(LINK)) {
            faults.push(Part::Text.fault("misses the link: write {{ link }}, best on a line of its own"));
        }
        let seen = inspect(&mail.html);
        if self.linked && !seen.links.iter().any(|link| link == LINK) {
            faults.push(Part::Mjml.fault("misses the link: write for example <mj-button href=\"{{ link }}\">"));
        }
        for (name, value) in &self.shown {
            for (part, text) in [(Part::Text, &mail.text), (Part::Mjml, &seen.text)] {
                if !text.contains(value) {
                    faults.push(part.fault(format!("does not show {{{{ {name} }}}} where there is one")));
                }
            }
        }
        faults.extend(seen.faults.into_iter().map(|fault| Part::Mjml.fault(fault)));
    }
}

/// What a document shows.
#[derive(Default)]
struct Seen {
    text: String,
    links: Vec<String>,
    faults: Vec<String>,
}

fn inspect(document: &str) -> Seen {
    let mut seen = Seen::default();
    let (mut element, mut has_alt) = (String::new(), false);
    for token in Tokenizer::from(document) {
        match token {
            Ok(Token::ElementStart { local, .. }) => {
                element = local.as_str().to_ascii_lowercase();
                has_alt = false;
                if ACTIVE.contains(&element.as_str()) {
                    seen.faults.push(format!("<{element}> is not for mails"));
                }
            }
            Ok(Token::Attribute { local, value, .. }) => {
                let name = local.as_str().to_ascii_lowercase();
                has_alt |= name == "alt";
                let value = value.map_or("", |value| value.as_str());
                if element == "a" && name == "href" {
                    seen.links.push(value.to_owned());
                }
                if name.starts_with("on") {
                    seen.faults.push(format!("the attribute {name} is not for mails"));
                }
                if value.contains(TYPED) && !matches!(name.as_str(), "alt" | "title" | "aria-label") {
                    let fault = format!("what people typed must not stand in the attribute {name}");
                    seen.faults.push(fault);
                }
            }
            Ok(Token::ElementEnd { end, .. }) => {
                if element == "img" && !has_alt && !matches!(end, ElementEnd::Close(..)) {
                    seen.faults
                        .push("a picture has no alternative text: give it alt=\"…\"".into());
                }
                if matches!(end, ElementEnd::Close(..)) {
                    element.clear();
                }
            }
            Ok(Token::Text { text }) if element == "style" => {
                if text.as_str().contains(TYPED) {
                    seen.faults.push("what people typed must not stand in styles".into());
                }
            }
            Ok(Token::Text { text }) => seen.text.push_str(text.as_str()),
            Ok(Token::Comment { text, .. }) if text.as_str().contains(TYPED) => {
                seen.faults.push("what people typed must not stand in comments".into());
            }
            Ok(_) => {}
            Err(error) => {
                seen.faults.push(format!("does not come out as HTML: {error}"));
                break;
            }
        }
    }
    seen
}
