//! The gRPC API and the lifecycle events of Usher, generated from the `.proto` files beside this crate. The meaning of
//! every message, field and error stands in those files.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the documentation is in the .proto files"
)]

/// Lifecycle events: what RabbitMQ and `WatchEvents` carry.
pub mod events {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("usher.events.v1");
    }
}

/// The identity service.
pub mod identity {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("usher.identity.v1");
    }
}

/// Every descriptor of this crate, encoded: what server reflection answers with.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
