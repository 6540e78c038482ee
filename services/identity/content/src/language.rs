//! What languages need beside their words.

/// Languages whose usual script runs from right to left.
const RIGHT_TO_LEFT: [&str; 10] = ["ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"];

/// The direction that a language (BCP 47) is written in: the value of HTML's `dir`.
pub fn direction(language: &str) -> &'static str {
    let mut parts = language.split('-');
    let base = parts.next().unwrap_or_default();
    // A tag may name the script: `az-Arab`, `ur-Latn`.
    match parts.find(|part| part.len() == 4) {
        Some("Arab" | "Hebr" | "Syrc" | "Thaa" | "Nkoo") => "rtl",
        None if RIGHT_TO_LEFT.contains(&base) => "rtl",
        Some(_) | None => "ltr",
    }
}

/// The side that lines begin at: the value of `align`, for mail programs that do not know `start`.
pub(crate) fn start(language: &str) -> &'static str {
    if direction(language) == "rtl" { "right" } else { "left" }
}

/// The language without region and script.
pub(crate) fn base(language: &str) -> &str {
    language.split('-').next().unwrap_or_default()
}

/// When something happens, counted from today: "tomorrow", "in 3 days". In languages that Usher does not speak: `None`.
pub(crate) fn in_days(days: i64, language: &str) -> Option<String> {
    let (today, tomorrow) = match base(language) {
        "ar" => ("اليوم", "غدًا"),
        "de" => ("heute", "morgen"),
        "en" => ("today", "tomorrow"),
        "es" => ("hoy", "mañana"),
        "fr" => ("aujourd’hui", "demain"),
        _ => return None,
    };
    Some(match (days, base(language)) {
        (..=0, _) => today.into(),
        (1, _) => tomorrow.into(),
        (_, "ar") => arabic_days(days),
        (_, "de") => format!("in {days} Tagen"),
        (_, "es") => format!("dentro de {days} días"),
        (_, "fr") => format!("dans {days} jours"),
        _ => format!("in {days} days"),
    })
}

/// Arabic counts in six forms (CLDR); these follow a preposition. One and none are "tomorrow" and "today".
fn arabic_days(days: i64) -> String {
    match (days, days % 100) {
        (2, _) => "بعد يومين".into(),
        (_, 3..=10) => format!("بعد {days} أيام"),
        (_, 11..=99) => format!("بعد {days} يومًا"),
        _ => format!("بعد {days} يوم"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_decides_where_a_line_begins() {
        for (language, expected) in [
            ("ar", "rtl"),
            ("ar-EG", "rtl"),
            ("he", "rtl"),
            ("az-Arab", "rtl"),
            ("ur-Latn", "ltr"),
            ("fr-CA", "ltr"),
            ("", "ltr"),
        ] {
            assert_eq!(direction(language), expected, "{language}");
        }
    }

    #[test]
    fn days_are_counted_as_each_language_counts_them() {
        for (days, language, expected) in [
            (0, "en", "today"),
            (1, "fr", "demain"),
            (7, "de-AT", "in 7 Tagen"),
            (2, "es", "dentro de 2 días"),
            (2, "ar", "بعد يومين"),
            (7, "ar", "بعد 7 أيام"),
            (14, "ar", "بعد 14 يومًا"),
            (100, "ar", "بعد 100 يوم"),
        ] {
            assert_eq!(in_days(days, language).as_deref(), Some(expected));
        }
        assert_eq!(in_days(3, "ja"), None);
    }
}
