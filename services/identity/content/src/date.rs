//! A date as it is written in a language: day, month in words, year.

use chrono::{DateTime, Datelike as _, Utc};

use crate::language::base;

const EN: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const FR: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];
const ES: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];
const DE: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];
const AR: [&str; 12] = [
    "يناير",
    "فبراير",
    "مارس",
    "أبريل",
    "مايو",
    "يونيو",
    "يوليو",
    "أغسطس",
    "سبتمبر",
    "أكتوبر",
    "نوفمبر",
    "ديسمبر",
];

/// The date of an instant, in UTC; in languages that Usher does not speak as ISO 8601 writes it.
pub(crate) fn format(at: DateTime<Utc>, language: &str) -> String {
    let (day, month, year) = (at.day(), at.month0() as usize, at.year());
    match base(language) {
        "fr" if day == 1 => format!("1er {} {year}", FR[month]),
        "fr" => format!("{day} {} {year}", FR[month]),
        "es" => format!("{day} de {} de {year}", ES[month]),
        "de" => format!("{day}. {} {year}", DE[month]),
        "ar" => format!("{day} {} {year}", AR[month]),
        "en" => format!("{day} {} {year}", EN[month]),
        _ => at.format("%Y-%m-%d").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_each_language_writes_them() {
        let at = "2026-03-01T23:59:00Z".parse().unwrap();
        for (language, written) in [
            ("en", "1 March 2026"),
            ("fr", "1er mars 2026"),
            ("es", "1 de marzo de 2026"),
            ("de", "1. März 2026"),
            ("ar", "1 مارس 2026"),
            ("de-AT", "1. März 2026"),
            ("ja", "2026-03-01"),
        ] {
            assert_eq!(format(at, language), written);
        }
    }
}
