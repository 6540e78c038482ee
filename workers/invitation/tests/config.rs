//! The configuration that is compiled in: complete but for what has to be given (K6).

use usher_platform::config::load_from;
use usher_worker_invitation::{Config, DEFAULTS};

fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    load_from(DEFAULTS, None, environment)
        .map(|(_, config)| config)
        .map_err(|error| error.to_string())
}

const BUS: (&str, &str) = ("USHER__BUS__URL", "amqp://127.0.0.1:5672");

#[test]
fn with_its_secrets_given_the_defaults_are_a_configuration() {
    let config = load(&[
        BUS,
        ("USHER__SMTP__URL", "smtp://127.0.0.1:25"),
        ("USHER__SMTP__CONNECTIONS", "8"),
    ])
    .unwrap();
    assert_eq!(config.smtp.connections, 8);
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_key_and_without_its_secret() {
    let missing = load(&[]).unwrap_err();
    assert!(missing.contains("bus.url") || missing.contains("smtp.url"), "{missing}");
    assert!(load(&[BUS]).unwrap_err().contains("smtp.url"));
    for (name, value, key) in [
        ("USHER__SMTP__URL", "http://user:hunter2@relay", "smtp.url"),
        ("USHER__SMTP__CONNECTIONS", "0", "smtp.connections"),
        ("USHER__SMTP__STARTTLS", "sometimes", "smtp.starttls"),
        ("USHER__IDENTITY__URL", "identity:50051", "identity.url"),
        ("USHER__WORKER__CONCURRENCY", "1001", "worker.concurrency"),
    ] {
        let mut environment = vec![BUS, (name, value)];
        if name != "USHER__SMTP__URL" {
            environment.push(("USHER__SMTP__URL", "smtp://relay"));
        }
        let error = load(&environment).unwrap_err();
        assert!(
            error.contains(key) && !error.contains('\n') && !error.contains("hunter2"),
            "{error}"
        );
    }
}
