//! What the log is sealed with.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{AuditEntry, AuditHead, AuditRow, Erasable, FaultKind, Link};
use crate::ids::{AuditId, TenantId, UserId};

/// Octets that a key must have at least.
pub const MIN_KEY: usize = 32;
/// Octets of a code: the number of its key, and the HMAC.
const CODE: usize = 1 + 32;

/// A key and its number, which stands in every code.
#[derive(Clone)]
pub struct AuditKey {
    id: u8,
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditKey {}", self.id)
    }
}

impl AuditKey {
    /// A key of at least 32 octets.
    pub fn try_new(id: u8, secret: &[u8]) -> Result<Self, String> {
        if secret.len() < MIN_KEY {
            let length = secret.len();
            return Err(format!("key {id} has {length} octets; at least {MIN_KEY} are needed"));
        }
        let mac = <Hmac<Sha256>>::new_from_slice(secret).map_err(|error| error.to_string())?;
        Ok(Self { id, mac })
    }

    /// HMAC-SHA-256 over parts, each preceded by its length, so that no two lists of parts give the same octets.
    fn code(&self, purpose: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = self.mac.clone();
        for part in std::iter::once(&purpose).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mut code = Vec::with_capacity(CODE);
        code.push(self.id);
        code.extend_from_slice(&mac.finalize().into_bytes());
        code
    }
}

/// The keys: the first seals, all verify. Former ones are needed for as long as rows are kept that they sealed.
#[derive(Debug, Clone)]
pub struct AuditKeys {
    signing: AuditKey,
    former: Vec<AuditKey>,
}

/// Whether a code is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Right,
    Wrong,
    /// It was made with a key that is not there.
    UnknownKey,
}

impl AuditKeys {
    /// Keys with different numbers.
    pub fn try_new(signing: AuditKey, former: Vec<AuditKey>) -> Result<Self, String> {
        let mut ids: Vec<u8> = former.iter().map(|key| key.id).chain([signing.id]).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two keys have the same number; give the new one another".into());
        }
        Ok(Self { signing, former })
    }

    /// Former keys from one text: `NUMBER:BASE64`, separated by blanks or line breaks.
    pub fn parse_former(text: &str) -> Result<Vec<AuditKey>, String> {
        let key = |part: &str| {
            let shape = || "must be NUMBER:BASE64, separated by blanks".to_owned();
            let (id, secret) = part.split_once(':').ok_or_else(shape)?;
            let id = id.parse().map_err(|_| shape())?;
            let decoded = base64::engine::general_purpose::STANDARD.decode(secret);
            AuditKey::try_new(id, &decoded.map_err(|_| shape())?)
        };
        text.split_whitespace().map(key).collect()
    }

    /// The row of an entry.
    pub fn sign(&self, entry: AuditEntry) -> AuditRow {
        let details = serde_json::to_string(&entry.details).unwrap_or_else(|_| "[]".into());
        // 122 of its bits are random.
        let salt = Uuid::new_v4().as_bytes().to_vec();
        let mut row = AuditRow {
            tenant: entry.tenant,
            id: AuditId::mint(entry.at),
            at: entry.at,
            actor: entry.actor,
            caller: entry.caller,
            method: entry.method,
            permission: entry.permission,
            outcome: entry.outcome,
            subject: entry.subject,
            job: entry.job,
            digest: digest(&salt, [&entry.reason, &entry.request_id, &details]),
            reason: entry.reason,
            request_id: entry.request_id,
            erasable: Some(Erasable { details, salt }),
            code: Vec::new(),
            redaction: None,
            link: None,
        };
        row.code = row_code(&self.signing, &row);
        row
    }

    /// What is wrong within a row, whatever its place.
    pub(super) fn examine(&self, row: &AuditRow) -> Option<FaultKind> {
        match self.check(&row.code, |key| row_code(key, row)) {
            Check::Right => {}
            Check::Wrong => return Some(FaultKind::Changed),
            Check::UnknownKey => return Some(FaultKind::UnknownKey),
        }
        match (&row.erasable, &row.redaction) {
            (Some(kept), None) => {
                let expected = digest(&kept.salt, [&row.reason, &row.request_id, &kept.details]);
                (expected != row.digest).then_some(FaultKind::DetailsChanged)
            }
            (None, Some(redaction)) => {
                let is_blank = row.reason.is_empty() && row.request_id.is_empty();
                let of = row.subject.map_or(row.id.0, |user| user.0);
                let proof = |key: &AuditKey| redaction_code(key, row.tenant, of, redaction.erasure);
                match self.check(&redaction.proof, proof) {
                    Check::Right if is_blank => None,
                    Check::UnknownKey => Some(FaultKind::UnknownKey),
                    Check::Right | Check::Wrong => Some(FaultKind::FalseRedaction),
                }
            }
            (Some(kept), Some(redaction)) => {
                let is_blank = row.reason.is_empty() && kept.salt.is_empty();
                let proof = |key: &AuditKey| words_code(key, row, &kept.details, redaction.erasure);
                match self.check(&redaction.proof, proof) {
                    Check::Right if is_blank => None,
                    Check::UnknownKey => Some(FaultKind::UnknownKey),
                    Check::Right | Check::Wrong => Some(FaultKind::FalseRedaction),
                }
            }
            (None, None) => Some(FaultKind::FalseRedaction),
        }
    }

    /// What shows that it was Usher who erased a person's data from their rows: nobody without a key can make it, and it
    /// fits no row about anybody else.
    pub fn redaction(&self, tenant: TenantId, user: UserId, erasure: Uuid) -> Vec<u8> {
        redaction_code(&self.signing, tenant, user.0, erasure)
    }

    /// The same for one row that is about nobody in particular: it fits no other.
    pub fn redaction_of_entry(&self, tenant: TenantId, entry: AuditId, erasure: Uuid) -> Vec<u8> {
        redaction_code(&self.signing, tenant, entry.0, erasure)
    }

    /// What shows that it was Usher who erased the words about a person from a row about somebody else, and that the rest of it is
    /// as it was: request id and details go on counting, without their salt. `None` where they are not as Usher wrote them: what
    /// somebody did to a row is not made good by an erasure.
    pub fn redaction_of_words(&self, row: &AuditRow, erasure: Uuid) -> Option<Vec<u8>> {
        let kept = row.erasable.as_ref()?;
        let written = digest(&kept.salt, [&row.reason, &row.request_id, &kept.details]);
        (written == row.digest).then(|| words_code(&self.signing, row, &kept.details, erasure))
    }

    /// A keyed digest, for what must be told apart but not told.
    pub fn pseudonym(&self, tenant: TenantId, text: &str) -> String {
        let code = self.signing.code(b"pseudonym", &[tenant.0.as_bytes(), text.as_bytes()]);
        hex(&code[1..17])
    }

    /// Seals rows: gives each its link, in the order given, and answers the new head. Refused where the head is not one
    /// that these keys made: a chain that was tampered with is not gone on with.
    pub fn extend(
        &self,
        tenant: TenantId,
        head: Option<&AuditHead>,
        rows: &[(AuditId, Vec<u8>)],
    ) -> Result<(Vec<Link>, AuditHead), FaultKind> {
        let fresh = || AuditHead {
            tenant,
            sequence: 0,
            chain: Vec::new(),
            kept_after: 0,
            kept_chain: Vec::new(),
            code: Vec::new(),
        };
        if let Some(head) = head {
            self.examine_head(head).map_or(Ok(()), Err)?;
        }
        let mut head = head.cloned().unwrap_or_else(fresh);
        let mut links = Vec::with_capacity(rows.len());
        for (id, code) in rows {
            head.chain = link(&self.signing, tenant, &head.chain, *id, code);
            head.sequence += 1;
            links.push(Link {
                sequence: head.sequence,
                chain: head.chain.clone(),
            });
        }
        self.sign_head(&mut head);
        Ok((links, head))
    }

    /// Puts the code on a head.
    pub fn sign_head(&self, head: &mut AuditHead) {
        head.code = head_code(&self.signing, head);
    }

    /// What is wrong with a head.
    pub fn examine_head(&self, head: &AuditHead) -> Option<FaultKind> {
        match self.check(&head.code, |key| head_code(key, head)) {
            Check::Right => None,
            Check::Wrong => Some(FaultKind::HeadChanged),
            Check::UnknownKey => Some(FaultKind::UnknownKey),
        }
    }

    /// Whether a row's link is the one that follows on another.
    pub(super) fn follows(&self, row: &AuditRow, before: &[u8], chain: &[u8]) -> bool {
        let expected = |key: &AuditKey| link(key, row.tenant, before, row.id, &row.code);
        self.check(chain, expected) == Check::Right
    }

    /// What a row's link would be after another, if it was made with the key of the link that it has.
    pub(super) fn link_after(&self, row: &AuditRow, before: &[u8], like: &[u8]) -> Vec<u8> {
        let key = like.first().and_then(|id| self.key(*id)).unwrap_or(&self.signing);
        link(key, row.tenant, before, row.id, &row.code)
    }

    fn check(&self, given: &[u8], expected: impl FnOnce(&AuditKey) -> Vec<u8>) -> Check {
        let Some(id) = given.first() else {
            return Check::Wrong;
        };
        let Some(key) = self.key(*id) else {
            return Check::UnknownKey;
        };
        if bool::from(expected(key).ct_eq(given)) {
            Check::Right
        } else {
            Check::Wrong
        }
    }

    fn key(&self, id: u8) -> Option<&AuditKey> {
        std::iter::once(&self.signing)
            .chain(&self.former)
            .find(|key| key.id == id)
    }
}

/// SHA-256 over the salt and what can be erased.
fn digest(salt: &[u8], texts: [&str; 3]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    for part in std::iter::once(salt).chain(texts.map(str::as_bytes)) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_vec()
}

fn row_code(key: &AuditKey, row: &AuditRow) -> Vec<u8> {
    let mut at = row.at.timestamp().to_be_bytes().to_vec();
    at.extend(row.at.timestamp_subsec_nanos().to_be_bytes());
    let optional = |id: Option<Uuid>| id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    key.code(
        b"row",
        &[
            row.tenant.0.as_bytes(),
            row.id.0.as_bytes(),
            &at,
            row.actor.as_bytes(),
            row.caller.as_bytes(),
            row.method.as_bytes(),
            row.permission.as_bytes(),
            row.outcome.as_bytes(),
            &optional(row.subject.map(|user| user.0)),
            &optional(row.job.map(|job| job.0)),
            &row.digest,
        ],
    )
}

fn link(key: &AuditKey, tenant: TenantId, before: &[u8], id: AuditId, code: &[u8]) -> Vec<u8> {
    key.code(b"link", &[tenant.0.as_bytes(), before, id.0.as_bytes(), code])
}

/// `of`: the user whom the row is about; the row, if it is about nobody.
fn redaction_code(key: &AuditKey, tenant: TenantId, of: Uuid, erasure: Uuid) -> Vec<u8> {
    key.code(b"redaction", &[tenant.0.as_bytes(), of.as_bytes(), erasure.as_bytes()])
}

/// The digest ties it to what the row's own code covers.
fn words_code(key: &AuditKey, row: &AuditRow, details: &str, erasure: Uuid) -> Vec<u8> {
    key.code(
        b"words",
        &[
            row.tenant.0.as_bytes(),
            row.id.0.as_bytes(),
            &row.digest,
            erasure.as_bytes(),
            row.request_id.as_bytes(),
            details.as_bytes(),
        ],
    )
}

fn head_code(key: &AuditKey, head: &AuditHead) -> Vec<u8> {
    key.code(
        b"head",
        &[
            head.tenant.0.as_bytes(),
            &head.sequence.to_be_bytes(),
            &head.chain,
            &head.kept_after.to_be_bytes(),
            &head.kept_chain,
        ],
    )
}

/// Octets in lower-case hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
