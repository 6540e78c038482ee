//! End to end: what users, administrators and operators see, through the real processes, databases and mail servers.

mod access;
mod bad_input;
mod bulk;
mod command_line;
mod config;
mod creating;
mod embedded;
mod erasures;
mod events;
mod explain;
mod groups;
mod invitations;
mod listing;
mod mails;
mod mutations;
mod permissions;
mod plain_text;
mod school_year;
mod seats;
mod stage;
mod statuses;
mod surface;
mod trace;
mod transfer;
