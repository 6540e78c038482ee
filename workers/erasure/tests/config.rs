//! The configuration that is compiled in: complete but for what has to be given (K6).

use usher_platform::config::load_from;
use usher_worker_erasure::{Config, DEFAULTS};

fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    load_from(DEFAULTS, None, environment)
        .map(|(_, config)| config)
        .map_err(|error| error.to_string())
}

#[test]
fn with_its_secret_given_the_defaults_are_a_configuration() {
    let config = load(&[
        ("USHER__BUS__URL", "amqp://127.0.0.1:5672"),
        ("USHER__WORKER__CONCURRENCY", "3"),
    ])
    .unwrap();
    assert_eq!(config.worker.concurrency.get(), 3);
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_key() {
    assert!(load(&[]).unwrap_err().contains("bus.url"));
    let bus = ("USHER__BUS__URL", "amqp://127.0.0.1:5672");
    for (name, value, key) in [
        ("USHER__IDENTITY__URL", "identity:50051", "identity.url"),
        ("USHER__WORKER__CONCURRENCY", "0", "worker.concurrency"),
    ] {
        let error = load(&[bus, (name, value)]).unwrap_err();
        assert!(error.contains(key) && !error.contains('\n'), "{error}");
    }
}
