//! What happens when parts of the system die: nothing is lost, nothing is sent twice, and what was begun goes on.
//!
//! All tests share one PostgreSQL and one broker, which they kill and start again, so they take turns.

mod broker_away;
mod database_away;
mod draining;
mod erasures;
mod hanging_up;
mod jobs;
mod mail_server_away;
mod million;
mod observer;
mod servers;
mod storm;
