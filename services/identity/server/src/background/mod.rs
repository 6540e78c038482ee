//! What every replica does beside answering calls: publish what happened, fire what is due, count what waits.

pub mod event_log;
pub mod housekeeping;
mod inactivity;
pub(crate) mod jobs;
pub mod relay;
pub mod sweep;
