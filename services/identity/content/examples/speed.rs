//! How many mails a second one core renders, and what compiling a template takes:
//! `cargo run --release -p usher-content --example speed`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::DateTime;
use usher_content::{Defaults, Sample, Template};
use usher_core::template::TemplateKind;

fn main() {
    let defaults = Defaults::new();
    let kind = TemplateKind::Invitation;
    let now = DateTime::from_timestamp(1_772_877_600, 0).unwrap_or_default();
    let sample = Sample::new(kind, "Lycée Curie", "https://usher.example/join?token=AbC_-1", "", now);
    let template = defaults.template(kind, "fr");
    rate("mails rendered a second", || {
        drop(black_box(template.render(&sample.mail("fr"))));
    });
    let source = defaults.source(kind, "fr");
    rate("templates loaded a second", || {
        drop(black_box(Template::load(kind, source)));
    });
    rate("templates checked a second", || {
        drop(black_box(Template::compile(kind, "fr", source)));
    });
}

fn rate(name: &str, mut work: impl FnMut()) {
    let (began, mut done) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs(3) {
        for _ in 0..10 {
            work();
        }
        done += 10;
    }
    println!("{name}: {:.0}", f64::from(done) / began.elapsed().as_secs_f64());
}
