//! Rows that repeat an earlier one. The first row with an address or an external id counts; the later ones are told
//! which it is.
//!
//! Hashes are kept, not texts, and of a spreadsheet's worth of rows at most, so that no file can fill the memory. Of what
//! comes after that, the service still takes only the first: it has the addresses of all users.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use usher_core::email::EmailAddress;

use super::columns::Columns;
use super::fault::CellFault;
use super::person::ImportRow;
use crate::field::Field;

/// Rows that are remembered.
const MAX_REMEMBERED: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Repeats {
    hasher: RandomState,
    lines: HashMap<u64, u64>,
    remembered: usize,
}

impl Repeats {
    /// Remembers a row, or says what it repeats.
    pub(crate) fn check(&mut self, line: u64, row: &ImportRow, columns: &Columns) -> Vec<CellFault> {
        let email = EmailAddress::parse(&row.email).map_or_else(|_| row.email.clone(), |email| email.key().to_owned());
        let email = (Field::Email, self.hasher.hash_one((Field::Email, email)));
        let external_id = row
            .external_id
            .as_ref()
            .map(|id| (Field::ExternalId, self.hasher.hash_one((Field::ExternalId, id))));
        let keys = [Some(email), external_id];
        let faults: Vec<CellFault> = keys
            .iter()
            .flatten()
            .filter_map(|(field, hash)| {
                let first = self.lines.get(hash)?;
                let head = columns
                    .index(*field)
                    .map(|index| columns.head(index))
                    .unwrap_or_default();
                let reason = format!("is the same as in row {first}, which counts; remove one of the two");
                Some(CellFault::new(head, reason))
            })
            .collect();
        if faults.is_empty() && self.remembered < MAX_REMEMBERED {
            self.remembered += 1;
            self.lines
                .extend(keys.into_iter().flatten().map(|(_, hash)| (hash, line)));
        }
        faults
    }
}
