//! K6: configuration by file and environment. What is wrong is told in one line, with 78, before anything listens.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use usher_tests::environment::processes::Process;
use usher_tests::environment::rabbitmq::Broker;
use usher_tests::environment::smtp_sink::SmtpSink;
use usher_tests::environment::{build_folder, eventually, free_port, new_folder};
use usher_tests::system::{AUDIT_KEY, LINK_KEY};

/// Stands in every secret below, and must never be seen.
const PASSWORD: &str = "hunter2hunter2";
/// sysexits.h: something is wrong with the configuration.
const EX_CONFIG: i32 = 78;

const IDENTITY: &str = "usher-identity";
const MAILERS: [&str; 2] = ["usher-worker-invitation", "usher-worker-reminder"];
const EXPIRATION: &str = "usher-worker-expiration";
const ERASURE: &str = "usher-worker-erasure";
const SERVERS: [&str; 5] = [IDENTITY, MAILERS[0], MAILERS[1], EXPIRATION, ERASURE];

type Settings = BTreeMap<&'static str, String>;

/// What a program needs to start, in the form of environment variables.
fn settings(program: &str) -> Settings {
    let mut all = Settings::from([("USHER__BUS__URL", format!("amqp://usher:{PASSWORD}@127.0.0.1:1"))]);
    if program == IDENTITY {
        all.insert(
            "USHER__DATABASE__URL",
            format!("postgres://usher:{PASSWORD}@127.0.0.1:1/usher"),
        );
        all.insert("USHER__LINKS__KEY", LINK_KEY.into());
        all.insert("USHER__AUDIT__KEY", AUDIT_KEY.into());
    }
    if MAILERS.contains(&program) {
        all.insert("USHER__SMTP__URL", format!("smtp://usher:{PASSWORD}@127.0.0.1:1"));
    }
    all
}

/// A program, and nothing inherited but what it needs to run.
fn command(program: &str) -> Result<Command> {
    let mut command = Command::new(build_folder()?.join(program));
    command.env_clear().stdin(Stdio::null());
    Ok(command)
}

fn written(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Runs a program whose ports are taken, so that it cannot but fail on them if it comes as far as to listen; and asserts that
/// it fails as it should before, in the same way as `usher config check` does.
fn assert_refused(program: &str, settings: &Settings, file: Option<&Path>, expected: &[&str]) -> Result<()> {
    let (admin, api) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let mut listen = vec![("USHER__ADMIN__LISTEN", admin.local_addr()?.to_string())];
    if program == IDENTITY {
        listen.push(("USHER__GRPC__LISTEN", api.local_addr()?.to_string()));
    }
    let file: Vec<_> = file
        .into_iter()
        .flat_map(|path| [Path::new("--config"), path])
        .collect();
    for (name, arguments) in [(program, &[][..]), ("usher", &["config", "check", program][..])] {
        let output = command(name)?
            .args(arguments)
            .args(&file)
            .envs(listen.clone())
            .envs(settings)
            .output()?;
        let (told, code) = (written(&output), output.status.code());
        let case = format!("{name} {arguments:?} {settings:?}: {code:?}\n{told}");
        assert_eq!(code, Some(EX_CONFIG), "{case}");
        assert_eq!(told.lines().count(), 1, "{case}");
        for text in expected {
            assert!(told.contains(text), "no {text:?} in: {case}");
        }
        assert!(!told.contains(PASSWORD), "{told}");
    }
    Ok(())
}

fn file(name: &str, text: &str) -> Result<PathBuf> {
    let path = new_folder("config")?.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// K6
#[test]
fn an_unknown_key_in_the_environment_or_a_file_is_named_with_those_there_are() -> Result<()> {
    for program in SERVERS {
        let (section, known) = if program == IDENTITY {
            ("grpc", "listen")
        } else {
            ("worker", "concurrency")
        };
        let mut wrong = settings(program);
        let variable = if program == IDENTITY {
            "USHER__GRPC__LISTN"
        } else {
            "USHER__WORKER__LISTN"
        };
        wrong.insert(variable, "127.0.0.1:1".into());
        let key = format!("{section}.listn");
        assert_refused(program, &wrong, None, &[&key, variable, known])?;

        let path = file("slip.toml", &format!("[{section}]\nlistn = \"{PASSWORD}\"\n"))?;
        assert_refused(program, &settings(program), Some(&path), &[&key, "slip.toml", known])?;
        let path = file("broken.toml", &format!("[bus]\nurl = \"amqp://u:{PASSWORD}@host\n"))?;
        assert_refused(program, &settings(program), Some(&path), &["broken.toml", "line 2"])?;
    }
    Ok(())
}

/// K6
#[test]
fn a_url_that_cannot_be_used_is_named_by_its_key_without_its_password() -> Result<()> {
    let no_port = format!("amqp://usher:{PASSWORD}@host:port");
    let no_broker = format!("https://usher:{PASSWORD}@host");
    let no_database = format!("mysql://usher:{PASSWORD}@host/usher");
    let no_server = format!("smtp://usher:{PASSWORD}@");
    let mut cases = Vec::new();
    for program in SERVERS {
        cases.push((program, "bus.url", no_port.as_str()));
        cases.push((program, "bus.url", no_broker.as_str()));
        cases.push((program, "telemetry.otlp_endpoint", "collector:4317"));
    }
    for program in MAILERS {
        cases.push((program, "smtp.url", no_server.as_str()));
        cases.push((program, "smtp.url", no_broker.as_str()));
        cases.push((program, "identity.url", "identity:50051"));
    }
    cases.push((IDENTITY, "database.url", no_port.as_str()));
    cases.push((IDENTITY, "database.url", no_database.as_str()));
    cases.push((IDENTITY, "links.key", PASSWORD));
    cases.push((IDENTITY, "audit.key", PASSWORD));
    cases.push((IDENTITY, "audit.former_keys", PASSWORD));
    cases.push((IDENTITY, "links.retired_keys", PASSWORD));
    cases.push((IDENTITY, "links.accept_url", "https://learn.example/accept"));
    cases.push((IDENTITY, "grpc.allowed_origins", "admin.example"));
    cases.push((IDENTITY, "mail.from_address", "Usher <no-reply@usher.example>"));
    for (program, key, value) in cases {
        let variable: &'static str = format!("USHER__{}", key.replace('.', "__").to_uppercase()).leak();
        let mut wrong = settings(program);
        wrong.insert(variable, value.into());
        assert_refused(program, &wrong, None, &[key, variable])?;
    }
    Ok(())
}

/// K6
#[test]
fn a_secret_that_is_missing_is_named_with_the_two_ways_to_give_it() -> Result<()> {
    for program in SERVERS {
        for variable in settings(program).into_keys() {
            let mut without = settings(program);
            without.remove(variable);
            let key = variable.trim_start_matches("USHER__").replace("__", ".").to_lowercase();
            let from_file = format!("{variable}_FILE");
            assert_refused(program, &without, None, &[&key, variable, &from_file])?;

            without.insert(from_file.clone().leak(), "/nowhere/secret".into());
            assert_refused(program, &without, None, &["/nowhere/secret", "cannot read"])?;
        }
    }
    Ok(())
}

/// K6: `usher up` makes its own secrets, and takes the same settings.
#[test]
fn usher_up_refuses_what_it_cannot_use_before_it_listens() -> Result<()> {
    let wrong_broker = format!("amqp://usher:{PASSWORD}@host");
    for (variable, value, key) in [
        ("USHER__GRPC__LISTN", "127.0.0.1:1", "grpc.listn"),
        ("USHER__BUS__URL", wrong_broker.as_str(), "bus.url"),
        ("USHER__LINKS__KEY", PASSWORD, "links.key"),
        ("USHER__SMTP__URL", "http://host", "smtp.url"),
    ] {
        let admin = TcpListener::bind("127.0.0.1:0")?;
        let data = new_folder("up")?;
        let output = command("usher")?
            .args(["up", "--data"])
            .arg(&data)
            .env("USHER__ADMIN__LISTEN", admin.local_addr()?.to_string())
            .env(variable, value)
            .output()?;
        let told = written(&output);
        assert_eq!(
            (output.status.code(), told.lines().count()),
            (Some(EX_CONFIG), 1),
            "{told}"
        );
        assert!(told.contains(key) && !told.contains(PASSWORD), "{told}");
    }
    Ok(())
}

/// K6: as Docker and Kubernetes hand secrets out.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_may_lie_in_files() -> Result<()> {
    let sink = SmtpSink::start().await?;
    let port = free_port()?;
    let folder = new_folder("secrets")?;
    let secret = |name: &str, value: &str| -> Result<String> {
        let path = folder.join(name);
        std::fs::write(&path, format!("{value}\n"))?;
        Ok(path.display().to_string())
    };
    let bus = secret("bus", &Broker::shared().await?.vhost().await?)?;
    let database = format!("sqlite:{}?mode=rwc", folder.join("usher.db").display());
    let settings = folder.join("identity.toml");
    std::fs::write(
        &settings,
        format!("[bus]\nurl_file = {bus:?}\n[grpc]\nlisten = \"127.0.0.1:{port}\"\n"),
    )?;
    let identity = [
        ("USHER__DATABASE__URL_FILE", secret("database", &database)?),
        ("USHER__LINKS__KEY_FILE", secret("key", LINK_KEY)?),
        ("USHER__AUDIT__KEY_FILE", secret("audit", AUDIT_KEY)?),
    ];
    let worker = [
        ("USHER__IDENTITY__URL", format!("http://127.0.0.1:{port}")),
        ("USHER__BUS__URL_FILE", bus),
        (
            "USHER__SMTP__URL_FILE",
            secret("smtp", &format!("smtp://127.0.0.1:{}", sink.port()))?,
        ),
    ];
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    let path = settings.display().to_string();
    let _identity = Process::start(IDENTITY, &["--config", &path], identity.map(owned)).await?;
    Process::start(MAILERS[0], &[], worker.map(owned)).await?;
    Ok(())
}

/// K6: what is configured may be wrong in a way that only the other side can tell.
#[tokio::test(flavor = "multi_thread")]
async fn no_password_reaches_the_log_of_a_process_that_cannot_connect() -> Result<()> {
    for program in SERVERS {
        let mut all = settings(program);
        all.insert("USHER__LOG__LEVEL", "debug".into());
        if program == IDENTITY {
            all.insert("USHER__GRPC__LISTEN", format!("127.0.0.1:{}", free_port()?));
        }
        let all = all.into_iter().map(|(name, value)| (name.to_owned(), value));
        let mut process = Process::new(program, &[], all)?;
        process.spawn()?;
        let told = eventually(
            "a line about what cannot be reached",
            Duration::from_secs(20),
            async || {
                let output = process.output();
                output.contains("WARN").then_some(output)
            },
        );
        told.await.with_context(|| format!("{program}: {}", process.output()))?;
        let ended = process.terminate(Duration::from_secs(10)).await?;
        let output = process.output();
        assert!(ended.code().is_some(), "{program}: {ended}");
        assert!(
            !output.contains(PASSWORD) && !output.contains(LINK_KEY) && !output.contains(AUDIT_KEY),
            "{program}: {output}"
        );
    }
    Ok(())
}

/// K6
#[test]
fn every_program_tells_its_version_and_how_it_is_used() -> Result<()> {
    for program in SERVERS.into_iter().chain(["usher"]) {
        let version = command(program)?.arg("--version").output()?;
        assert!(version.status.success());
        assert_eq!(
            written(&version).trim(),
            format!("{program} {}", env!("CARGO_PKG_VERSION"))
        );
        let help = command(program)?.arg("--help").output()?;
        assert!(help.status.success() && help.stderr.is_empty());
        assert!(
            written(&help).contains(&format!("Usage: {program}")),
            "{}",
            written(&help)
        );
        let wrong = command(program)?.arg("--no-such-thing").output()?;
        assert!(matches!(wrong.status.code(), Some(2 | 64)), "{}", written(&wrong));
    }
    Ok(())
}
