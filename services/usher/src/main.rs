//! `usher`: everything in one process (`usher up`), and the operator's commands, which speak gRPC to an identity service
//! like any other caller.

mod bounces;
mod client;
mod commands;
mod failure;
mod file;
mod names;
mod output;
mod password;
mod time;
#[cfg(test)]
mod transfer_double;
mod up;

use std::process::ExitCode;

use clap::{Args, Parser};

use crate::client::{Client, DEFAULT_SERVER, DEMO_TENANT};
use crate::commands::{Command, Session};
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output::Output;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ushers people in and out of a learning platform.
///
/// Users are named by id, by e-mail address, or by the id in your own system; groups by id, by the id in your own system, or
/// by path. Times are in UTC.
#[derive(Debug, Parser)]
#[command(name = "usher", version, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Everywhere {
    /// Where the identity service listens.
    #[arg(long, global = true, env = "USHER_SERVER", default_value = DEFAULT_SERVER, value_name = "URL")]
    server: String,
    /// Whose users: the tenant's id. The default is the one that `usher up` makes.
    #[arg(long, global = true, env = "USHER_TENANT", default_value = DEMO_TENANT, value_name = "ID")]
    tenant: String,
    /// Who acts: the id of a user or a service, for the history and for what nobody may do to themselves.
    #[arg(long, global = true, env = "USHER_ACTOR", default_value = "", value_name = "ID")]
    actor: String,
    /// Print one JSON object a line, in the form of the API, instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Up(up) = &cli.command {
        return up::main(up);
    }
    let exit = run(&cli).unwrap_or_else(|failure| {
        // Nobody is left to tell when standard error is closed too.
        let _ = failure.tell("", &cli.everywhere.server, &mut std::io::stderr());
        failure.exit()
    });
    exit.into()
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let out = Output {
        json: cli.everywhere.json,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::io("cannot start", cause))?;
    runtime.block_on(async {
        let client = Client::try_new(&cli.everywhere.server, &cli.everywhere.tenant, &cli.everywhere.actor)?;
        commands::run(&cli.command, &Session { client, out }).await
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_understood_as_the_readme_writes_them() {
        for line in [
            "usher tenants create School --language fr --reminders 3d,7d --seat-limit 500",
            "usher tenants update --no-reminders",
            "usher tenants update --seat-limit 5 --seat-policy wait",
            "usher tenants show",
            "usher users list",
            "usher users list --status pending --status invited --label Maths --order-by name",
            "usher users list --group A/B --group 7 --role coach --never-logged-in --order-by last_login_time",
            "usher users list --inactive-since 2027-01-01 --invited-before 2027-01-01 --waiting-for-seat",
            "usher users list --engagement activated",
            "usher activity record ana@example.org S-1 --kind sign-in --at 2027-01-01",
            "usher activity import activity.csv",
            "usher tenants update --warn-after-days 90 --deactivate-after-days 120 --max-share-percent 20",
            "usher inactivity preview --step deactivate --until 2027-01-01 --warn-after-days 90 --deactivate-after-days 120",
            "usher inactivity runs",
            "usher inactivity approve 1",
            "usher inactivity dismiss 1 --reason holidays",
            "usher users show ana@example.org --json",
            "usher users create ana@example.org --first-name Ana --label a --label b --expire 2027-06-30",
            "usher users create ana@example.org --active",
            "usher users create ana@example.org --group A/B --role learner --delete-on 2028-06-30",
            "usher users update S-1 --delete-on never",
            "usher users update S-1 --no-labels --expected-version 3",
            "usher users deactivate a@x.org b@x.org --reason left --actor admin",
            "usher users reactivate a@x.org",
            "usher users expire a@x.org never --dry-run",
            "usher invite a@x.org,b@x.org --subject Welcome",
            "usher invite a@x.org --group A/B --role learner --session S-1 --delete-on 2028-06-30",
            "usher invite --file list.txt",
            "usher invite --preview --language ar",
            "usher invite --test me@x.org",
            "usher invitations list --all --sent-before 2027-01-01",
            "usher invitations show 1",
            "usher invitations send a@x.org S-1 --subject Welcome",
            "usher invitations cancel 1 2",
            "usher invitations resend 1 --message-file text.txt",
            "usher accept http://127.0.0.1/accept?tenant=1&token=2 --inspect",
            "usher accept t --fresh",
            "usher accept t --first-name A --last-name B --password-stdin",
            "usher import users.csv --dry-run --report r.csv --encoding windows-1250 --no-invite",
            "usher import users.xlsx --mode update --overwrite-edited --map Mail=email --dry-run",
            "usher import users.csv --mode deactivate --max-deactivated-percent 50 --report r.csv",
            "usher import - --subject Welcome --map Mail=email --detach",
            "usher export users.xlsx --columns email,status --head-language fr --group A/B --language fr",
            "usher export - --format csv --user a@x.org --user S-1",
            "usher groups list --tree --below A",
            "usher groups list --user a@x.org --text math",
            "usher groups show A/B",
            "usher groups create B --parent A --external-id B-1",
            "usher groups update A/B --name C --expected-version 2",
            "usher groups move A/B --top",
            "usher groups move A/B C/D",
            "usher groups delete A/B --dry-run",
            "usher groups add A/B a@x.org b@x.org",
            "usher groups remove A/B a@x.org --reason moved",
            "usher templates list --kind reminder --language fr",
            "usher templates get invitation fr --to folder",
            "usher templates set reminder fr folder --step 2 --expected-version 3 --dry-run",
            "usher templates preview invitation ar --draft folder --sample first_name=Zoë --to a.eml --to a.html",
            "usher templates reset expiry-warning de --reason new",
            "usher templates versions fresh-link es --limit 0",
            "usher roles list --permissions",
            "usher roles create Tutor --permission users.read --permission groups.read",
            "usher roles update Tutor --name Mentor --permission users.read",
            "usher roles delete Tutor",
            "usher roles assign a@x.org coach --group A/B",
            "usher roles revoke a@x.org instructor --session S-1",
            "usher roles holders --role coach --group A/B",
            "usher roles holders --user a@x.org --limit 0",
            "usher bounces",
            "usher bounces - --tenant 1 --json",
            "usher bounces /var/mail/bounces report.eml --dry-run",
            "usher seats",
            "usher seats --json",
            "usher seats ledger --user a@x.org",
            "usher bulk invite --status pending --subject Welcome --preview",
            "usher bulk deactivate --user a@x.org --user b@x.org --yes --reason left",
            "usher bulk reactivate --label Maths -y --detach",
            "usher bulk expire never --group A/B --yes",
            "usher bulk groups --add A --remove B --text x",
            "usher bulk roles --assign coach@A/B --revoke author --role author",
            "usher bulk labels --add a --remove b --everybody",
            "usher bulk resend --sent-days-ago 14 --everybody --dry-run",
            "usher jobs list --state running --limit 5",
            "usher jobs show 1",
            "usher jobs watch 1",
            "usher jobs cancel 1",
            "usher jobs retry 1 --detach",
            "usher jobs undo 1 --reason mistake",
            "usher jobs items 1 --outcome failed --outcome skipped --limit 0",
            "usher jobs report 1 --out report.csv",
            "usher deliveries --user a@x.org --attempts",
            "usher deliveries list --state uncertain --limit 0",
            "usher deliveries resolve 1 --send-again",
            "usher suppressions list",
            "usher suppressions remove a@x.org",
            "usher access check a@x.org",
            "usher access verify-password a@x.org --password-stdin",
            "usher access change-password a@x.org --passwords-stdin --reason guessed",
            "usher explain a@x.org",
            "usher events --follow --type user. --from-beginning",
            "usher up --demo deploy/samples/users.csv --smtp smtp://127.0.0.1:25",
            "usher up --data /tmp/x --rehearse",
            "usher clock advance 3d",
            "usher config check usher-identity --config identity.toml",
            "usher config defaults usher-worker-reminder",
            "usher migrate --config identity.toml",
            "usher healthcheck usher.identity.v1.UserService",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn contradictions_and_gaps_are_wrong_usage() {
        for line in [
            "usher",
            "usher users create",
            "usher users create a@x.org --active --password-stdin",
            "usher users list --status gone",
            "usher users expire a@x.org soon",
            "usher deliveries resolve 1",
            "usher deliveries resolve 1 --sent --send-again",
            "usher invite --preview a@x.org",
            "usher tenants create School --no-reminders --reminders 3d",
            "usher users list --never-logged-in --inactive-since 2027-01-01",
            "usher groups move A/B",
            "usher groups move A/B C --top",
            "usher groups list --tree --text x",
            "usher roles assign a@x.org coach --group A --session S",
            "usher bulk",
            "usher bulk groups --everybody",
            "usher bulk deactivate --user a@x.org --label b",
            "usher bulk deactivate --everybody --label b",
            "usher bulk deactivate --everybody --preview --yes",
            "usher import a.csv --map Mail",
            "usher import a.csv --overwrite-edited",
            "usher import a.csv --mode gone",
            "usher import a.csv --mode create --no-invite",
            "usher import a.csv --mode deactivate --max-deactivated-percent 101",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_command_and_argument_says_what_it_does() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no description");
            for argument in command
                .get_arguments()
                .filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
            {
                assert!(
                    argument.get_help().is_some(),
                    "{path} {} has no description",
                    argument.get_id()
                );
            }
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        check(&Cli::command(), "usher");
    }
}
