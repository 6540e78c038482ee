//! Several names in one cell. `|` and `;` separate them, in labels the comma as well; a backslash before a separator or
//! another backslash says that it belongs to the name.

/// What separates groups and roles.
pub(crate) const NAMES: &[char] = &['|', ';'];
/// What separates labels.
pub(crate) const LABELS: &[char] = &['|', ';', ','];

/// The names in a cell, trimmed and without empty ones.
pub(crate) fn split(cell: &str, separators: &[char]) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut chars = cell.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(next)) if *next == '\\' || separators.contains(next) => name.extend(chars.next()),
            (c, _) if separators.contains(&c) || matches!(c, '\n' | '\r') => names.push(std::mem::take(&mut name)),
            (c, _) => name.push(c),
        }
    }
    names.push(name);
    names
        .iter()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The cell that `split` makes these names of.
pub(crate) fn join(names: &[String], separators: &[char]) -> String {
    let mut cell = String::new();
    for name in names {
        if !cell.is_empty() {
            cell.push_str(" | ");
        }
        for c in name.chars() {
            if c == '\\' || separators.contains(&c) {
                cell.push('\\');
            }
            cell.push(c);
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn l5_labels_are_apart_at_bars_commas_and_semicolons_and_groups_keep_their_commas() {
        assert_eq!(split("Year 7 | Maths, Choir;", LABELS), ["Year 7", "Maths", "Choir"]);
        assert_eq!(
            split("School/Year 7|Smith, Lee & Co;B", NAMES),
            ["School/Year 7", "Smith, Lee & Co", "B"]
        );
        assert_eq!(split("A\\|B | C:\\d", NAMES), ["A|B", "C:\\d"]);
        assert_eq!(split("A\nB\r\nC", NAMES), ["A", "B", "C"]);
        assert!(split(" ; | ", NAMES).is_empty());
    }

    proptest! {
        #[test]
        fn l5_every_list_comes_back(names in prop::collection::vec("[|;,\\\\a é/]{1,8}", 0..5)) {
            let names: Vec<String> =
                names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
            prop_assert_eq!(&split(&join(&names, LABELS), LABELS), &names);
            prop_assert_eq!(&split(&join(&names, NAMES), NAMES), &names);
        }
    }
}
