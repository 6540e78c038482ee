//! End to end: what users, administrators and operators see, through the real processes, databases and mail servers.

mod access;
mod activity;
mod audit;
mod bad_input;
mod bounces;
mod bulk;
mod command_line;
mod config;
mod creating;
mod embedded;
mod erasures;
mod events;
mod expiring;
mod explain;
mod groups;
mod imports;
mod inactivity;
mod invitations;
mod listing;
mod mails;
mod mutations;
mod pacing;
mod permissions;
mod plain_text;
mod school_year;
mod seats;
mod selections;
mod stage;
mod statuses;
mod surface;
mod templates;
mod trace;
mod transfer;
mod year;

/// That of the programs: some services run in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
