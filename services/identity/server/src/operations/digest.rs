//! Whom administrators are told of before these expire (B9): looked up as the mail is written, and kept nowhere.

use std::collections::{BTreeMap, BTreeSet};

use usher_content::Expiring;
use usher_core::administrators::{Administrators, Person};
use usher_core::clock::Timestamp;
use usher_core::delivery::Delivery;
use usher_core::group::GroupTree;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{Directory, StoreError, WarnedQuery};
use usher_core::status::Status;
use usher_core::user::User;

/// People that a mail names.
const NAMED: usize = 20;
/// People of one page.
const PAGE: u32 = 1_000;
/// Pages that are counted: of whom there are more, so many are told of.
const PAGES: u32 = 20;

/// What a mail to an administrator tells.
#[derive(Default)]
pub(crate) struct Digest {
    /// The first to expire.
    pub people: Vec<Expiring>,
    /// How many there are in all.
    pub count: usize,
}

/// Whom a mail is about at this moment; `None`: nobody any more.
pub(crate) async fn digest<S: Directory + ?Sized>(
    store: &S,
    administrator: UserId,
    mail: &Delivery,
    now: Timestamp,
) -> Result<Option<Digest>, StoreError> {
    let tenant = mail.tenant;
    let all = administrators(store, tenant, now).await?;
    let mut query = WarnedQuery {
        tenant,
        administrator,
        since: mail.created_at,
        groups: all.groups_of(administrator),
        after: None,
        limit: PAGE,
        now,
    };
    let (mut named, mut count) = (Vec::new(), 0);
    for _ in 0..PAGES {
        let page = store.people_warned(&query).await?;
        let ids: Vec<_> = page.iter().map(|(user, _)| *user).collect();
        let people = with_groups(store, tenant, &ids).await?;
        for ((user, at), person) in page.iter().zip(&people) {
            if all.of(person).contains(&administrator) {
                count += 1;
                named.extend((named.len() < NAMED).then_some((*user, *at)));
            }
        }
        query.after = page.last().map(|(user, at)| (*at, *user));
        if page.len() < PAGE as usize {
            break;
        }
    }
    let people = names(store, tenant, &named, now).await?;
    // Who left since the page was read is not told of.
    let gone = named.len() - people.len();
    let count = count - gone;
    Ok((count > 0).then_some(Digest { people, count }))
}

/// The able administrators of a tenant.
pub(crate) async fn administrators<S: Directory + ?Sized>(
    store: &S,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Administrators, StoreError> {
    let groups = store.groups(tenant).await?;
    let tree = GroupTree::new(groups.iter().map(|group| (group.id, group.parent)));
    Ok(Administrators::new(tree, store.administrators(tenant, now).await?))
}

/// These people, in their order, with their groups.
pub(crate) async fn with_groups<S: Directory + ?Sized>(
    store: &S,
    tenant: TenantId,
    people: &[UserId],
) -> Result<Vec<Person>, StoreError> {
    let keys: Vec<_> = people.iter().map(|user| (tenant, *user)).collect();
    let mut belongings = store.belongings(&keys).await?;
    let groups = |key: &(TenantId, UserId)| belongings.remove(key).map_or_else(BTreeSet::new, |found| found.groups);
    let groups: Vec<_> = keys.iter().map(groups).collect();
    Ok(people.iter().copied().zip(groups).collect())
}

async fn names<S: Directory + ?Sized>(
    store: &S,
    tenant: TenantId,
    named: &[(UserId, Timestamp)],
    now: Timestamp,
) -> Result<Vec<Expiring>, StoreError> {
    let keys: Vec<_> = named.iter().map(|(user, _)| (tenant, *user)).collect();
    let found = store.users(&keys).await?;
    let found: BTreeMap<_, _> = found.iter().map(|user| (user.id, user)).collect();
    let people = named.iter().filter_map(|(id, at)| {
        let holds = |user: &&&User| user.expires_at == Some(*at) && user.effective_status(now) == Status::ACTIVE;
        let user = found.get(id).filter(holds)?;
        Some(Expiring {
            name: name(user),
            expires_at: *at,
        })
    });
    Ok(people.collect())
}

fn name(user: &User) -> String {
    let name = format!("{} {}", user.profile.first_name, user.profile.last_name);
    match name.trim() {
        "" => user.profile.email.as_str().to_owned(),
        name => name.to_owned(),
    }
}
