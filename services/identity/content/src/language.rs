//! Which of the languages that there are a recipient gets.

use crate::LANGUAGES;

/// The recipient's language, else the tenant's, else English; of each, the base will do (`fr-CA`: `fr`).
pub(crate) fn choose(language: &str, default_language: &str) -> &'static str {
    [language, default_language]
        .into_iter()
        .find_map(|tag| {
            let base = tag.split('-').next().unwrap_or_default();
            LANGUAGES.into_iter().find(|known| known.eq_ignore_ascii_case(base))
        })
        .unwrap_or("en")
}

/// The direction that a language is written in: the value of HTML's `dir`.
pub(crate) fn direction(language: &str) -> &'static str {
    if language == "ar" { "rtl" } else { "ltr" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_gets_their_language_else_the_tenants_else_english() {
        for (own, tenant, chosen) in [
            ("fr", "de", "fr"),
            ("fr-CA", "de", "fr"),
            ("", "de-AT", "de"),
            ("ja", "es", "es"),
            ("ja", "ko", "en"),
            ("", "", "en"),
        ] {
            assert_eq!(choose(own, tenant), chosen, "{own:?}, {tenant:?}");
        }
    }
}
