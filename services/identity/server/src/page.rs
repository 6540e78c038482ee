//! Page tokens: where the last page ended, sealed together with what was asked, so that a forged token, one of another
//! tenant or one of another question is refused instead of giving wrong rows.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use usher_core::ports::After;
use usher_core::token::LinkKeys;
use uuid::Uuid;

use crate::parse::Faults;

const PURPOSE: &str = "page";
const SEAL: usize = 16;

/// What a list was asked: the method, the tenant, the filter and the order.
pub(crate) struct Question<'a> {
    keys: &'a LinkKeys,
    asked: Vec<u8>,
}

impl<'a> Question<'a> {
    /// Of a request whose page size and token were cleared.
    pub(crate) fn new(keys: &'a LinkKeys, method: &str, request: &impl prost::Message) -> Self {
        let mut asked = method.as_bytes().to_vec();
        asked.push(0);
        asked.extend(request.encode_to_vec());
        Self { keys, asked }
    }

    /// The token of the page after these rows; empty if fewer came than were asked for.
    pub(crate) fn next<T>(&self, rows: &[T], limit: u32, after: impl Fn(&T) -> After) -> String {
        let full = u32::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let Some(last) = rows.last().filter(|_| full) else {
            return String::new();
        };
        self.token(&after(last))
    }

    /// The token of the page after a place.
    pub(crate) fn token(&self, after: &After) -> String {
        let mut body = after.id.as_bytes().to_vec();
        body.extend_from_slice(after.key.as_bytes());
        let mut token = self.keys.seal(PURPOSE, &self.sealed(&body)).to_vec();
        token.extend(body);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Where a token says to go on.
    pub(crate) fn after(&self, token: &str, faults: &mut Faults) -> Option<After> {
        if token.is_empty() {
            return None;
        }
        let after = self.open(token);
        if after.is_none() {
            faults.add(
                "page_token",
                "was not given for this tenant, filter and order; begin again without one",
            );
        }
        after
    }

    fn open(&self, token: &str) -> Option<After> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (seal, body) = bytes.split_at_checked(SEAL)?;
        if !self.keys.is_sealed(PURPOSE, &self.sealed(body), seal) {
            return None;
        }
        let (id, key) = body.split_at_checked(16)?;
        Some(After {
            id: Uuid::from_slice(id).ok()?,
            key: String::from_utf8(key.to_vec()).ok()?,
        })
    }

    fn sealed(&self, body: &[u8]) -> Vec<u8> {
        let mut sealed = (self.asked.len() as u64).to_be_bytes().to_vec();
        sealed.extend_from_slice(&self.asked);
        sealed.extend_from_slice(body);
        sealed
    }
}

/// The sort key of an instant, as the store compares it.
pub(crate) fn instant_key(at: usher_core::clock::Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
