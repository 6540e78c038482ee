//! What the policies of this crate say, and what becomes of others.

mod common;
mod roles;
