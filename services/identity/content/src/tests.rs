//! Scratch.
use super::*;
use chrono::DateTime;
use usher_core::template::TemplateKind;

#[test]
fn scratch() {
    let defaults = Defaults::new();
    for kind in TemplateKind::ALL {
        for language in LANGUAGES {
            if let Err(faults) = Template::compile(kind, defaults.source(kind, language)) {
                println!(
                    "{kind:?} {language} {faults:#?}\n{}",
                    defaults.source(kind, language).mjml
                );
                panic!();
            }
        }
        let s = Sample::new(
            kind,
            "Lycée Curie & Co",
            "https://usher.example/join?token=AbC_-1",
            "https://usher.example/stop",
            DateTime::from_timestamp(1_772_877_600, 0).unwrap(),
        );
        let r = defaults.template(kind, "en").render(&s.mail("en")).unwrap();
        println!(
            "=====\n{}\n---\n{}---\n{}",
            r.subject,
            r.text,
            if kind == TemplateKind::ExpiryWarningToAdministrators {
                r.html
            } else {
                String::new()
            }
        );
    }
}
