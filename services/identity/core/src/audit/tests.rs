use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;

const ROWS: usize = 100_000;
const PLACES: usize = 1_000;

fn tenant() -> TenantId {
    TenantId(Uuid::from_u128(7))
}

fn key(id: u8) -> AuditKey {
    AuditKey::try_new(id, &[id; MIN_KEY]).unwrap()
}

fn keys() -> AuditKeys {
    AuditKeys::try_new(key(1), Vec::new()).unwrap()
}

fn row(keys: &AuditKeys, number: u32) -> AuditRow {
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    keys.sign(AuditEntry {
        tenant: tenant(),
        at: now + TimeDelta::milliseconds(number.into()),
        actor: "head-office".into(),
        caller: "usher/0.1".into(),
        method: "UserService/UpdateUser".into(),
        permission: "users.update".into(),
        outcome: DONE.into(),
        // Every fifth is about nobody in particular.
        subject: (!number.is_multiple_of(5)).then_some(UserId(Uuid::from_u128(number.into()))),
        job: None,
        reason: format!("reason {number}"),
        request_id: format!("r-{number}"),
        details: vec![FieldChange::new(
            "first_name",
            Some("Ana".into()),
            Some(format!("Ana {number}")),
        )],
    })
}

/// A sealed log.
struct Log {
    keys: AuditKeys,
    rows: Vec<AuditRow>,
    head: AuditHead,
}

impl Log {
    fn of(count: usize) -> Self {
        let keys = keys();
        let mut rows: Vec<AuditRow> = (0..u32::try_from(count).unwrap())
            .map(|number| row(&keys, number))
            .collect();
        let mut head = None;
        for batch in rows.chunks_mut(777) {
            let codes: Vec<_> = batch.iter().map(|row| (row.id, row.code.clone())).collect();
            let (links, next) = keys.extend(tenant(), head.as_ref(), &codes).unwrap();
            for (row, link) in batch.iter_mut().zip(links) {
                row.link = Some(link);
            }
            head = Some(next);
        }
        Self {
            keys,
            rows,
            head: head.unwrap(),
        }
    }

    fn verdict(&self) -> Verdict {
        let mut verifier = Verifier::new(&self.keys, tenant(), Some(&self.head), usize::MAX);
        for row in &self.rows {
            verifier.push(row);
        }
        verifier.finish(Some(&self.head))
    }

    /// The verdict where the log ends with the row at a place, read from a little before it.
    fn cut_at(&self, place: usize, head: Option<&AuditHead>, anchor: Option<Anchor>) -> Verdict {
        let from = place.saturating_sub(5).max(1);
        let link = self.rows[from - 1].link.clone().unwrap();
        let mut verifier =
            Verifier::after(&self.keys, tenant(), link.sequence, link.chain, usize::MAX).with_anchor(anchor);
        for row in &self.rows[from..=place] {
            verifier.push(row);
        }
        verifier.finish(head)
    }
}

/// Places that are far enough apart for each to be told by itself.
fn places(rng: &mut TestRng) -> Vec<usize> {
    let step = ROWS / PLACES;
    let near = |rng: &mut TestRng| usize::try_from(rng.next_u64() % 90).unwrap();
    (0..PLACES).map(|number| number * step + 4 + near(rng)).collect()
}

fn sequence(place: usize) -> i64 {
    i64::try_from(place).unwrap() + 1
}

fn flip(octets: &mut [u8], rng: &mut TestRng) {
    let at = usize::try_from(rng.next_u64()).unwrap_or(0) % octets.len();
    octets[at] ^= 1 + u8::try_from(rng.next_u64() % 255).unwrap();
}

fn flip_text(text: &mut String, rng: &mut TestRng) {
    let mut octets = std::mem::take(text).into_bytes();
    let at = usize::try_from(rng.next_u64()).unwrap_or(0) % octets.len();
    octets[at] = if octets[at] == b'x' { b'y' } else { b'x' };
    *text = String::from_utf8(octets).unwrap();
}

fn flip_id(id: &mut Uuid, rng: &mut TestRng) {
    let mut octets = *id.as_bytes();
    flip(&mut octets, rng);
    *id = Uuid::from_bytes(octets);
}

/// Changes one octet of one column of a row.
fn change_an_octet(row: &mut AuditRow, rng: &mut TestRng) {
    let erasable = row.erasable.as_mut().unwrap();
    match rng.next_u64() % 15 {
        0 => flip_id(&mut row.id.0, rng),
        1 => row.at += TimeDelta::microseconds(1 << (rng.next_u64() % 40)),
        2 => flip_text(&mut row.actor, rng),
        3 => flip_text(&mut row.caller, rng),
        4 => flip_text(&mut row.method, rng),
        5 => flip_text(&mut row.permission, rng),
        6 => flip_text(&mut row.outcome, rng),
        7 => flip_id(&mut row.subject.get_or_insert(UserId(Uuid::nil())).0, rng),
        8 => flip_text(&mut row.reason, rng),
        9 => flip_text(&mut row.request_id, rng),
        10 => flip_text(&mut erasable.details, rng),
        11 => flip(&mut erasable.salt, rng),
        12 => flip(&mut row.digest, rng),
        13 => flip(&mut row.code, rng),
        _ => flip(&mut row.link.as_mut().unwrap().chain, rng),
    }
}

/// B14: every kind of tampering, at 1,000 random places of a log of 100,000 rows: each is found, where it was done, and
/// nothing else is.
#[test]
fn b14_every_tampering_with_a_log_of_100_000_rows_is_found_and_located() {
    let log = Log::of(ROWS);
    let untouched = log.verdict();
    assert_eq!((untouched.rows, untouched.faults), (sequence(ROWS - 1), Vec::new()));
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);

    changed(&log, &mut rng);
    deleted(&log, &mut rng);
    swapped(&log, &mut rng);
    inserted(&log, &mut rng);
    cut_off(&log, &mut rng);
}

fn changed(log: &Log, rng: &mut TestRng) {
    let mut rows = log.rows.clone();
    let places = places(rng);
    for place in &places {
        change_an_octet(&mut rows[*place], rng);
    }
    let log = Log {
        keys: log.keys.clone(),
        rows,
        head: log.head.clone(),
    };
    let found: Vec<i64> = log.verdict().faults.iter().map(|fault| fault.sequence).collect();
    assert_eq!(found, places.iter().map(|place| sequence(*place)).collect::<Vec<_>>());
}

fn deleted(log: &Log, rng: &mut TestRng) {
    let places = places(rng);
    let mut gone = places.iter().peekable();
    let mut rows = Vec::with_capacity(ROWS);
    for (index, row) in log.rows.iter().enumerate() {
        if gone.next_if(|place| **place == index).is_none() {
            rows.push(row.clone());
        }
    }
    let deleted = Log {
        keys: log.keys.clone(),
        rows,
        head: log.head.clone(),
    };
    expect(&deleted.verdict(), FaultKind::Missing, &places, 0);

    // Numbered anew, so that no number lacks: still each place is found, and the end.
    let mut renumbered = deleted;
    for (number, row) in (1..).zip(&mut renumbered.rows) {
        row.link.as_mut().unwrap().sequence = number;
    }
    let verdict = renumbered.verdict();
    let ids: Vec<_> = places.iter().map(|place| Some(log.rows[place + 1].id)).collect();
    let (moved, end) = verdict.faults.split_at(PLACES);
    assert_eq!(moved.iter().map(|fault| fault.id).collect::<Vec<_>>(), ids);
    assert!(moved.iter().all(|fault| fault.kind == FaultKind::Moved));
    assert_eq!(end.len(), 1);
    assert_eq!(end[0].kind, FaultKind::CutOff);
}

fn swapped(log: &Log, rng: &mut TestRng) {
    let places = places(rng);
    let mut rows = log.rows.clone();
    for place in &places {
        // Their contents change places; their links stay.
        let links = (rows[*place].link.clone(), rows[place + 2].link.clone());
        rows.swap(*place, place + 2);
        (rows[*place].link, rows[place + 2].link) = links;
    }
    let swapped = Log {
        keys: log.keys.clone(),
        rows,
        head: log.head.clone(),
    };
    let both: Vec<usize> = places.iter().flat_map(|place| [*place, place + 2]).collect();
    expect(&swapped.verdict(), FaultKind::Moved, &both, 0);
}

fn inserted(log: &Log, rng: &mut TestRng) {
    let places = places(rng);
    let foreign = AuditKeys::try_new(
        AuditKey::try_new(1, b"a key that is not the key of Usher").unwrap(),
        Vec::new(),
    );
    let foreign = foreign.unwrap();
    let mut here = places.iter().peekable();
    let mut rows = Vec::with_capacity(ROWS + PLACES);
    let mut ids = Vec::new();
    for (index, row) in log.rows.iter().enumerate() {
        if here.next_if(|place| **place == index).is_some() {
            let mut forged = self::row(&foreign, 1);
            forged.link.clone_from(&row.link);
            ids.push(Some(forged.id));
            rows.push(forged);
        }
        rows.push(row.clone());
    }
    for (number, row) in (1..).zip(&mut rows) {
        row.link.as_mut().unwrap().sequence = number;
    }
    let inserted = Log {
        keys: log.keys.clone(),
        rows,
        head: log.head.clone(),
    };
    let verdict = inserted.verdict();
    let (found, end) = verdict.faults.split_at(PLACES);
    assert_eq!(found.iter().map(|fault| fault.id).collect::<Vec<_>>(), ids);
    assert!(found.iter().all(|fault| fault.kind == FaultKind::Inserted));
    // And the log has more rows than it was sealed with.
    assert_eq!(end.len(), 1);
}

fn cut_off(log: &Log, rng: &mut TestRng) {
    let end = sequence(ROWS - 1);
    for place in places(rng) {
        let verdict = log.cut_at(place, Some(&log.head), None);
        let expected = Fault {
            kind: FaultKind::CutOff,
            sequence: sequence(place) + 1,
            last: end,
            id: None,
            at: None,
        };
        assert_eq!(verdict.faults, std::slice::from_ref(&expected));

        // With an earlier head put back, only an anchor outside of the database tells.
        let link = log.rows[place].link.clone().unwrap();
        let mut head = AuditHead {
            sequence: link.sequence,
            chain: link.chain,
            ..log.head.clone()
        };
        log.keys.sign_head(&mut head);
        assert_eq!(log.cut_at(place, Some(&head), None).faults, []);
        let last = log.rows[ROWS - 1].link.clone().unwrap();
        let anchor = Anchor {
            sequence: last.sequence,
            chain: last.chain,
        };
        assert_eq!(log.cut_at(place, Some(&head), Some(anchor)).faults, [expected]);
    }
}

fn expect(verdict: &Verdict, kind: FaultKind, places: &[usize], further: usize) {
    let found: Vec<_> = verdict
        .faults
        .iter()
        .map(|fault| (fault.kind, fault.sequence))
        .collect();
    let expected: Vec<_> = places.iter().map(|place| (kind, sequence(*place))).collect();
    assert_eq!(found[..expected.len()], expected);
    assert_eq!(found.len(), expected.len() + further);
}

/// B14, S12: what was erased leaves a log that holds; what was only taken out does not.
#[test]
fn b14_an_erasure_leaves_a_log_that_holds_and_a_false_one_does_not() {
    let mut log = Log::of(20);
    let erasure = Uuid::from_u128(99);
    let subject = log.rows[7].subject.unwrap();
    let erased = |row: &AuditRow, proof: Vec<u8>| AuditRow {
        reason: String::new(),
        request_id: String::new(),
        erasable: None,
        redaction: Some(Redaction { erasure, proof }),
        ..row.clone()
    };
    log.rows[7] = erased(&log.rows[7], log.keys.redaction(tenant(), subject, erasure));
    let nobody: Vec<usize> = (0..20).filter(|place| log.rows[*place].subject.is_none()).collect();
    let proof = log.keys.redaction_of_entry(tenant(), log.rows[nobody[0]].id, erasure);
    log.rows[nobody[0]] = erased(&log.rows[nobody[0]], proof.clone());
    assert_eq!(log.verdict().faults, []);
    // The proof of one person's erasure fits no row about another, that of a row about nobody no other such row, and none can
    // be made up.
    let stolen = log.rows[7].redaction.clone().unwrap().proof;
    log.rows[9] = erased(&log.rows[9], stolen);
    log.rows[11].erasable = None;
    log.rows[nobody[1]] = erased(&log.rows[nobody[1]], proof);
    let kinds: Vec<_> = log.verdict().faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [FaultKind::FalseRedaction; 3]);
}

/// B14, S12: words about somebody else can go from a row, and nothing else with them.
#[test]
fn b14_s12_words_about_another_person_leave_a_row_whose_rest_still_counts() {
    let mut log = Log::of(20);
    let erasure = Uuid::from_u128(99);
    let without_words = |row: &AuditRow, proof: Vec<u8>| {
        let mut row = row.clone();
        row.reason.clear();
        row.erasable.as_mut().unwrap().salt.clear();
        row.redaction = Some(Redaction { erasure, proof });
        row
    };
    let proof = |log: &Log, place: usize| log.keys.redaction_of_words(&log.rows[place], erasure);
    for place in [2, 3, 4, 6, 7, 8] {
        let words = proof(&log, place).unwrap();
        log.rows[place] = without_words(&log.rows[place], words);
    }
    assert_eq!(log.verdict().faults, []);
    assert!(log.rows[2].details()[0].after.is_some());
    // What is left cannot be changed or taken out, nor put under another erasure; and the proof fits no other row.
    log.rows[3].erasable.as_mut().unwrap().details = "[]".into();
    log.rows[4].request_id.clear();
    log.rows[6].redaction.as_mut().unwrap().erasure = Uuid::from_u128(98);
    log.rows[7].erasable = None;
    log.rows[8].reason = "made up".into();
    let stolen = log.rows[2].redaction.clone().unwrap().proof;
    log.rows[9] = without_words(&log.rows[9], stolen);
    let kinds: Vec<_> = log.verdict().faults.iter().map(|it| (it.kind, it.sequence)).collect();
    let expected: Vec<_> = [3, 4, 6, 7, 8, 9]
        .map(|place| (FaultKind::FalseRedaction, sequence(place)))
        .into();
    assert_eq!(kinds, expected);
}

/// B14: an erasure does not make good what somebody did to a row before.
#[test]
fn b14_s12_a_row_that_was_changed_before_gets_no_proof() {
    let mut log = Log::of(5);
    log.rows[2].erasable.as_mut().unwrap().details = "[]".into();
    assert_eq!(log.keys.redaction_of_words(&log.rows[2], Uuid::nil()), None);
    let mut erased = log.rows[1].clone();
    erased.erasable = None;
    assert_eq!(log.keys.redaction_of_words(&erased, Uuid::nil()), None);
}

#[test]
fn b14_a_chain_goes_on_under_a_new_key_and_is_read_while_the_former_one_is_there() {
    let old = Log::of(5);
    let both = AuditKeys::try_new(key(2), vec![key(1)]).unwrap();
    let mut rows = old.rows.clone();
    let mut next = row(&both, 6);
    let (links, head) = both
        .extend(tenant(), Some(&old.head), &[(next.id, next.code.clone())])
        .unwrap();
    next.link = links.into_iter().next();
    rows.push(next);
    let verdict = |keys: AuditKeys| {
        let log = Log {
            keys,
            rows: rows.clone(),
            head: head.clone(),
        };
        log.verdict().faults
    };
    assert_eq!(verdict(both), []);
    let without = verdict(AuditKeys::try_new(key(2), Vec::new()).unwrap());
    assert!(
        without.iter().all(|fault| fault.kind == FaultKind::UnknownKey),
        "{without:?}"
    );
    assert_eq!(without.len(), 5);
}

#[test]
fn b14_a_head_that_was_changed_is_not_gone_on_with_and_is_found() {
    let log = Log::of(5);
    let head = AuditHead {
        sequence: 4,
        ..log.head.clone()
    };
    assert_eq!(log.keys.extend(tenant(), Some(&head), &[]), Err(FaultKind::HeadChanged));
    let changed = Log { head, ..Log::of(5) };
    assert!(
        changed
            .verdict()
            .faults
            .iter()
            .any(|fault| fault.kind == FaultKind::HeadChanged)
    );
    let without = {
        let mut verifier = Verifier::new(&log.keys, tenant(), None, 9);
        for row in &log.rows {
            verifier.push(row);
        }
        verifier.finish(None)
    };
    assert_eq!(without.faults[0].kind, FaultKind::HeadChanged);
}

#[test]
fn former_keys_are_read_from_one_text() {
    let text = "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= \n 2:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    assert_eq!(AuditKeys::parse_former(text).unwrap().len(), 2);
    assert_eq!(AuditKeys::parse_former("").unwrap().len(), 0);
    for text in ["1", "x:MDEy", "1:short", "1:MDEy"] {
        assert!(AuditKeys::parse_former(text).is_err(), "{text}");
    }
    assert!(AuditKeys::try_new(key(1), vec![key(1)]).is_err());
}

proptest! {
    /// B14: whatever is done to a short log in one place, it is found.
    #[test]
    fn b14_no_single_changed_octet_passes(place in 0..30_usize, seed: [u8; 32]) {
        let mut log = Log::of(30);
        let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        change_an_octet(&mut log.rows[place], &mut rng);
        let verdict = log.verdict();
        prop_assert!(!verdict.faults.is_empty());
        prop_assert_eq!(verdict.faults[0].sequence, sequence(place));
    }
}
