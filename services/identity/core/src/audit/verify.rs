//! Finds what was done to a log, and where: row by row, in the order of the chain, with bounded memory.

use super::{AuditHead, AuditKeys, AuditRow};
use crate::clock::Timestamp;
use crate::ids::{AuditId, TenantId};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// A row is not as Usher wrote it, or Usher never wrote it.
    Changed,
    /// The reason, the request id or the details of a row are not as Usher wrote them.
    DetailsChanged,
    /// They were taken out, and not by an erasure.
    FalseRedaction,
    /// Rows are missing.
    Missing,
    /// A row stands where none stood when the log was sealed.
    Inserted,
    /// A row does not follow on the one before it: it was moved here, or others were moved away.
    Moved,
    /// Rows are missing at the end.
    CutOff,
    /// A row has waited too long to be sealed.
    Unsealed,
    /// The record of the end of the chain is missing, or not as Usher wrote it.
    HeadChanged,
    /// The chain is another one than that of the anchor.
    AnchorChanged,
    /// It was sealed with a key that is not configured.
    UnknownKey,
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// The first row that is concerned; 0: it is not sealed.
    pub sequence: i64,
    /// The last one.
    pub last: i64,
    /// Its id, where the row is there.
    pub id: Option<AuditId>,
    /// Its time.
    pub at: Option<Timestamp>,
}

/// A place of a chain that was written down elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Which row.
    pub sequence: i64,
    /// Its link.
    pub chain: Vec<u8>,
}

/// What came of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Rows that were looked at.
    pub rows: i64,
    /// The first faults, in the order in which they were found.
    pub faults: Vec<Fault>,
    /// Further ones.
    pub further: i64,
}

/// Looks at the rows of one tenant.
#[derive(Debug)]
pub struct Verifier<'a> {
    keys: &'a AuditKeys,
    tenant: TenantId,
    anchor: Option<Anchor>,
    limit: usize,
    /// The sequence that comes next.
    next: i64,
    /// The link of the last row.
    chain: Vec<u8>,
    doubt: Option<Doubt>,
    verdict: Verdict,
}

/// A row that did not follow on the one before it. What was done shows in what the next one follows on.
#[derive(Debug)]
struct Doubt {
    fault: Fault,
    /// The link of the row before it: followed on where it was put in.
    before: Vec<u8>,
    /// The link that it should have: followed on where only its link was changed.
    expected: Vec<u8>,
}

impl<'a> Verifier<'a> {
    /// Begins after the rows that are no longer kept. Keeps up to `limit` faults.
    pub fn new(keys: &'a AuditKeys, tenant: TenantId, head: Option<&AuditHead>, limit: usize) -> Self {
        let (after, chain) = head.map_or((0, Vec::new()), |head| (head.kept_after, head.kept_chain.clone()));
        Self::after(keys, tenant, after, chain, limit)
    }

    /// Begins after a row whose link is known to be right.
    pub fn after(keys: &'a AuditKeys, tenant: TenantId, sequence: i64, chain: Vec<u8>, limit: usize) -> Self {
        Self {
            keys,
            tenant,
            anchor: None,
            limit,
            next: sequence + 1,
            chain,
            doubt: None,
            verdict: Verdict::default(),
        }
    }

    /// Compares with a place that was written down elsewhere.
    #[must_use]
    pub fn with_anchor(self, anchor: Option<Anchor>) -> Self {
        Self { anchor, ..self }
    }

    /// How many rows were looked at.
    pub fn rows(&self) -> i64 {
        self.verdict.rows
    }

    /// Looks at the next row, in the order of the sequence.
    pub fn push(&mut self, row: &AuditRow) {
        let Some(link) = &row.link else {
            return self.push_unsealed(row, None);
        };
        self.verdict.rows += 1;
        let fault = |kind| Fault {
            kind,
            sequence: link.sequence,
            last: link.sequence,
            id: Some(row.id),
            at: Some(row.at),
        };
        if let Some(anchor) = &self.anchor
            && anchor.sequence == link.sequence
            && anchor.chain != link.chain
        {
            self.found(fault(FaultKind::AnchorChanged));
        }
        let within = match self.keys.examine(row) {
            None if row.tenant != self.tenant => Some(FaultKind::Moved),
            within => within,
        };
        if link.sequence < self.next {
            self.settle(None);
            return self.found(fault(within.unwrap_or(FaultKind::Inserted)));
        }
        let gap = link.sequence > self.next;
        if gap {
            self.settle(None);
            self.found(missing(FaultKind::Missing, self.next, link.sequence - 1));
        }
        self.next = link.sequence + 1;
        let before = self.follow(row, &link.chain);
        let follows = before.is_some();
        let before = before.unwrap_or_else(|| self.chain.clone());
        self.settle(follows.then_some(&before));
        match within {
            Some(FaultKind::UnknownKey) => self.found(fault(FaultKind::UnknownKey)),
            Some(kind) if follows || gap => self.found(fault(kind)),
            None if follows || gap => {}
            kind => {
                self.doubt = Some(Doubt {
                    fault: fault(kind.unwrap_or(FaultKind::Moved)),
                    expected: self.keys.link_after(row, &before, &link.chain),
                    before,
                });
            }
        }
        self.chain.clone_from(&link.chain);
    }

    /// Looks at a row that is not sealed. `overdue`: since before this instant it should be.
    pub fn push_unsealed(&mut self, row: &AuditRow, overdue: Option<Timestamp>) {
        self.verdict.rows += 1;
        let late = overdue.is_some_and(|overdue| row.at < overdue);
        let kind = self.keys.examine(row).or(late.then_some(FaultKind::Unsealed));
        if let Some(kind) = kind {
            self.found(Fault {
                kind,
                sequence: 0,
                last: 0,
                id: Some(row.id),
                at: Some(row.at),
            });
        }
    }

    /// Looks at a row that says it is sealed beyond the end of the chain, as it stood when it was looked for.
    pub fn push_beyond(&mut self, row: &AuditRow) {
        self.verdict.rows += 1;
        let sequence = row.link.as_ref().map_or(0, |link| link.sequence);
        self.found(Fault {
            kind: FaultKind::Inserted,
            sequence,
            last: sequence,
            id: Some(row.id),
            at: Some(row.at),
        });
    }

    /// Compares the end with the record of it.
    pub fn finish(mut self, head: Option<&AuditHead>) -> Verdict {
        let last = self.next - 1;
        match head {
            None if last > 0 => {
                self.settle(None);
                self.found(missing(FaultKind::HeadChanged, last, last));
            }
            None => {}
            Some(head) => {
                let end = head.chain.clone();
                let ends = head.sequence == last && self.ends(&end);
                self.settle(ends.then_some(&end));
                if let Some(kind) = self.keys.examine_head(head) {
                    self.found(missing(kind, head.sequence, head.sequence));
                } else if head.sequence > last {
                    self.found(missing(FaultKind::CutOff, last + 1, head.sequence));
                } else if head.sequence < last {
                    self.found(missing(FaultKind::Inserted, head.sequence + 1, last));
                } else if !ends {
                    self.found(missing(FaultKind::HeadChanged, last, last));
                }
            }
        }
        let cut = self.anchor.as_ref().map_or(0, |anchor| anchor.sequence);
        let end = head.map_or(last, |head| head.sequence.max(last));
        if cut > end {
            self.found(missing(FaultKind::CutOff, end + 1, cut));
        }
        self.verdict
    }

    /// On what a row follows: the row before it, or what shows that only that one is at fault.
    fn follow(&self, row: &AuditRow, chain: &[u8]) -> Option<Vec<u8>> {
        let mut candidates = vec![&self.chain];
        candidates.extend(self.doubt.iter().flat_map(|doubt| [&doubt.expected, &doubt.before]));
        let found = candidates
            .into_iter()
            .find(|before| self.keys.follows(row, before, chain));
        found.cloned()
    }

    /// Whether the chain ends so.
    fn ends(&self, end: &Vec<u8>) -> bool {
        let doubt = self.doubt.as_ref();
        *end == self.chain || doubt.is_some_and(|doubt| *end == doubt.expected || *end == doubt.before)
    }

    /// Says what was done to the row in doubt, now that it is known on what the next one follows.
    fn settle(&mut self, followed: Option<&Vec<u8>>) {
        let Some(mut doubt) = self.doubt.take() else { return };
        if followed == Some(&doubt.expected) {
            doubt.fault.kind = FaultKind::Changed;
        } else if followed == Some(&doubt.before) && doubt.fault.kind != FaultKind::Moved {
            // One that Usher wrote, but not for this place, was moved.
            doubt.fault.kind = FaultKind::Inserted;
        }
        self.found(doubt.fault);
    }

    fn found(&mut self, fault: Fault) {
        if self.verdict.faults.len() < self.limit {
            self.verdict.faults.push(fault);
        } else {
            self.verdict.further += 1;
        }
    }
}

fn missing(kind: FaultKind, sequence: i64, last: i64) -> Fault {
    Fault {
        kind,
        sequence,
        last,
        id: None,
        at: None,
    }
}
