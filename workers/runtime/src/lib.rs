//! What every worker does, so that a worker itself is its handler and little else.
//!
//! [`Worker`] consumes one queue: it opens the consumer again when it ends, never takes more than it can work on, gives
//! each message a span in the trace that caused it, tells the bus what became of it, and drains at the end.
//! [`MailHandler`] is the work that the invitation and the reminder worker share: claim a mail, send it, report. [`PassOn`] is
//! that of the expiration and the erasure worker: gather what is due, pass it on.
//!
//! An event is a hint. A handler asks the identity service to begin the work, and each begin and each end there is a
//! conditional update; so a message may come twice, late or in another order, and a handler needs no memory.

mod config;
mod delivery;
mod due;
mod identity;
mod parts;
mod pauses;
mod work;
mod worker;

pub use self::config::{BusConfig, Concurrency, IdentityConfig, WorkerConfig};
pub use self::delivery::MailHandler;
pub use self::due::{PassOn, PassingOn};
pub use self::identity::worker_id;
pub use self::parts::{Parts, connect, run};
pub use self::work::{BatchHandler, Handler, Work, WorkError};
pub use self::worker::{Gather, Worker};
