//! What callers set of an account, and whether its address and its external id are free.

use usher_core::account::ProfileUpdate;
use usher_core::clock::Timestamp;
use usher_core::ids::{TenantId, UserId};
use usher_core::refusal::Refusal;
use usher_core::text;
use usher_core::user::Profile;
use usher_proto::identity::v1::User as ProtoUser;

use crate::operations::world::World;
use crate::parse::Faults;

pub(super) fn profile(given: &ProtoUser, faults: &mut Faults) -> Profile {
    Profile {
        email: faults.email("user.email", &given.email),
        external_id: faults.external_id("user.external_id", &given.external_id),
        first_name: faults.take("user.first_name", text::name(&given.first_name, text::MAX_NAME)),
        last_name: faults.take("user.last_name", text::name(&given.last_name, text::MAX_NAME)),
        language: faults.take("user.language", text::language(&given.language)),
        time_zone: faults.take("user.time_zone", text::time_zone(&given.time_zone)),
        labels: faults.labels("user.labels", &given.labels),
    }
}

pub(super) fn update(given: &ProtoUser, paths: &[String], now: Timestamp, faults: &mut Faults) -> ProfileUpdate {
    let mut update = ProfileUpdate::default();
    for path in paths {
        match path.as_str() {
            "email" => update.email = Some(faults.email("user.email", &given.email)),
            "external_id" => update.external_id = Some(faults.external_id("user.external_id", &given.external_id)),
            "first_name" => {
                update.first_name = Some(faults.take("user.first_name", text::name(&given.first_name, text::MAX_NAME)));
            }
            "last_name" => {
                update.last_name = Some(faults.take("user.last_name", text::name(&given.last_name, text::MAX_NAME)));
            }
            "language" => update.language = Some(faults.take("user.language", text::language(&given.language))),
            "time_zone" => update.time_zone = Some(faults.take("user.time_zone", text::time_zone(&given.time_zone))),
            "labels" => update.labels = Some(faults.labels("user.labels", &given.labels)),
            "delete_time" => {
                update.deletes_at = Some(faults.expiration("user.delete_time", given.delete_time, now));
            }
            _ => {}
        }
    }
    update
}

/// Refuses an address or an external id that another account has.
pub(super) fn check_free(world: &mut World, tenant: TenantId, profile: &Profile) -> Result<(), Refusal> {
    let now = world.now;
    if let Some(other) = world.account_by_email(tenant, profile.email.key()) {
        let address = profile.email.as_str().to_owned();
        let active = other.user.effective_status(now) == usher_core::status::Status::ACTIVE;
        return Err(if active {
            Refusal::UserAlreadyActive(address)
        } else {
            Refusal::EmailTaken(address)
        });
    }
    match &profile.external_id {
        Some(id) if world.loaded.external_ids.contains_key(&(tenant, id.clone())) => {
            Err(Refusal::ExternalIdTaken(id.clone()))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_moved(
    world: &mut World,
    tenant: TenantId,
    user: UserId,
    update: &ProfileUpdate,
) -> Result<(), Refusal> {
    if let Some(email) = &update.email
        && world
            .account_by_email(tenant, email.key())
            .is_some_and(|other| other.user.id != user)
    {
        return Err(Refusal::EmailTaken(email.as_str().to_owned()));
    }
    if let Some(Some(external_id)) = &update.external_id {
        let owner = world.loaded.external_ids.get(&(tenant, external_id.clone()));
        if owner.is_some_and(|owner| *owner != user) {
            return Err(Refusal::ExternalIdTaken(external_id.clone()));
        }
    }
    Ok(())
}
