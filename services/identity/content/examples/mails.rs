//! Writes every mail in every language into a folder, for the pictures of the README:
//! `cargo run -p usher-content --example mails -- FOLDER`.

use std::path::PathBuf;

use chrono::DateTime;
use usher_content::{Defaults, LANGUAGES, Sample};
use usher_core::template::TemplateKind;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder")?);
    std::fs::create_dir_all(&folder)?;
    let now = DateTime::from_timestamp(1_772_877_600, 0).ok_or("an instant")?;
    let defaults = Defaults::new();
    for kind in TemplateKind::ALL {
        let link = "https://learn.curie.example/join?token=R2l2ZSBtZSBhIGxpbms";
        let sample = Sample::new(kind, "Lycée Curie", link, "https://learn.curie.example/stop", now);
        for language in LANGUAGES {
            let mail = defaults.template(kind, language).render(&sample.mail(language))?;
            let name = format!("{}.{language}.html", kind.as_str().to_lowercase());
            std::fs::write(folder.join(name), mail.html)?;
        }
    }
    Ok(())
}
