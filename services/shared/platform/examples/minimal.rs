//! The smallest process: it is ready at once and works until it is told to stop.
//!
//! With `USHER__WORK__STUBBORN=true` it does not stop when told to, which shows what happens then.

use std::process::ExitCode;

use serde::Deserialize;
use usher_platform::config::Settings;

const DEFAULTS: &str = "
[admin]
listen = \"127.0.0.1:0\"

[work]
# Whether to ignore the request to stop.
stubborn = false
";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    work: Work,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Work {
    stubborn: bool,
}

impl Settings for Config {}

fn main() -> ExitCode {
    usher_platform::run_main("minimal", DEFAULTS, |config: Config, context| async move {
        context.readiness.condition("example").set(true, "");
        context.shutdown.cancelled().await;
        if config.work.stubborn {
            std::future::pending::<()>().await;
        }
        Ok(())
    })
}
