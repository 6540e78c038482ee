//! Every mail in every language, as it is sent: pinned as snapshots, and read by an HTML parser. Review changes with
//! `INSTA_UPDATE=always cargo test -p usher-content` and a look at the diff.

use chrono::DateTime;
use scraper::{Html, Selector};
use usher_content::{Defaults, LANGUAGES, Rendered, Sample, direction};
use usher_core::template::TemplateKind;

const LINK: &str = "https://usher.example/join?token=AbC_-1&x=2";
const STOP: &str = "https://school.example/stop?user=1";

fn sample(kind: TemplateKind) -> Sample {
    let now = DateTime::from_timestamp(1_772_877_600, 0).expect("an instant");
    Sample::new(kind, "Lycée Curie & Co", LINK, STOP, now)
}

/// Each kind in each language, from a full sample.
fn all() -> Vec<(TemplateKind, &'static str, Rendered)> {
    let defaults = Defaults::new();
    let mut mails = Vec::new();
    for kind in TemplateKind::ALL {
        for language in LANGUAGES {
            let mail = defaults.template(kind, language).render(&sample(kind).mail(language));
            mails.push((kind, language, mail.expect("Usher's own can be filled")));
        }
    }
    mails
}

fn select(selector: &str) -> Selector {
    Selector::parse(selector).expect("a selector")
}

#[test]
fn every_mail_is_pinned_in_every_language() {
    for (kind, language, mail) in all() {
        let name = format!("{}.{language}", kind.as_str().to_lowercase());
        let text = format!("Subject: {}\n\n{}", mail.subject, mail.text);
        insta::assert_snapshot!(format!("{name}.txt"), text);
        insta::assert_snapshot!(format!("{name}.html"), mail.html);
    }
}

#[test]
fn every_mail_has_its_link_as_a_button_and_in_plain_sight_in_both_parts() {
    for (kind, language, mail) in all() {
        assert!(
            mail.text.lines().any(|line| line == LINK),
            "{kind:?} {language}: {}",
            mail.text
        );
        let document = Html::parse_document(&mail.html);
        let links = select("a");
        let links: Vec<_> = document.select(&links).collect();
        let to_link: Vec<_> = links.iter().filter(|link| link.attr("href") == Some(LINK)).collect();
        assert_eq!(to_link.len(), 2, "{kind:?} {language}: the button and the address");
        let shown: String = to_link[1].text().collect();
        assert_eq!((shown.as_str(), to_link[1].attr("dir")), (LINK, Some("ltr")));
        assert!(!to_link[0].text().collect::<String>().trim().is_empty());
        let stops = links.iter().any(|link| link.attr("href") == Some(STOP));
        assert_eq!(stops, kind.is_optional(), "{kind:?} {language}");
        assert_eq!(mail.text.contains(STOP), kind.is_optional(), "{kind:?} {language}");
    }
}

#[test]
fn every_mail_says_its_language_and_direction_and_no_picture_is_without_alternative_text() {
    for (kind, language, mail) in all() {
        let document = Html::parse_document(&mail.html);
        let root = document.root_element();
        assert_eq!(root.attr("lang"), Some(language), "{kind:?}");
        assert_eq!(root.attr("dir"), Some(direction(language)), "{kind:?} {language}");
        let article = select("[role=article]");
        let article = document.select(&article).next().expect("the mail as an article");
        assert_eq!(
            (article.attr("lang"), article.attr("dir")),
            (root.attr("lang"), root.attr("dir"))
        );
        let title = select("title");
        let title: String = document.select(&title).flat_map(|title| title.text()).collect();
        assert_eq!(title, mail.subject);
        let pictures = select("img:not([alt])");
        assert_eq!(document.select(&pictures).count(), 0, "{kind:?} {language}");
        let fetched = select("link, script, img, iframe");
        assert_eq!(
            document.select(&fetched).count(),
            0,
            "{kind:?} {language}: nothing is fetched"
        );
        assert!(mail.html.contains("prefers-color-scheme: dark"));
        assert!(
            mail.html.len() < 40_000,
            "Gmail cuts mails off at 102 KB: {}",
            mail.html.len()
        );
    }
}

#[test]
fn the_text_part_says_what_the_html_part_says() {
    for (kind, language, mail) in all() {
        let document = Html::parse_document(&mail.html);
        let words = |text: &str| {
            text.split_whitespace()
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let shown = words(&document.root_element().text().collect::<Vec<_>>().join(" "));
        for line in mail
            .text
            .lines()
            .map(words)
            .filter(|line| !line.is_empty() && line != STOP)
        {
            let line = line.trim_start_matches("- ");
            assert!(shown.contains(line), "{kind:?} {language}: {line}\n{shown}");
        }
        assert!(
            !mail.text.contains("\n\n\n") && mail.text.ends_with('\n'),
            "{:?}",
            mail.text
        );
        assert!(
            !mail.text.contains(['{', '<']) && !shown.contains("{{"),
            "{}",
            mail.text
        );
    }
}

#[test]
fn a_mail_to_somebody_of_whom_little_is_known_reads_well_too() {
    let defaults = Defaults::new();
    for (language, greeting) in [
        ("en", "Hello,"),
        ("fr", "Bonjour,"),
        ("es", "Hola,"),
        ("de", "Guten Tag,"),
        ("ar", "مرحبًا،"),
    ] {
        for kind in TemplateKind::ALL {
            let mut sample = sample(kind);
            for name in ["first_name", "last_name", "one_time_password"] {
                sample.set(name, "").expect("it can be replaced");
            }
            sample.unsubscribe_url.clear();
            let mail = defaults.template(kind, language).render(&sample.mail(language));
            let mail = mail.expect("Usher's own can be filled");
            assert_eq!(mail.text.lines().next(), Some(greeting), "{kind:?}");
            assert!(!mail.text.contains("\n\n\n"), "{kind:?} {language}: {}", mail.text);
        }
    }
}

#[test]
fn reminders_change_their_words_with_the_step() {
    let defaults = Defaults::new();
    for language in LANGUAGES {
        let subject = |step| {
            let mut sample = sample(TemplateKind::Reminder);
            sample.step = step;
            let mail = defaults
                .template(TemplateKind::Reminder, language)
                .render(&sample.mail(language));
            mail.expect("Usher's own can be filled").subject
        };
        assert_ne!(subject(1), subject(2), "{language}");
    }
}
