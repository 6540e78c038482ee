//! Addresses in log lines.

/// An address as it may stand in a log: the first character of the local part, and the domain.
pub fn mask(address: &str) -> String {
    match address.split_once('@') {
        Some((local, domain)) => format!("{}…@{domain}", local.chars().next().unwrap_or_default()),
        None => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_address_does_not_tell_whose_it_is() {
        assert_eq!(mask("ana.lopez@example.org"), "a…@example.org");
        assert_eq!(mask("not an address"), "…");
    }
}
