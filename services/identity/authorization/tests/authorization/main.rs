//! What the policies of this crate say, and what becomes of others.

mod common;
mod files;
mod laws;
mod limits;
mod matrix;
mod methods;
mod refusals;
mod roles;
