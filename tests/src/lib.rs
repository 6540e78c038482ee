//! What the suites share: the real servers that they run against, and ways to look into them.

pub mod environment;
pub mod ledger;
pub mod machine;
pub mod million;
pub mod system;
