//! One suite per port, run against every implementation of it; and a check that the test environment itself works.

mod bus;
mod bus_memory;
mod bus_rabbitmq;
mod dependencies;
mod documents;
mod environment;
mod machine;
mod store;
