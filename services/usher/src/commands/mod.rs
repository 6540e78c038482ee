//! The commands, a file each. To add one: a file with its arguments and a `run`, a variant of [`Command`], a line in
//! [`run`]; `healthcheck.rs` is the smallest.

mod accept;
mod access;
mod activity;
mod audit;
mod bounces;
mod bulk;
mod clock;
mod config;
mod deliveries;
mod erasures;
mod events;
mod explain;
pub(crate) mod export;
mod filter;
mod groups;
mod healthcheck;
mod import;
mod inactivity;
mod invitations;
mod invite;
mod jobs;
mod migrate;
mod roles;
mod seats;
mod suppressions;
mod templates;
mod tenants;
pub(crate) mod upload;
mod users;
pub(crate) mod watch;

use std::future::Future;

use clap::{Args, Subcommand};
use usher_proto::identity::v1::MutationOptions;

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{self, Output, Show};
use crate::up::Up;

pub(crate) use self::explain::transition;
pub(crate) use self::users::status;

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    /// Whom it asks.
    pub(crate) client: Client,
    /// Where it prints to.
    pub(crate) out: Output,
}

/// What `usher` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Up),
    /// Create, show and change tenants: organisations, each with users and settings of its own.
    #[command(subcommand)]
    Tenants(tenants::Tenants),
    /// List, show, create and change users; let them in and show them out.
    #[command(subcommand)]
    Users(users::Users),
    /// Invite addresses: a mail with a link goes to each, and accounts are made where there are none.
    Invite(invite::Invite),
    /// List, cancel and resend invitations.
    #[command(subcommand)]
    Invitations(invitations::Invitations),
    /// Complete a registration with the link of an invitation.
    Accept(accept::Accept),
    Import(import::Import),
    Export(export::Export),
    /// Do the same to many users: it shows whom, asks, and runs as a job of the server.
    #[command(subcommand)]
    Bulk(bulk::Bulk),
    /// List, watch, cancel, repeat and undo jobs, and get their reports.
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// List, show, create, change and delete groups, and say who is in them.
    ///
    /// A group is named by its id, by its id in your own system, or by its path from the top: School/Maths/Year 1.
    #[command(subcommand)]
    Groups(groups::Groups),
    /// List roles and who holds them, make roles of your own, give them and take them away.
    ///
    /// A role is named by its name or its id.
    #[command(subcommand)]
    Roles(roles::Roles),
    Seats(seats::Seats),
    /// Look up what became of each mail, and settle uncertain ones.
    Deliveries(deliveries::Deliveries),
    Bounces(bounces::Bounces),
    /// List addresses that get no mail, and lift that.
    #[command(subcommand)]
    Suppressions(suppressions::Suppressions),
    /// List who did what to whom, export it, and verify that nobody tampered with it.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// List, show, save, preview and reset what mails say.
    #[command(subcommand)]
    Templates(templates::Templates),
    /// Erase people for good: ask, approve, cancel, follow, and print the certificate.
    #[command(subcommand)]
    Erasures(erasures::Erasures),
    /// Ask whether users may come in.
    #[command(subcommand)]
    Access(access::Access),
    /// Report what users did on the platform: sign-ins and courses opened.
    #[command(subcommand)]
    Activity(activity::Activity),
    /// See whom the inactivity policy is about, and decide about deactivations that it parked. `usher tenants update` sets it.
    #[command(subcommand)]
    Inactivity(inactivity::Inactivity),
    /// Tell why a user has their status, what led there and what happens next.
    Explain(explain::Explain),
    /// Print lifecycle events.
    Events(events::Events),
    /// Ask the server whether it serves.
    Healthcheck(healthcheck::Healthcheck),
    /// Move the time of an `usher up --rehearse`.
    #[command(subcommand)]
    Clock(clock::Clock),
    /// Check the settings of a program, or print them with their defaults.
    #[command(subcommand)]
    Config(config::Config),
    /// Bring the database's schema up to date.
    Migrate(migrate::Migrate),
}

/// Carries out a command.
pub(crate) async fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    match command {
        Command::Tenants(command) => tenants::run(command, session).await,
        Command::Users(command) => users::run(command, session).await,
        Command::Invite(command) => invite::run(command, session).await,
        Command::Invitations(command) => invitations::run(command, session).await,
        Command::Accept(command) => accept::run(command, session).await,
        Command::Import(command) => import::run(command, session).await,
        Command::Export(command) => export::run(command, session).await,
        Command::Bulk(command) => bulk::run(command, session).await,
        Command::Jobs(command) => jobs::run(command, session).await,
        Command::Groups(command) => groups::run(command, session).await,
        Command::Roles(command) => roles::run(command, session).await,
        Command::Seats(command) => seats::run(command, session).await,
        Command::Deliveries(command) => deliveries::run(command, session).await,
        Command::Bounces(command) => bounces::run(command, session).await,
        Command::Suppressions(command) => suppressions::run(command, session).await,
        Command::Audit(command) => audit::run(command, session).await,
        Command::Templates(command) => templates::run(command, session).await,
        Command::Erasures(command) => erasures::run(command, session).await,
        Command::Access(command) => access::run(command, session).await,
        Command::Activity(command) => activity::run(command, session).await,
        Command::Inactivity(command) => inactivity::run(command, session).await,
        Command::Explain(command) => explain::run(command, session).await,
        Command::Events(command) => events::run(command, session).await,
        Command::Healthcheck(command) => healthcheck::run(command, session).await,
        Command::Clock(command) => clock::run(command),
        Command::Config(command) => config::run(command),
        Command::Migrate(command) => migrate::run(command).await,
        Command::Up(_) => Err(Failure::Usage("`usher up` is a process of its own".into())),
    }
}

/// What every command that changes something takes.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Show what would come of it; change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Change {
    fn options(&self) -> MutationOptions {
        MutationOptions {
            request_id: String::new(),
            validate_only: self.dry_run,
            reason: self.reason.clone(),
        }
    }
}

/// How much of a list is printed.
#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// Print at most so many; 0: all.
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: usize,
}

impl Limit {
    /// Prints a list: for programs page by page, as it comes, so that no list is too long; for people as one table.
    async fn show<T: Show, W>(&self, out: Output, page: impl Fn(i32, String) -> W) -> Result<(), Failure>
    where
        W: Future<Output = Result<(Vec<T>, String), Failure>>,
    {
        if !out.json {
            return out.list(&self.gather(page).await?);
        }
        self.each_page(page, |items| out.list(&items)).await
    }

    /// Reads pages until there are enough items, or no more.
    async fn gather<T, W>(&self, page: impl Fn(i32, String) -> W) -> Result<Vec<T>, Failure>
    where
        W: Future<Output = Result<(Vec<T>, String), Failure>>,
    {
        let mut items = Vec::new();
        let keep = |found| {
            items.extend(found);
            Ok(())
        };
        self.each_page(page, keep).await?;
        Ok(items)
    }

    /// Takes pages until there were enough items, or no more. `page` is given a size and a token, and answers items and
    /// the next token. Says so if there are more.
    async fn each_page<T, W>(
        &self,
        page: impl Fn(i32, String) -> W,
        mut take: impl FnMut(Vec<T>) -> Result<(), Failure>,
    ) -> Result<(), Failure>
    where
        W: Future<Output = Result<(Vec<T>, String), Failure>>,
    {
        let mut left = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut token = String::new();
        loop {
            let size = i32::try_from(left.min(1_000)).unwrap_or(1_000);
            let (mut found, next) = page(size, token).await?;
            found.truncate(left);
            left -= found.len();
            take(found)?;
            if next.is_empty() {
                return Ok(());
            }
            if left == 0 {
                output::note("There are more; --limit NUMBER shows them, --limit 0 all.");
                return Ok(());
            }
            token = next;
        }
    }
}

/// Does the same for several names. One that fails does not hold up the others: it is told on standard error.
async fn each<T, W>(names: &[String], act: impl Fn(String) -> W) -> Result<(Vec<T>, Exit), Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    let (mut done, mut exit) = (Vec::new(), Exit::Done);
    for name in names {
        match act(name.clone()).await {
            Ok(item) => done.push(item),
            Err(failure) if names.len() == 1 || matches!(failure, Failure::Unreachable(_)) => return Err(failure),
            Err(failure) => {
                // Without a standard error there is nobody to tell.
                let _ = failure.tell(name, "the server", &mut std::io::stderr());
                exit = Exit::Partly;
            }
        }
    }
    Ok((done, exit))
}

/// For clap: one of an enum's values, in lower case.
macro_rules! choice {
    ($enum:ty, $prefix:literal, [$($name:literal),+ $(,)?]) => {{
        use clap::builder::TypedValueParser as _;
        clap::builder::PossibleValuesParser::new([$($name),+]).map(|name| {
            <$enum>::from_str_name(&format!(concat!($prefix, "{}"), name.to_uppercase().replace('-', "_")))
                .expect("the list names values of the enum: see the tests")
        })
    }};
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Answers pages of 0, 1, 2 … 9.
    async fn page(size: i32, token: String) -> Result<(Vec<i32>, String), Failure> {
        let from: i32 = token.parse().unwrap_or(0);
        let to = (from + size.min(4)).min(10);
        Ok((
            (from..to).collect(),
            if to < 10 { to.to_string() } else { String::new() },
        ))
    }

    #[tokio::test]
    async fn a_limit_ends_a_list_and_zero_means_all() {
        for (limit, expected) in [(0, 10), (3, 3), (6, 6), (10, 10), (99, 10)] {
            let items = Limit { limit }.gather(page).await.unwrap();
            assert_eq!(items, (0..expected).collect::<Vec<_>>(), "limit {limit}");
        }
    }

    #[tokio::test]
    async fn one_name_that_fails_does_not_hold_up_the_others() {
        let seen = RefCell::new(Vec::new());
        let act = |name: String| {
            seen.borrow_mut().push(name.clone());
            async move {
                if name == "b" {
                    Err(Failure::Data("no".into()))
                } else {
                    Ok(name)
                }
            }
        };
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let (done, exit) = each(&names, act).await.unwrap();
        assert_eq!((done, exit), (vec!["a".to_owned(), "c".to_owned()], Exit::Partly));
        assert!(
            each(&names[1..2], act).await.is_err(),
            "alone, it is the command's own failure"
        );
    }
}
