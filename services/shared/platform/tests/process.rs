//! The smallest process, started and stopped for real.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};

/// `examples/minimal.rs`, which cargo builds next to the tests.
fn minimal() -> Command {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().and_then(std::path::Path::parent).unwrap();
    let mut command = Command::new(built.join("examples/minimal"));
    command.env_clear().stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A running process, its log, and where its admin pages answer.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    admin: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.env("USHER__LOG__FORMAT", "json").spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let admin = loop {
            let mut line = String::new();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "the process ended before it listened"
            );
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "admin pages listen" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        Self { child, log, admin }
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success());
    }

    /// Reads the log up to a line that contains `text`.
    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(
                self.log.read_line(&mut line).unwrap(),
                0,
                "the log ended before {text:?}"
            );
        }
    }

    fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn a_process_that_is_told_to_stop_drains_and_ends_with_0() {
    let mut running = Running::start(&mut minimal());
    running.wait_for("readiness changed");
    let healthy = minimal()
        .arg("healthcheck")
        .env("USHER__ADMIN__LISTEN", &running.admin)
        .status()
        .unwrap();
    assert_eq!(healthy.code(), Some(0));
    running.signal("TERM");
    let (code, log) = running.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("draining"), "{log}");
}

#[test]
fn a_second_signal_cuts_the_drain_off() {
    let mut running = Running::start(minimal().env("USHER__WORK__STUBBORN", "true"));
    running.signal("TERM");
    running.wait_for("draining");
    running.signal("INT");
    let (code, log) = running.ended();
    assert_eq!(code, Some(130), "{log}");
}

#[test]
fn work_that_outlasts_the_drain_time_is_dropped_and_the_process_says_so() {
    let stubborn = [
        ("USHER__WORK__STUBBORN", "true"),
        ("USHER__SHUTDOWN__DRAIN_SECONDS", "0"),
    ];
    let running = Running::start(minimal().envs(stubborn));
    running.signal("TERM");
    let (code, log) = running.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("did not finish within 0 s"), "{log}");
}

/// K6: one line, exit 78, and nothing listens.
#[test]
fn wrong_configuration_ends_the_process_with_78_before_it_listens() {
    let ended = minimal().env("USHER__WORK__STUBORN", "true").output().unwrap();
    assert_eq!(ended.status.code(), Some(78));
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("work.stuborn") && told.contains("USHER__WORK__STUBORN"),
        "{told}"
    );
}

#[test]
fn wrong_arguments_end_the_process_with_64() {
    assert_eq!(minimal().arg("--prot=1").status().unwrap().code(), Some(64));
}

/// A collector that nobody runs must not hold the process up.
#[test]
fn a_collector_that_cannot_be_reached_does_not_keep_the_process_from_ending() {
    let running = Running::start(minimal().env("USHER__TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:1"));
    let asked = std::time::Instant::now();
    running.signal("TERM");
    let (code, log) = running.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(asked.elapsed().as_secs() < 8, "took {:?}", asked.elapsed());
}
