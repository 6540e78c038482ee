//! `users`: one row an account. A status that remembers others is spread over three columns, so that lists can filter by
//! each: `status`, what it restores, and what that restores in turn.

use std::fmt;

use sea_orm::entity::prelude::*;
use usher_core::email::EmailAddress;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::StoreError;
use usher_core::status::{Onboarding, Status, StatusName, Unexpired};
use usher_core::text::fold;
use usher_core::user::{Credential, Profile, User, name_key};

use super::{from_json, to_json};
use crate::error::unreadable;

#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    pub version: i64,
    pub email: String,
    pub email_key: String,
    pub external_id: Option<String>,
    pub first_name: String,
    pub last_name: String,
    pub language: String,
    pub labels: Json,
    /// What a list by name is sorted by.
    pub name_key: String,
    /// What a text is searched in.
    pub search_key: String,
    pub status: String,
    pub restores: Option<String>,
    pub restores_then: Option<String>,
    pub status_since: DateTimeUtc,
    pub expires_at: Option<DateTimeUtc>,
    pub credential: String,
    pub password_hash: Option<String>,
    pub password_generation: i32,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
    pub activated_at: Option<DateTimeUtc>,
    pub deletes_at: Option<DateTimeUtc>,
    /// 1970 for whoever never signed in.
    pub last_login_at: DateTimeUtc,
    pub first_course_at: Option<DateTimeUtc>,
    pub inactivity_warned_at: Option<DateTimeUtc>,
    pub seat_waiting_since: Option<DateTimeUtc>,
    pub edited_fields: Json,
}

impl fmt::Debug for Model {
    /// Ids only: the rest is personal or secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("tenant_id", &self.tenant_id)
            .field("user_id", &self.user_id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

const NO_CREDENTIAL: &str = "NONE";
const PASSWORD: &str = "PASSWORD";
const ONE_TIME: &str = "ONE_TIME";

impl From<&User> for Model {
    fn from(user: &User) -> Self {
        let profile = &user.profile;
        let (status, restores, restores_then) = status_columns(user.status);
        let (credential, password_hash, password_generation) = match &user.credential {
            Credential::None => (NO_CREDENTIAL, None, 0),
            Credential::Password(hash) => (PASSWORD, Some(hash.clone()), 0),
            Credential::OneTime { generation } => (ONE_TIME, None, *generation),
        };
        Self {
            tenant_id: user.tenant.0,
            user_id: user.id.0,
            version: user.version,
            email: profile.email.as_str().to_owned(),
            email_key: profile.email.key().to_owned(),
            external_id: profile.external_id.clone(),
            first_name: profile.first_name.clone(),
            last_name: profile.last_name.clone(),
            language: profile.language.clone(),
            labels: to_json(&profile.labels),
            name_key: name_key(profile),
            search_key: search_key(profile),
            status: status.as_str().into(),
            restores: restores.map(|status| status.as_str().into()),
            restores_then: restores_then.map(|status| status.as_str().into()),
            status_since: user.status_since,
            expires_at: user.expires_at,
            credential: credential.into(),
            password_hash,
            password_generation,
            created_at: user.created_at,
            updated_at: user.updated_at,
            activated_at: user.activated_at,
            deletes_at: user.deletes_at,
            last_login_at: user.last_login_at.unwrap_or_default(),
            first_course_at: user.first_course_at,
            inactivity_warned_at: user.inactivity_warned_at,
            seat_waiting_since: user.seat_waiting_since,
            edited_fields: to_json(&user.edited_fields),
        }
    }
}

impl TryFrom<Model> for User {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let status = status_of(&row.status, row.restores.as_deref(), row.restores_then.as_deref())?;
        let credential = match (row.credential.as_str(), row.password_hash) {
            (NO_CREDENTIAL, _) => Credential::None,
            (PASSWORD, Some(hash)) => Credential::Password(hash),
            (ONE_TIME, _) => Credential::OneTime {
                generation: row.password_generation,
            },
            (other, _) => return Err(unreadable("the credential", other)),
        };
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: UserId(row.user_id),
            version: row.version,
            profile: Profile {
                email: EmailAddress::from_stored(row.email, row.email_key),
                external_id: row.external_id,
                first_name: row.first_name,
                last_name: row.last_name,
                language: row.language,
                labels: from_json("the labels", row.labels)?,
            },
            status,
            status_since: row.status_since,
            expires_at: row.expires_at,
            credential,
            created_at: row.created_at,
            updated_at: row.updated_at,
            activated_at: row.activated_at,
            deletes_at: row.deletes_at,
            last_login_at: Some(row.last_login_at).filter(|at| *at > DateTimeUtc::default()),
            first_course_at: row.first_course_at,
            inactivity_warned_at: row.inactivity_warned_at,
            seat_waiting_since: row.seat_waiting_since,
            edited_fields: from_json("the edited fields", row.edited_fields)?,
        })
    }
}

/// "first last first", so that a full name is found in either order, and the address.
fn search_key(profile: &Profile) -> String {
    let Profile {
        first_name, last_name, ..
    } = profile;
    fold(&format!(
        "{first_name} {last_name} {first_name}\n{}",
        profile.email.key()
    ))
}

fn status_columns(status: Status) -> (StatusName, Option<StatusName>, Option<StatusName>) {
    let then = match status {
        Status::Expired { restores } => Status::from(restores).restores(),
        _ => None,
    };
    (status.name(), status.restores(), then)
}

fn status_of(status: &str, restores: Option<&str>, restores_then: Option<&str>) -> Result<Status, StoreError> {
    let onboarding = |name: Option<&str>| match name.and_then(StatusName::from_name) {
        Some(StatusName::Pending) => Ok(Onboarding::Pending),
        Some(StatusName::Invited) => Ok(Onboarding::Invited),
        Some(StatusName::Active) => Ok(Onboarding::Active),
        _ => Err(unreadable("the status", name.unwrap_or("NULL"))),
    };
    Ok(match StatusName::from_name(status) {
        Some(StatusName::Deactivated) => Status::Deactivated {
            restores: onboarding(restores)?,
        },
        Some(StatusName::Expired) if restores == Some(StatusName::Deactivated.as_str()) => Status::Expired {
            restores: Unexpired::Deactivated {
                restores: onboarding(restores_then)?,
            },
        },
        Some(StatusName::Expired) => Status::Expired {
            restores: Unexpired::Onboarding(onboarding(restores)?),
        },
        Some(StatusName::Erased) => Status::Erased,
        _ => Status::Onboarding(onboarding(Some(status))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_comes_back_from_its_columns() {
        let onboardings = [Onboarding::Pending, Onboarding::Invited, Onboarding::Active];
        let mut statuses = vec![Status::Erased];
        for restores in onboardings {
            let deactivated = Status::Deactivated { restores };
            statuses.extend([Status::Onboarding(restores), deactivated]);
            statuses.extend(
                [Status::Onboarding(restores), deactivated]
                    .into_iter()
                    .filter_map(Status::expired),
            );
        }
        assert_eq!(statuses.len(), 13);
        for status in statuses {
            let (name, restores, then) = status_columns(status);
            let read = status_of(
                name.as_str(),
                restores.map(StatusName::as_str),
                then.map(StatusName::as_str),
            );
            assert_eq!(read.unwrap(), status);
        }
    }

    #[test]
    fn a_status_of_a_later_version_is_a_fault_and_not_a_guess() {
        assert!(status_of("PAUSED", None, None).is_err());
        assert!(status_of("DEACTIVATED", None, None).is_err());
    }
}
