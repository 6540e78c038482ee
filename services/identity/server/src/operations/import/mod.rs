//! What an import does with one row of a file (L10), and how a row is kept until then.

mod judging;
mod row;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use usher_core::account::Placement;
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::email::EmailAddress;
use usher_core::ids::{GroupId, TenantId, UserId};
use usher_core::invitation::Message;
use usher_core::job::{HeldRole, ImportHeads, ImportMode, ItemInput, ItemOutcome, ItemResult, Undo};
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::role::RoleRef;

pub(crate) use self::judging::{Names, fields, judge, role_with_place};
use self::row::{DELETES, EXPIRES, Rowing};
use super::bulk;
use super::world::World;
use crate::grpc::role_service::placement_keys;
use crate::judge::Asking;
use crate::status::tell_of_item;

/// A row as it is kept until its turn comes: judged, with groups and roles found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::option_option, reason = "a date is left alone, cleared, or set")]
pub(crate) struct Kept {
    #[serde(skip_serializing_if = "String::is_empty")]
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    groups: BTreeSet<GroupId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    roles: BTreeSet<String>,
    /// Roles with where they are held.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    held: BTreeSet<HeldRole>,
    /// `Some(None)`: cleared.
    #[serde(skip_serializing_if = "Option::is_none", with = "twice")]
    expires: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none", with = "twice")]
    deletes: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
    /// What is wrong with it: the column and the reason, of each fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<(String, String)>,
    /// Names of groups and roles that stood for nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Missing>,
}

/// A name that stands for nothing, or for several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Missing {
    column: String,
    /// Of a group; otherwise of a role.
    is_group: bool,
    name: String,
    reason: String,
}

/// An optional value that may be cleared: `null` is cleared, a missing field is left alone.
mod twice {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use usher_core::clock::Timestamp;

    type Twice = Option<Option<Timestamp>>;

    pub(super) fn serialize<S: Serializer>(value: &Twice, serializer: S) -> Result<S::Ok, S::Error> {
        value.unwrap_or_default().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Twice, D::Error> {
        Option::<Timestamp>::deserialize(deserializer).map(Some)
    }
}

/// What an import does, beside the mode of its job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) mode: ImportMode,
    pub(crate) dry_run: bool,
    pub(crate) overwrite_edited: bool,
    pub(crate) messages: &'a [Message],
    pub(crate) heads: &'a ImportHeads,
}

impl How<'_> {
    /// How the change of a status is taken back.
    fn undo(&self, user: UserId, world: &mut World) -> Option<Undo> {
        if self.dry_run {
            return None;
        }
        let mut since = || Some(world.account(self.tenant, user).ok()?.user.status_since);
        match self.mode {
            ImportMode::Activate => since().map(|since| Undo::Deactivate { since }),
            ImportMode::Deactivate => since().map(|since| Undo::Reactivate { since }),
            ImportMode::Create | ImportMode::Invite | ImportMode::Update => None,
        }
    }
}

impl Kept {
    fn read(item: &ItemInput) -> Option<Self> {
        serde_json::from_value(item.row.clone()?).ok()
    }

    /// Looks the names up again that stood for nothing.
    fn find(&mut self, names: &Names) {
        for missing in std::mem::take(&mut self.missing) {
            self.named(names, missing);
        }
    }

    fn named(&mut self, names: &Names, wanted: Missing) {
        let found = if wanted.is_group {
            names.find_group(&wanted.name).map(|group| self.groups.insert(group))
        } else {
            names.find_role(&wanted.name).map(|(role, scope)| match scope {
                None => self.roles.insert(role.to_string()),
                Some(scope) => self.held.insert(HeldRole::of(role, &scope)),
            })
        };
        if let Err(reason) = found {
            self.missing.push(Missing { reason, ..wanted });
        }
    }

    fn placement(&self) -> Placement {
        Placement {
            groups: self.groups.clone(),
            roles: self.roles.iter().filter_map(|role| RoleRef::from_name(role)).collect(),
            held: self.held.iter().filter_map(HeldRole::read).collect(),
        }
    }
}

/// What the rows of a chunk need.
pub(crate) fn keys(tenant: TenantId, items: &[ItemInput]) -> Keys {
    let mut keys = Keys {
        tenants: [tenant].into(),
        with_mail: true,
        with_belonging: true,
        external_accounts: true,
        ..Keys::default()
    };
    for kept in items
        .iter()
        .filter_map(Kept::read)
        .filter(|kept| kept.faults.is_empty() && kept.missing.is_empty())
    {
        keys.extend(&placement_keys(tenant, &kept.placement()));
        if let Ok(email) = EmailAddress::parse(&kept.email) {
            keys.emails.insert((tenant, email.key().to_owned()));
        }
        keys.external_ids.extend(kept.external_id.map(|id| (tenant, id)));
    }
    keys
}

/// The accounts of the rows that deactivate somebody, if any of them does (L10).
pub(crate) fn deactivating(tenant: TenantId, mode: ImportMode, items: &[ItemInput]) -> Option<Keys> {
    let all = match mode {
        ImportMode::Deactivate => true,
        ImportMode::Update => false,
        ImportMode::Create | ImportMode::Invite | ImportMode::Activate => return None,
    };
    let kept = items.iter().filter_map(Kept::read);
    let mut keys = Keys {
        external_accounts: true,
        ..Keys::default()
    };
    for kept in kept.filter(|kept| all || kept.active == Some(false)) {
        if let Ok(email) = EmailAddress::parse(&kept.email) {
            keys.emails.insert((tenant, email.key().to_owned()));
        }
        keys.external_ids.extend(kept.external_id.map(|id| (tenant, id)));
    }
    (!keys.emails.is_empty()).then_some(keys)
}

/// A row that is to be tried again: what its names stood for may be there by now.
pub(crate) fn again(item: ItemInput, names: &Names) -> ItemInput {
    let Some(mut kept) = Kept::read(&item).filter(|kept| !kept.missing.is_empty()) else {
        return item;
    };
    kept.find(names);
    ItemInput {
        row: serde_json::to_value(kept).ok(),
        ..item
    }
}

/// Deals with one row. Refused, it leaves no trace but its outcome.
pub(crate) fn deal(
    how: How<'_>,
    item: &ItemInput,
    world: &mut World,
    asking: &mut Asking<'_>,
    act: &Act,
    changes: &mut Changeset,
) -> ItemResult {
    if item.row.is_none() {
        return ItemResult {
            reason: "USER_ERASED".into(),
            message: "the person was erased meanwhile".into(),
            ..ItemResult::new(item, ItemOutcome::Skipped)
        };
    }
    let Some(mut kept) = Kept::read(item) else {
        return bulk::failed(item);
    };
    let missing = std::mem::take(&mut kept.missing).into_iter();
    let missing = missing.map(|missing| (missing.column, missing.reason));
    let mut faults = std::mem::take(&mut kept.faults).into_iter().chain(missing).peekable();
    if faults.peek().is_some() {
        let (column, message) = faults.next().unwrap_or_default();
        return ItemResult {
            reason: "INVALID_FIELDS".into(),
            column,
            message,
            further: faults.collect(),
            address: kept.email,
            ..ItemResult::new(item, ItemOutcome::Failed)
        };
    }
    let rowing = Rowing { how, kept: &kept, act };
    let done = rowing.row(world, asking, changes);
    tell_of_item(changes, (how.tenant, rowing.found(world)), &done);
    match done {
        Ok((user, detail)) if detail.is_empty() => ItemResult {
            user,
            detail: "already there".into(),
            ..ItemResult::new(item, ItemOutcome::Unchanged)
        },
        Ok((user, detail)) => ItemResult {
            user,
            detail: detail.join(", "),
            undo: user.and_then(|user| how.undo(user, world)),
            ..ItemResult::new(item, ItemOutcome::Changed)
        },
        Err(refusal) => ItemResult {
            address: kept.email,
            ..refused(item, &refusal, how.heads)
        },
    }
}

/// The outcome of a row that was refused, with the column at fault as the file calls it.
fn refused(item: &ItemInput, refusal: &Refusal, heads: &ImportHeads) -> ItemResult {
    let told = bulk::refused(item, refusal);
    let (column, message) = match refusal {
        Refusal::EmailTaken(_) | Refusal::AddressSuppressed(_) => (heads.email.clone(), told.message),
        Refusal::ExternalIdTaken(_) => (heads.external_id.clone(), told.message),
        Refusal::InvalidFields(faults) => match faults.first() {
            Some(fault) if fault.field == EXPIRES => (heads.expires.clone(), fault.description.clone()),
            Some(fault) if fault.field == DELETES => (heads.deletes.clone(), fault.description.clone()),
            _ => (String::new(), told.message),
        },
        _ => (String::new(), told.message),
    };
    ItemResult {
        column,
        message,
        ..told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_kept_row_comes_back_and_tells_cleared_from_left_alone() {
        for expires in [None, Some(None), Some(Some(at(1_800_000_000)))] {
            let kept = Kept {
                email: "ana@example.org".into(),
                expires,
                ..Kept::default()
            };
            let value = serde_json::to_value(&kept).unwrap();
            assert_eq!(serde_json::from_value::<Kept>(value).unwrap(), kept);
        }
    }
}
