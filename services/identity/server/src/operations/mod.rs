//! What callers ask for, between the wire and the rules: gathered writes, gathered reads, access from memory, passwords.

pub mod access;
pub(crate) mod bulk;
pub(crate) mod digest;
pub mod engine;
pub(crate) mod erasure;
pub mod gather;
pub(crate) mod import;
pub mod passwords;
pub(crate) mod templates;
pub mod world;
