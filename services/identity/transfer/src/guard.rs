//! No cell of a CSV file may be read as a formula. A text that a spreadsheet could take for one is written with an
//! apostrophe before it, and the reader takes that apostrophe off again.
//!
//! Where lists are separated by semicolons, a spreadsheet cuts cells at semicolons whatever stands around them. So
//! what follows a semicolon is treated as the beginning of a cell, too.

use usher_core::email::is_invisible;

/// The text as it is written.
pub(crate) fn guard(text: &str) -> String {
    if !text.contains(';') {
        return if is_risky(text) {
            format!("'{text}")
        } else {
            text.to_owned()
        };
    }
    let pieces = text.split(';').map(|piece| {
        if is_risky(piece) {
            format!("'{piece}")
        } else {
            piece.to_owned()
        }
    });
    pieces.collect::<Vec<_>>().join(";")
}

/// The text as it was before `guard`.
pub(crate) fn unguard(text: String) -> String {
    if !text.contains('\'') {
        return text;
    }
    let bare = |piece: &str| match piece.strip_prefix('\'') {
        Some(rest) if is_risky(rest) => rest.to_owned(),
        _ => piece.to_owned(),
    };
    text.split(';').map(bare).collect::<Vec<_>>().join(";")
}

/// Whether a spreadsheet could take it for a formula, or `unguard` for a text that was guarded.
fn is_risky(text: &str) -> bool {
    for c in text.chars() {
        match c {
            '=' | '+' | '-' | '@' | '\t' | '\r' | '＝' | '＋' | '－' | '＠' => return true,
            '\'' | '"' => {}
            c if c.is_whitespace() || c.is_control() || is_invisible(c) => {}
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn u7_what_looks_like_a_formula_gets_an_apostrophe_and_nothing_else_does() {
        for text in [
            "=1+1",
            "+49",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            " =1",
            "\u{200B}=1",
            "\u{FEFF}=1",
            "＝1",
            "＋1",
            "－1",
            "＠x",
            "'=1",
            "''+",
            "\u{A0}-1",
            "\"=1",
        ] {
            assert_eq!(guard(text), format!("'{text}"), "{text:?}");
        }
        for text in [
            "",
            "O'Connor",
            "'t Hooft",
            "a=b",
            "1-2",
            "Zoë",
            "x@example.org",
            "'",
            "''",
        ] {
            assert_eq!(guard(text), text);
        }
        assert_eq!(guard("a; =1;b"), "a;' =1;b");
    }

    proptest! {
        #[test]
        fn u7_every_text_comes_back_and_no_cell_begins_a_formula(text in "[;'\"=+@＝ \u{200B}a-c\u{e9}\t-]{0,12}|\\PC{0,40}") {
            let written = guard(&text);
            for piece in written.split(';') {
                let first = piece.trim_start_matches(|c: char| c.is_whitespace() || is_invisible(c)).chars().next();
                prop_assert!(!first.is_some_and(|c| "=+-@＝＋－＠".contains(c)), "{:?}", written);
            }
            prop_assert_eq!(unguard(written), text);
        }
    }
}
