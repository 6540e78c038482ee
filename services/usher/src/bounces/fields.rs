//! Groups of fields, as in a message's head: how both kinds of reports are written.

/// One group: names in lower case, values unfolded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The groups of a text, which blank lines part. What is no field is passed over.
    pub(super) fn all(text: &str) -> Vec<Self> {
        let (mut groups, mut group) = (Vec::new(), Self::default());
        for line in text.lines() {
            if line.trim().is_empty() {
                if !group.0.is_empty() {
                    groups.push(std::mem::take(&mut group));
                }
            } else if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = group.0.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                group
                    .0
                    .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        if !group.0.is_empty() {
            groups.push(group);
        }
        groups
    }

    /// The first field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.every(name).next()
    }

    /// All fields of this name.
    pub(super) fn every<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.as_str())
    }
}
