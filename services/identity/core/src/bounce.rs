//! What comes back after a mail server took a mail: bounces and complaints (L13).

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::change::Act;
use crate::clock::Timestamp;
use crate::delivery::{Attempt, Delivery, Outcome, Phase};
use crate::ids::{ClaimId, DeliveryId};

/// Days in which a report that names only an address is taken to be about the newest mail to it.
pub const ADDRESS_DAYS: i64 = 30;

/// What came back, from the least to the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BounceKind {
    /// It did not arrive, or not yet, for a reason that says nothing of the address.
    Soft,
    /// The address is dead.
    Hard,
    /// Its owner called the mail unwanted.
    Complaint,
}

impl BounceKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Soft, Self::Hard, Self::Complaint];

    /// As in columns: `HARD`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "SOFT",
            Self::Hard => "HARD",
            Self::Complaint => "COMPLAINT",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// As it stands among the tries of a mail.
    fn outcome(self) -> Outcome {
        match self {
            Self::Soft => Outcome::SoftBounced,
            Self::Hard => Outcome::Bounced,
            Self::Complaint => Outcome::Complained,
        }
    }
}

/// A bounce or a complaint, as it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounce {
    /// What came back.
    pub kind: BounceKind,
    /// The enhanced status code (RFC 3463); may be empty.
    pub status: String,
    /// The server's words, on one line, at most 500 characters; may be empty.
    pub diagnostic: String,
    /// When it was reported; `None`: now.
    pub at: Option<Timestamp>,
}

impl Bounce {
    /// The words that are kept: of the suppression, and among the tries of the mail.
    pub fn words(&self) -> String {
        let said = [self.status.as_str(), self.diagnostic.as_str()];
        // Servers repeat the code in their words.
        let said = if self.diagnostic.contains(&self.status) {
            &said[1..]
        } else {
            &said[..]
        };
        let said = said.iter().filter(|text| !text.is_empty()).copied();
        let said = said.collect::<Vec<_>>().join(" ");
        match (self.kind, said.is_empty()) {
            (BounceKind::Complaint, true) => "complaint".into(),
            (BounceKind::Complaint, false) => format!("complaint: {said}"),
            (_, true) => "bounced".into(),
            (_, false) => said,
        }
    }

    /// The span in which the mail must have ended that a report without its id is about. Clocks of mail servers may be an
    /// hour behind.
    pub fn span(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let until = self.at.map_or(now, |at| (at + TimeDelta::hours(1)).min(now));
        (now - TimeDelta::days(ADDRESS_DAYS), until)
    }

    /// The entry among the tries of the mail (L16). The same report gives the same entry.
    pub(crate) fn entry(&self, delivery: &Delivery, act: &Act) -> Attempt {
        let digest = Sha256::new()
            .chain_update(delivery.id.0.as_bytes())
            .chain_update(self.kind.as_str())
            .chain_update(self.words())
            .finalize();
        let mut id = [0_u8; 16];
        id.copy_from_slice(&digest[..16]);
        let at = self
            .at
            .filter(|at| (delivery.created_at..=act.now).contains(at))
            .unwrap_or(act.now);
        Attempt {
            tenant: delivery.tenant,
            delivery: delivery.id,
            claim: ClaimId(uuid::Builder::from_custom_bytes(id).into_uuid()),
            worker: act.actor.clone(),
            started_at: at,
            ended_at: Some(at),
            outcome: Some(self.kind.outcome()),
            response: self.words(),
            smtp_code: 0,
            phase: Phase::Unknown,
        }
    }
}

/// The delivery that a Message-ID belongs to, if it is one of Usher's: see [`Delivery::message_id`]. The domain is passed
/// over, since an installation may have had another before; the id by itself cannot be guessed.
pub fn delivery_of(message_id: &str) -> Option<DeliveryId> {
    let id = message_id.trim().trim_start_matches('<').trim_end_matches('>');
    let (id, _domain) = id.split_once('@')?;
    (id.len() == 32).then(|| id.parse().ok())?
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn bounce(kind: BounceKind, status: &str, diagnostic: &str) -> Bounce {
        Bounce {
            kind,
            status: status.into(),
            diagnostic: diagnostic.into(),
            at: None,
        }
    }

    #[test]
    fn l13_the_words_that_are_kept_name_the_code_once() {
        for (kind, status, diagnostic, words) in [
            (BounceKind::Hard, "5.1.1", "550 5.1.1 nobody", "550 5.1.1 nobody"),
            (BounceKind::Hard, "5.1.1", "nobody", "5.1.1 nobody"),
            (BounceKind::Soft, "", "full", "full"),
            (BounceKind::Hard, "", "", "bounced"),
            (BounceKind::Complaint, "", "", "complaint"),
            (BounceKind::Complaint, "", "abuse", "complaint: abuse"),
        ] {
            assert_eq!(bounce(kind, status, diagnostic).words(), words);
        }
        for kind in BounceKind::ALL {
            assert_eq!(BounceKind::from_name(kind.as_str()), Some(kind));
        }
    }

    #[test]
    fn l13_only_a_message_id_of_ours_names_a_delivery() {
        let id = DeliveryId(Uuid::from_u128(7));
        let ours = format!("<{}@usher.example>", id.0.simple());
        assert_eq!(delivery_of(&ours), Some(id));
        for foreign in ["", "a@b", "<x@y>", &id.to_string(), &format!("{id}@usher.example")] {
            assert_eq!(delivery_of(foreign), None, "{foreign}");
        }
    }
}
