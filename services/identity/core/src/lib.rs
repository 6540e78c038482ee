//! What Usher means: the rules, without a database, a broker or a wire.
//!
//! Read [`account`] first: the status machine, invitations and mails. Everything that a command decides is collected in a
//! [`change::Changeset`], which a store ([`ports`]) writes in one transaction: rows, timers and events together.

pub mod account;
pub mod administrators;
pub mod audit;
pub mod bounce;
pub mod change;
pub mod clock;
pub mod delivery;
pub mod email;
pub mod erasure;
pub mod event;
pub mod group;
pub mod ids;
pub mod inactivity;
pub mod invitation;
pub mod job;
pub mod pacing;
pub mod ports;
pub mod refusal;
pub mod role;
pub mod seats;
pub mod status;
pub mod template;
pub mod tenant;
pub mod text;
pub mod timer;
pub mod token;
pub mod user;
