//! What a column of an import can set.

/// A field of a user that a column can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The address; every file needs it.
    Email,
    /// The id in the caller's system.
    ExternalId,
    /// First name.
    FirstName,
    /// Last name.
    LastName,
    /// Language tag.
    Language,
    /// The time zone that the person lives by.
    TimeZone,
    /// Labels.
    Labels,
    /// Names, paths or ids of groups.
    Groups,
    /// Names of roles.
    Roles,
    /// When access ends.
    Expires,
    /// When the account is deleted.
    Deletes,
    /// Whether the person may in.
    Active,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Email,
        Self::ExternalId,
        Self::FirstName,
        Self::LastName,
        Self::Language,
        Self::TimeZone,
        Self::Labels,
        Self::Groups,
        Self::Roles,
        Self::Expires,
        Self::Deletes,
        Self::Active,
    ];

    /// As in a mapping: `first_name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::ExternalId => "external_id",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Language => "language",
            Self::TimeZone => "time_zone",
            Self::Labels => "labels",
            Self::Groups => "groups",
            Self::Roles => "roles",
            Self::Expires => "expires",
            Self::Deletes => "deletes",
            Self::Active => "active",
        }
    }

    /// The reverse of `as_str`. The names that the API has for two of them are taken, too.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "expire_time" => Some(Self::Expires),
            "delete_time" => Some(Self::Deletes),
            _ => Self::ALL.into_iter().find(|field| field.as_str() == name),
        }
    }
}
