//! Identifiers: newtypes over UUID, so that one cannot be taken for another. New ones are UUIDv7 (RFC 9562) minted with
//! the service's clock: they rise with time, which keeps index inserts at the right-hand edge.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Mints a new id at an instant of the service's clock.
            pub fn mint(now: DateTime<Utc>) -> Self {
                Self(mint(now))
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

fn mint(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}

id!(
    /// An organisation.
    TenantId
);
id!(
    /// An account.
    UserId
);
id!(
    /// A person's way in.
    InvitationId
);
id!(
    /// One mail.
    DeliveryId
);
id!(
    /// A worker's claim on a delivery.
    ClaimId
);
id!(
    /// One event: the CloudEvents `id`.
    EventId
);
id!(
    /// A group of users.
    GroupId
);
id!(
    /// A role of a tenant's own making.
    RoleId
);
id!(
    /// A selection of users that was previewed.
    SelectionId
);
id!(
    /// The deactivations for inactivity that were due at one moment.
    InactivityRunId
);
id!(
    /// A bulk job, an import included.
    JobId
);
id!(
    /// One entry of the audit log.
    AuditId
);
id!(
    /// The erasure of an account.
    ErasureId
);
