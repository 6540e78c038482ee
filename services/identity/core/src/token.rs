//! What links and one-time passwords are made of. Both are derived from a key of the configuration, so that nothing
//! secret rests in the database or travels through the broker.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
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

impl LinkKey {
    fn check(&self) -> Result<(), String> {
        let (id, length) = (self.id, self.secret.len());
        if length < MIN_KEY {
            return Err(format!("key {id} has {length} octets; at least {MIN_KEY} are needed"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkKey {}", self.id)
    }
}

/// The keys: the first signs, it and the former one verify. Two live during rotation. Of those before, which open nothing any more,
/// the digests are known that were kept for good.
#[derive(Debug, Clone)]
pub struct LinkKeys {
    signing: LinkKey,
    former: Option<LinkKey>,
    retired: Vec<LinkKey>,
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
            key.check()?;
        }
        if former.as_ref().is_some_and(|key| key.id == signing.id) {
            return Err("the two keys have the same id; give the new one another".into());
        }
        let retired = Vec::new();
        Ok(Self {
            signing,
            former,
            retired,
        })
    }

    /// With the keys before these two: for digests only.
    pub fn with_retired(mut self, retired: Vec<LinkKey>) -> Result<Self, String> {
        for key in retired {
            key.check()?;
            if self.all().any(|known| known.id == key.id) {
                return Err(format!("two keys have the number {}; each has one of its own", key.id));
            }
            self.retired.push(key);
        }
        Ok(self)
    }

    /// Retired keys from one text: `NUMBER:BASE64`, separated by blanks or line breaks.
    pub fn parse_retired(text: &str) -> Result<Vec<LinkKey>, String> {
        let key = |part: &str| {
            let (id, secret) = part.split_once(':')?;
            Some(LinkKey {
                id: id.parse().ok()?,
                secret: STANDARD.decode(secret).ok()?,
            })
        };
        let keys: Option<Vec<LinkKey>> = text.split_whitespace().map(key).collect();
        keys.ok_or_else(|| "must be NUMBER:BASE64, separated by blanks".to_owned())
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

    /// A digest that is kept for good: the number of the key, then HMAC-SHA-256. Under a key that is not there any more, nor among
    /// the retired ones, it is of no meaning.
    pub fn digest(&self, purpose: &str, body: &[u8]) -> Vec<u8> {
        digest(&self.signing, purpose, body)
    }

    /// The same under each of the keys: what a body is found by.
    pub fn digests(&self, purpose: &str, body: &[u8]) -> Vec<Vec<u8>> {
        self.all().map(|key| digest(key, purpose, body)).collect()
    }

    fn all(&self) -> impl Iterator<Item = &LinkKey> {
        std::iter::once(&self.signing)
            .chain(self.former.as_ref())
            .chain(&self.retired)
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

    /// S12, U9: whoever comes back is known, and a certificate holds, however often the key was changed since; links do not.
    #[test]
    fn a_digest_is_known_as_long_as_its_key_is_kept_as_a_retired_one_which_opens_nothing() {
        let tenant = TenantId(Uuid::from_u128(7));
        let token = InvitationToken {
            invitation: InvitationId(Uuid::from_u128(8)),
            generation: 1,
        };
        let first = LinkKeys::try_new(key(1), None).unwrap();
        let (link, kept) = (first.sign(tenant, token), first.digest("address", b"ana@example.org"));
        let password = first.one_time_password(tenant, UserId(Uuid::nil()), 1);
        let third = LinkKeys::try_new(key(3), Some(key(2))).unwrap();
        let knows = |keys: &LinkKeys| keys.digests("address", b"ana@example.org").contains(&kept);
        assert!(!knows(&third));
        let text = format!("1:{} \n", STANDARD.encode([1; 32]));
        let retired = LinkKeys::parse_retired(&text).unwrap();
        let third = third.with_retired(retired).unwrap();
        assert!(knows(&third));
        assert_eq!(third.verify(tenant, &link), None);
        assert!(!third.is_one_time_password(tenant, UserId(Uuid::nil()), 1, &password));
    }

    #[test]
    fn retired_keys_are_read_from_one_text_and_have_numbers_of_their_own() {
        let keys = || LinkKeys::try_new(key(3), Some(key(2))).unwrap();
        assert_eq!(LinkKeys::parse_retired("").unwrap().len(), 0);
        for text in ["1", "x:MDEy", "256:MDEy", "1:?"] {
            assert!(LinkKeys::parse_retired(text).is_err(), "{text}");
        }
        for wrong in [vec![key(2)], vec![key(3)], vec![key(1), key(1)]] {
            assert!(keys().with_retired(wrong).is_err());
        }
        let short = LinkKey {
            id: 1,
            secret: vec![0; 31],
        };
        assert!(keys().with_retired(vec![short]).is_err());
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
