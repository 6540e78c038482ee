//! K6: configuration by file and environment, and what a mistake looks like.

use std::io::Write;

use serde::Deserialize;

use super::*;

const DEFAULTS: &str = r#"
[database]
# Where the data is.
url = ""
connections = 10

[mail]
password = ""
sender = "Usher"
languages = ["en"]

[token.keys]
"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    database: Database,
    mail: Mail,
    token: Token,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    url: SecretUrl,
    connections: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mail {
    #[serde(deserialize_with = "if_set")]
    password: Option<Secret>,
    sender: String,
    languages: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    keys: std::collections::BTreeMap<String, Secret>,
}

const URL: (&str, &str) = (
    "USHER__DATABASE__URL",
    "postgres://usher:hunter2@db:5432/usher?password=hunter2",
);

fn loaded(file: Option<&str>, environment: &[(&str, &str)]) -> Result<(Common, Settings), ConfigError> {
    let written = file.map(|text| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    });
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    load_from(
        DEFAULTS,
        written.as_ref().map(tempfile::NamedTempFile::path),
        environment,
    )
}

/// The error's text, after checking what must hold for every one of them.
fn refusal(file: Option<&str>, environment: &[(&str, &str)]) -> String {
    let error = loaded(file, environment).unwrap_err();
    let (shown, debugged) = (error.to_string(), format!("{error:?}"));
    assert_eq!(shown.lines().count(), 1, "{shown}");
    assert!(
        !shown.contains("hunter2") && !debugged.contains("hunter2"),
        "{shown}\n{debugged}"
    );
    shown
}

#[track_caller]
fn assert_names(refusal: &str, parts: &[&str]) {
    for part in parts {
        assert!(refusal.contains(part), "{part:?} is missing in: {refusal}");
    }
}

#[test]
fn the_file_overrides_the_defaults_and_the_environment_overrides_the_file() {
    let file = "[database]\nconnections = 20\n[mail]\nsender = \"École\"\n[log]\nlevel = \"warn\"";
    let (common, settings) = loaded(Some(file), &[URL, ("USHER__DATABASE__CONNECTIONS", "30")]).unwrap();
    assert_eq!(
        (settings.database.connections, settings.mail.sender.as_str()),
        (30, "École")
    );
    assert_eq!(
        (common.log.level.as_str(), common.log.format),
        ("warn", LogFormat::Human)
    );
    assert_eq!(settings.database.url.expose(), URL.1);
    assert!(settings.mail.password.is_none());
}

#[test]
fn text_from_the_environment_stays_text_and_commas_make_a_list() {
    let environment = [
        URL,
        ("USHER__MAIL__PASSWORD", "007"),
        ("USHER__MAIL__LANGUAGES", "fr, de"),
    ];
    let (_, settings) = loaded(None, &environment).unwrap();
    assert_eq!(settings.mail.password.unwrap().expose(), "007");
    assert_eq!(settings.mail.languages, ["fr", "de"]);
}

#[test]
fn variables_that_are_not_settings_are_left_alone() {
    // Kubernetes sets such variables for a service that is called "usher".
    loaded(None, &[URL, ("USHER_PORT", "tcp://10.0.0.1:80"), ("HOME", "/root")]).unwrap();
}

#[test]
fn a_secret_may_stand_in_a_file_and_a_later_source_overrides_it() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"hunter2\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let (_, settings) = loaded(
        None,
        &[
            URL,
            ("USHER__MAIL__PASSWORD_FILE", path),
            ("USHER__TOKEN__KEYS__K1_FILE", path),
        ],
    )
    .unwrap();
    assert_eq!(settings.mail.password.unwrap().expose(), "hunter2");
    assert_eq!(settings.token.keys["k1"].expose(), "hunter2");

    let file = format!("[mail]\npassword_file = \"{path}\"");
    let (_, settings) = loaded(Some(&file), &[URL, ("USHER__MAIL__PASSWORD", "other")]).unwrap();
    assert_eq!(settings.mail.password.unwrap().expose(), "other");
}

#[test]
fn a_secret_file_that_cannot_be_read_is_named_with_the_key_that_names_it() {
    let refusal = refusal(None, &[URL, ("USHER__MAIL__PASSWORD_FILE", "/nowhere/password")]);
    assert_names(
        &refusal,
        &["/nowhere/password", "mail.password_file", "USHER__MAIL__PASSWORD_FILE"],
    );
}

#[test]
fn a_secret_given_twice_by_one_source_is_refused() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"one").unwrap();
    let path = secret.path().to_str().unwrap();
    let refusal = refusal(
        None,
        &[
            URL,
            ("USHER__MAIL__PASSWORD", "hunter2"),
            ("USHER__MAIL__PASSWORD_FILE", path),
        ],
    );
    assert_names(&refusal, &["mail.password", "remove one"]);
}

#[test]
fn an_unknown_key_is_named_with_its_source_and_its_neighbours() {
    let in_file = refusal(Some("[database]\nurll = \"postgres://u:hunter2@h\""), &[URL]);
    assert_names(&in_file, &["unknown key database.urll", "file /", "connections, url"]);
    let in_environment = refusal(None, &[URL, ("USHER__DATABSE__URL", "hunter2")]);
    assert_names(
        &in_environment,
        &["unknown key databse (", "USHER__DATABSE__URL", "database, log, mail"],
    );
    assert_names(
        &refusal(None, &[URL, ("USHER__DATABASE", "hunter2")]),
        &["USHER__DATABASE__KEY"],
    );
    assert_names(&refusal(Some("database = \"hunter2\""), &[URL]), &["it is a section"]);
}

#[test]
fn a_missing_secret_is_named_with_the_way_to_give_it() {
    let refusal = refusal(None, &[]);
    assert_names(
        &refusal,
        &[
            "database.url",
            "a value is required",
            "USHER__DATABASE__URL_FILE",
            "--config",
        ],
    );
}

#[test]
fn a_bad_url_is_refused_without_being_shown() {
    let variable = refusal(None, &[("USHER__DATABASE__URL", "hunter2 at db")]);
    assert_names(
        &variable,
        &["database.url", "environment variable USHER__DATABASE__URL", "not a URL"],
    );
    let line = refusal(
        Some("[database]\nurl = \"postgres://usher:hunter2@db:port/usher\""),
        &[],
    );
    assert_names(&line, &["database.url", "file /", "not a URL"]);
}

#[test]
fn a_url_prints_without_its_credentials() {
    let url = SecretUrl::try_new(URL.1.into()).unwrap();
    assert_eq!(
        (url.to_string().as_str(), url.scheme()),
        ("postgres://db:5432/usher", "postgres")
    );
    assert_eq!(format!("{url:?}"), "postgres://db:5432/usher");
    assert_eq!(
        SecretUrl::try_new("sqlite::memory:".into()).unwrap().to_string(),
        "sqlite::memory:"
    );
    assert_eq!(format!("{:?}", Secret::from("hunter2".to_owned())), "***");
}

#[test]
fn a_bad_value_is_named_with_what_was_expected() {
    let number = refusal(None, &[URL, ("USHER__DATABASE__CONNECTIONS", "many")]);
    assert_names(
        &number,
        &[
            "database.connections",
            "USHER__DATABASE__CONNECTIONS",
            "\"many\"",
            "an integer",
        ],
    );
    let format = refusal(Some("[log]\nformat = \"xml\""), &[URL]);
    assert_names(&format, &["log.format", "human or json"]);
    let level = refusal(None, &[URL, ("USHER__LOG__LEVEL", "loud,,x=y=z")]);
    assert_names(&level, &["log.level", "trace, debug, info"]);
    let listen = refusal(None, &[URL, ("USHER__ADMIN__LISTEN", "9464")]);
    assert_names(&listen, &["admin.listen"]);
    let ratio = refusal(None, &[URL, ("USHER__TELEMETRY__SAMPLE_RATIO", "2")]);
    assert_names(&ratio, &["telemetry.sample_ratio", "0.0 to 1.0"]);
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_line_but_not_its_text() {
    let refusal = refusal(Some("[mail]\npassword = \"hunter2\nsender = \"x\""), &[URL]);
    assert_names(&refusal, &["line 2", "not valid TOML"]);
}

#[test]
fn a_type_that_quotes_its_input_cannot_leak_a_secret() {
    #[derive(Debug, Deserialize)]
    struct Quoting {
        #[expect(dead_code, reason = "only its refusal is looked at")]
        broker: Broker,
    }
    #[derive(Debug, Deserialize)]
    struct Broker {
        #[expect(dead_code, reason = "only its refusal is looked at")]
        #[serde(deserialize_with = "quoting")]
        url: String,
    }
    fn quoting<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        Err(serde::de::Error::custom(format!("no good: {text:?}")))
    }
    let environment = [("USHER__BROKER__URL".into(), "amqp://usher:hunter2@mq".into())];
    let error = load_from::<Quoting>("[broker]\nurl = \"\"", None, environment)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("broker.url") && error.contains("no good") && !error.contains("hunter2"),
        "{error}"
    );
}
