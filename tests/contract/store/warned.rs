//! Administrators, and the people whom they are told of before these expire (B9).

use std::collections::BTreeSet;

use anyhow::Result;
use usher_core::change::Changeset;
use usher_core::delivery::{Delivery, DeliveryKind};
use usher_core::ids::{DeliveryId, GroupId, UserId};
use usher_core::ports::{Directory as _, WarnedQuery};
use usher_core::role::{Assignment, BuiltInRole, RoleRef, Scope};
use usher_core::status::Status;
use usher_core::user::User;
use uuid::Uuid;

use super::on_both;
use super::stage::{Stage, creating};

on_both! {
    only_administrators_who_are_active_and_get_mail_are_found_with_all_their_scopes,
    people_are_told_of_while_the_warning_holds_in_the_mail_of_its_time_and_page_by_page,
}

fn active(stage: &Stage, name: &str) -> User {
    let mut user = stage.person(name);
    user.status = Status::ACTIVE;
    user
}

/// B9
async fn only_administrators_who_are_active_and_get_mail_are_found_with_all_their_scopes(stage: Stage) -> Result<()> {
    let group = Scope::Group(GroupId(Uuid::from_u128(7)));
    let able = active(&stage, "able");
    let mut expired = active(&stage, "expired");
    expired.expires_at = Some(stage.now);
    let (pending, silenced, coach) = (
        stage.person("pending"),
        active(&stage, "silenced"),
        active(&stage, "coach"),
    );
    let mut changes = creating([&able, &expired, &pending, &silenced, &coach]);
    changes.suppress(stage.tenant, &silenced.profile.email, "550 5.1.1", stage.now);
    let mut give = |user: &User, role, scope: &Scope| {
        let held = Assignment {
            tenant: stage.tenant,
            user: user.id,
            role: RoleRef::BuiltIn(role),
            scope: scope.clone(),
        };
        changes.assignments.insert(held, true);
    };
    for user in [&able, &expired, &pending, &silenced] {
        give(user, BuiltInRole::Administrator, &group);
    }
    give(&able, BuiltInRole::Administrator, &Scope::Platform);
    give(&coach, BuiltInRole::Coach, &group);
    stage.write(changes).await?;
    let mut found = stage.store.administrators(stage.tenant, stage.now).await?;
    found.sort();
    assert_eq!(found, [(able.id, Scope::Platform), (able.id, group)]);
    Ok(())
}

fn mail(stage: &Stage, user: &User, kind: DeliveryKind, at: i64) -> Delivery {
    let created = stage.after(at);
    Delivery {
        id: DeliveryId::mint(created),
        invitation: None,
        kind,
        created_at: created,
        give_up_at: user.expires_at.unwrap_or(stage.after(900)),
        ..stage.mail(&stage.invitation(user))
    }
}

/// B9
async fn people_are_told_of_while_the_warning_holds_in_the_mail_of_its_time_and_page_by_page(
    stage: Stage,
) -> Result<()> {
    let expiring = |name: &str, at: i64| {
        let mut user = active(&stage, name);
        user.expires_at = Some(stage.after(at));
        user
    };
    let root = active(&stage, "root");
    let [late, soon, other] = [expiring("late", 500), expiring("soon", 300), expiring("other", 400)];
    let (before, gone) = (expiring("before", 310), expiring("gone", 20));
    let mut left = expiring("left", 320);
    let extended = expiring("extended", 330);
    let people = [&root, &late, &soon, &other, &before, &gone, &left, &extended];
    let mut changes = creating(people);
    let warnings = [
        (&before, 9),
        (&late, 10),
        // Two steps of one ladder: one person.
        (&late, 12),
        (&soon, 20),
        (&gone, 11),
        (&left, 13),
        (&extended, 14),
        (&other, 30),
    ];
    for (user, at) in warnings {
        let warning = mail(&stage, user, DeliveryKind::ExpiryWarning, at);
        changes.deliveries.insert((stage.tenant, warning.id), warning);
    }
    let kind = DeliveryKind::ExpiryWarningToAdministrators;
    for (to, at) in [(&root, 10), (&root, 30), (&other, 15)] {
        let digest = mail(&stage, to, kind, at);
        changes.deliveries.insert((stage.tenant, digest.id), digest);
    }
    let (one, two) = (GroupId(Uuid::from_u128(1)), GroupId(Uuid::from_u128(2)));
    changes
        .memberships
        .insert((stage.tenant, one, soon.id), Some(soon.created_at));
    changes
        .memberships
        .insert((stage.tenant, two, late.id), Some(late.created_at));
    stage.write(changes).await?;
    left.status = Status::Erased;
    let moved = User {
        expires_at: Some(stage.after(900)),
        ..extended
    };
    let mut changes = Changeset::default();
    for user in [left, moved] {
        changes.users.insert((user.tenant, user.id), user);
    }
    stage.write(changes).await?;

    let query = WarnedQuery {
        tenant: stage.tenant,
        administrator: root.id,
        since: stage.after(10),
        groups: None,
        after: None,
        limit: 10,
        now: stage.after(20),
    };
    let found = async |query: WarnedQuery| -> Result<Vec<UserId>> {
        let page = stage.store.people_warned(&query).await?;
        Ok(page.into_iter().map(|(user, _)| user).collect())
    };
    assert_eq!(found(query.clone()).await?, [soon.id, late.id]);
    let first = WarnedQuery {
        limit: 1,
        ..query.clone()
    };
    let page = stage.store.people_warned(&first).await?;
    assert_eq!(page, [(soon.id, stage.after(300))]);
    let second = WarnedQuery {
        after: Some((stage.after(300), soon.id)),
        ..query.clone()
    };
    assert_eq!(found(second).await?, [late.id]);
    let next = WarnedQuery {
        since: stage.after(30),
        ..query.clone()
    };
    assert_eq!(found(next).await?, [other.id]);
    for (groups, expected) in [
        (BTreeSet::from([two]), vec![late.id]),
        (BTreeSet::from([one, two]), vec![soon.id, late.id]),
        (BTreeSet::new(), vec![]),
    ] {
        let of_groups = WarnedQuery {
            groups: Some(groups),
            ..query.clone()
        };
        assert_eq!(found(of_groups).await?, expected);
    }
    Ok(())
}
