//! The configurations that are compiled into workers which need nothing but the common sections: complete but for what has to
//! be given (K6).

use usher_platform::config::load_from;
use usher_worker_runtime::WorkerConfig;

const DEFAULTS: [&str; 2] = [
    include_str!("../../erasure/config.default.toml"),
    include_str!("../../expiration/config.default.toml"),
];

fn load(defaults: &str, environment: &[(&str, &str)]) -> Result<WorkerConfig, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    load_from(defaults, None, environment)
        .map(|(_, config)| config)
        .map_err(|error| error.to_string())
}

#[test]
fn with_its_secret_given_the_defaults_are_a_configuration() {
    for defaults in DEFAULTS {
        let given = [
            ("USHER__BUS__URL", "amqp://127.0.0.1:5672"),
            ("USHER__WORKER__CONCURRENCY", "3"),
        ];
        let config = load(defaults, &given).unwrap();
        assert_eq!(config.worker.concurrency.get(), 3);
    }
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_key() {
    for defaults in DEFAULTS {
        assert!(load(defaults, &[]).unwrap_err().contains("bus.url"));
        let bus = ("USHER__BUS__URL", "amqp://127.0.0.1:5672");
        for (name, value, key) in [
            ("USHER__IDENTITY__URL", "identity:50051", "identity.url"),
            ("USHER__WORKER__CONCURRENCY", "0", "worker.concurrency"),
        ] {
            let error = load(defaults, &[bus, (name, value)]).unwrap_err();
            assert!(error.contains(key) && !error.contains('\n'), "{error}");
        }
    }
}
