//! What links and one-time passwords are made of. Both are derived from a key of the configuration, so that nothing
//! secret rests in the database or travels through the broker.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::ids::{InvitationId, TenantId, UserId};

/// Octets that a key must have at least.
pub const MIN_KEY: usize = 32;

/// A key and its number, which stands in every token.
#[derive(Clone)]
pub struct LinkKey {
    /// Tells the keys apart during rotation.
    pub id: u8,
    /// At least 32 octets.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkKey {}", self.id)
    }
}

/// The keys: the first signs, all verify. Two live during rotation.
#[derive(Debug, Clone)]
pub struct LinkKeys {
    signing: LinkKey,
    former: Option<LinkKey>,
}

/// What a link's token says, once its signature was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvitationToken {
    /// Which invitation.
    pub invitation: InvitationId,
    /// Which generation of it.
    pub generation: i32,
}

const TAG: usize = 24;
const BODY: usize = 1 + 16 + 4;

impl LinkKeys {
    /// Keys with at least 32 octets each, with different ids.
    pub fn try_new(signing: LinkKey, former: Option<LinkKey>) -> Result<Self, String> {
        for key in std::iter::once(&signing).chain(former.as_ref()) {
            if key.secret.len() < MIN_KEY {
                return Err(format!(
                    "key {} has {} octets; at least {MIN_KEY} are needed",
                    key.id,
                    key.secret.len()
                ));
            }
        }
        if former.as_ref().is_some_and(|key| key.id == signing.id) {
            return Err("the two keys have the same id; give the new one another".into());
        }
        Ok(Self { signing, former })
    }

    /// The token of an invitation's link.
    pub fn sign(&self, tenant: TenantId, token: InvitationToken) -> String {
        let mut bytes = Vec::with_capacity(BODY + TAG);
        bytes.push(self.signing.id);
        bytes.extend_from_slice(token.invitation.0.as_bytes());
        bytes.extend_from_slice(&token.generation.to_be_bytes());
        let tag = tag(&self.signing, &[b"invitation", tenant.0.as_bytes(), &bytes]);
        bytes.extend_from_slice(&tag[..TAG]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token says; `None` if it is forged, damaged or of another tenant.
    pub fn verify(&self, tenant: TenantId, text: &str) -> Option<InvitationToken> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok()?;
        if bytes.len() != BODY + TAG {
            return None;
        }
        let (body, given) = bytes.split_at(BODY);
        let key = self.key(body[0])?;
        let expected = tag(key, &[b"invitation", tenant.0.as_bytes(), body]);
        if !bool::from(expected[..TAG].ct_eq(given)) {
            return None;
        }
        Some(InvitationToken {
            invitation: InvitationId(Uuid::from_slice(&body[1..17]).ok()?),
            generation: i32::from_be_bytes(body[17..21].try_into().ok()?),
        })
    }

    /// The one-time password of an account (L2): 20 characters without those that are easily confused, 100 bits.
    pub fn one_time_password(&self, tenant: TenantId, user: UserId, generation: i32) -> String {
        one_time_password(&self.signing, tenant, user, generation)
    }

    /// Whether a password is the account's one-time password, under any of the keys. Takes the same time either way.
    pub fn is_one_time_password(&self, tenant: TenantId, user: UserId, generation: i32, password: &str) -> bool {
        std::iter::once(&self.signing)
            .chain(self.former.as_ref())
            .fold(false, |found, key| {
                let expected = one_time_password(key, tenant, user, generation);
                found | bool::from(expected.as_bytes().ct_eq(password.trim().as_bytes()))
            })
    }

    /// A signature over parts, for page tokens and cursors.
    pub fn seal(&self, purpose: &str, body: &[u8]) -> [u8; 16] {
        let mut seal = [0; 16];
        seal.copy_from_slice(&tag(&self.signing, &[purpose.as_bytes(), body])[..16]);
        seal
    }

    /// Whether a seal was made by one of the keys.
    pub fn is_sealed(&self, purpose: &str, body: &[u8], seal: &[u8]) -> bool {
        std::iter::once(&self.signing)
            .chain(self.former.as_ref())
            .any(|key| bool::from(tag(key, &[purpose.as_bytes(), body])[..16].ct_eq(seal)))
    }

    /// A digest that is kept for good: the number of the key, then HMAC-SHA-256. Under a key that was taken out of use it
    /// is of no meaning any more.
    pub fn digest(&self, purpose: &str, body: &[u8]) -> Vec<u8> {
        digest(&self.signing, purpose, body)
    }

    /// The same under each of the keys: what a body is found by.
    pub fn digests(&self, purpose: &str, body: &[u8]) -> Vec<Vec<u8>> {
        std::iter::once(&self.signing)
            .chain(self.former.as_ref())
            .map(|key| digest(key, purpose, body))
            .collect()
    }

    fn key(&self, id: u8) -> Option<&LinkKey> {
        std::iter::once(&self.signing)
            .chain(self.former.as_ref())
            .find(|key| key.id == id)
    }
}

fn digest(key: &LinkKey, purpose: &str, body: &[u8]) -> Vec<u8> {
    let mut digest = vec![key.id];
    digest.extend(tag(key, &[purpose.as_bytes(), body]));
    digest
}

fn one_time_password(key: &LinkKey, tenant: TenantId, user: UserId, generation: i32) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let tag = tag(
        key,
        &[
            b"one-time",
            tenant.0.as_bytes(),
            user.0.as_bytes(),
            &generation.to_be_bytes(),
        ],
    );
    let mut password = String::with_capacity(23);
    for (index, byte) in tag.iter().take(20).enumerate() {
        if index > 0 && index % 5 == 0 {
            password.push('-');
        }
        password.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    password
}

/// HMAC-SHA-256 over parts, each preceded by its length, so that no two lists of parts give the same octets.
fn tag(key: &LinkKey, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256>>::new_from_slice(&key.secret).expect("HMAC takes a key of any length (RFC 2104)");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(id: u8) -> LinkKey {
        LinkKey {
            id,
            secret: vec![id; 32],
        }
    }

    proptest! {
        #[test]
        fn a_token_says_what_was_signed_and_any_changed_octet_kills_it(
            tenant: u128, invitation: u128, generation in 1..1000_i32, at in 0..45_usize, flip in 1..=255_u8,
        ) {
            let tenant = TenantId(Uuid::from_u128(tenant));
            let token = InvitationToken { invitation: InvitationId(Uuid::from_u128(invitation)), generation };
            let keys = LinkKeys::try_new(key(1), None).unwrap();
            let text = keys.sign(tenant, token);
            prop_assert_eq!(keys.verify(tenant, &text), Some(token));
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            bytes[at] ^= flip;
            prop_assert_eq!(keys.verify(tenant, &URL_SAFE_NO_PAD.encode(bytes)), None);
        }

        #[test]
        fn no_text_makes_verification_panic(text in "\\PC{0,100}") {
            let keys = LinkKeys::try_new(key(1), None).unwrap();
            prop_assert_eq!(keys.verify(TenantId(Uuid::nil()), &text), None);
        }
    }

    #[test]
    fn a_token_of_the_former_key_lives_through_rotation_and_dies_with_it() {
        let tenant = TenantId(Uuid::from_u128(7));
        let token = InvitationToken {
            invitation: InvitationId(Uuid::from_u128(8)),
            generation: 1,
        };
        let old = LinkKeys::try_new(key(1), None).unwrap().sign(tenant, token);
        let rotating = LinkKeys::try_new(key(2), Some(key(1))).unwrap();
        assert_eq!(rotating.verify(tenant, &old), Some(token));
        assert_eq!(rotating.verify(TenantId(Uuid::nil()), &old), None);
        let after = LinkKeys::try_new(key(2), None).unwrap();
        assert_eq!(after.verify(tenant, &old), None);
    }

    #[test]
    fn short_keys_and_equal_ids_are_refused() {
        assert!(
            LinkKeys::try_new(
                LinkKey {
                    id: 1,
                    secret: vec![0; 31]
                },
                None
            )
            .is_err()
        );
        assert!(LinkKeys::try_new(key(1), Some(key(1))).is_err());
    }

    #[test]
    fn a_one_time_password_is_its_own_account_and_generation_only() {
        let keys = LinkKeys::try_new(key(1), None).unwrap();
        let (tenant, user) = (TenantId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let password = keys.one_time_password(tenant, user, 1);
        assert!(keys.is_one_time_password(tenant, user, 1, &password));
        assert!(!keys.is_one_time_password(tenant, user, 2, &password));
        assert!(!keys.is_one_time_password(tenant, UserId(Uuid::nil()), 1, &password));
    }
}
