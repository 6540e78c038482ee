//! Groups, roles, seats and sign-ins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection};
use usher_core::account::{seat_timer, wake_waiting};
use usher_core::change::{Act, Changeset};
use usher_core::event::EventType;
use usher_core::group::Group;
use usher_core::ids::{GroupId, RoleId, UserId};
use usher_core::ports::{
    Activity, AssignmentQuery, Directory as _, GroupQuery, Keys, Store as _, Timers as _, UserOrder, UserQuery,
};
use usher_core::role::{Assignment, BuiltInRole, CustomRole, Permission, RoleRef, Scope};
use usher_core::seats::SeatEntry;
use usher_core::status::Status;
use usher_core::user::{Engagement, User};
use usher_tests::environment::eventually;
use uuid::Uuid;

use super::on_both;
use super::stage::{Stage, creating};

on_both! {
    groups_come_back_are_listed_by_name_and_go_with_what_is_in_them,
    roles_come_back_are_held_in_scopes_and_known_to_be_held,
    seats_add_up_and_whoever_expired_takes_none,
    users_are_found_by_group_role_activity_and_waiting,
    a_sign_in_is_written_beside_the_account_and_never_backwards,
    many_sign_ins_are_one_statement_and_each_counts_for_itself,
    users_are_found_by_how_far_they_came,
}

fn group(stage: &Stage, name: &str, parent: Option<GroupId>) -> Group {
    Group {
        tenant: stage.tenant,
        id: GroupId::mint(stage.now),
        version: 1,
        name: name.into(),
        external_id: Some(format!("X-{name}")),
        parent,
        created_at: stage.now,
        updated_at: stage.now,
    }
}

async fn put(stage: &Stage, groups: &[&Group]) -> Result<()> {
    let mut changes = Changeset::default();
    for group in groups {
        changes.groups.insert((group.tenant, group.id), (*group).clone());
    }
    Ok(stage.write(changes).await?)
}

async fn join(stage: &Stage, group: GroupId, users: &[&User], added: bool) -> Result<()> {
    let mut changes = Changeset::default();
    for user in users {
        let membership = added.then_some(user.created_at);
        changes.memberships.insert((stage.tenant, group, user.id), membership);
    }
    Ok(stage.write(changes).await?)
}

fn held(stage: &Stage, user: &User, role: RoleRef, scope: Scope) -> Assignment {
    Assignment {
        tenant: stage.tenant,
        user: user.id,
        role,
        scope,
    }
}

fn every_group(stage: &Stage) -> GroupQuery {
    GroupQuery {
        tenant: stage.tenant,
        parent: None,
        member: None,
        among: None,
        text: String::new(),
        after: None,
        limit: 100,
    }
}

/// U2
async fn groups_come_back_are_listed_by_name_and_go_with_what_is_in_them(stage: Stage) -> Result<()> {
    let school = group(&stage, "Ünited School", None);
    let year = group(&stage, "Année 7", Some(school.id));
    put(&stage, &[&school, &year]).await?;
    let (ana, bo) = (stage.person("ana"), stage.person("bo"));
    stage.write(creating([&ana, &bo])).await?;
    join(&stage, year.id, &[&ana, &bo], true).await?;
    // Twice is once.
    join(&stage, year.id, &[&ana], true).await?;
    let coach = held(
        &stage,
        &ana,
        RoleRef::BuiltIn(BuiltInRole::Coach),
        Scope::Group(year.id),
    );
    let mut changes = Changeset::default();
    changes.assignments.insert(coach, true);
    stage.write(changes).await?;

    let listed = stage.store.list_groups(&every_group(&stage)).await?;
    assert_eq!(
        listed,
        [year.clone(), school.clone()],
        "in the order of their folded names"
    );
    let of_ana = GroupQuery {
        member: Some(ana.id),
        ..every_group(&stage)
    };
    assert_eq!(stage.store.list_groups(&of_ana).await?, std::slice::from_ref(&year));
    let found = GroupQuery {
        text: "annee".into(),
        ..every_group(&stage)
    };
    assert_eq!(stage.store.list_groups(&found).await?, std::slice::from_ref(&year));
    let keys = Keys {
        users: [(stage.tenant, ana.id)].into(),
        groups: [(stage.tenant, year.id), (stage.tenant, GroupId(Uuid::nil()))].into(),
        with_belonging: true,
        ..Keys::default()
    };
    let loaded = stage.load(&keys).await?;
    assert_eq!(loaded.groups.len(), 1);
    let belonging = &loaded.accounts[&(stage.tenant, ana.id)].belonging;
    assert_eq!((belonging.groups.len(), belonging.roles.len()), (1, 1));

    join(&stage, year.id, &[&bo], false).await?;
    let mut changes = Changeset::default();
    changes.deleted_groups.insert((stage.tenant, year.id));
    stage.write(changes).await?;
    assert_eq!(stage.store.groups(stage.tenant).await?, [school]);
    assert!(
        stage
            .store
            .belongings(&[(stage.tenant, ana.id), (stage.tenant, bo.id)])
            .await?
            .is_empty()
    );
    Ok(())
}

/// U1
async fn roles_come_back_are_held_in_scopes_and_known_to_be_held(stage: Stage) -> Result<()> {
    let role = CustomRole {
        tenant: stage.tenant,
        id: RoleId::mint(stage.now),
        version: 1,
        name: "Helpdesk".into(),
        permissions: vec![Permission::UsersRead, Permission::UsersExplain],
        created_at: stage.now,
    };
    let (ana, bo) = (stage.person("ana"), stage.person("bo"));
    stage.write(creating([&ana, &bo])).await?;
    let custom = RoleRef::Custom(role.id);
    let session = Scope::Session("spring 2027".into());
    let mut changes = Changeset::default();
    changes.roles.insert((stage.tenant, role.id), role.clone());
    for assignment in [
        held(&stage, &ana, custom, Scope::Platform),
        held(&stage, &ana, RoleRef::BuiltIn(BuiltInRole::Instructor), session.clone()),
        held(&stage, &bo, custom, session.clone()),
    ] {
        changes.assignments.insert(assignment, true);
    }
    stage.write(changes).await?;

    assert_eq!(stage.store.roles(stage.tenant).await?, std::slice::from_ref(&role));
    let all = AssignmentQuery {
        tenant: stage.tenant,
        user: None,
        scope: None,
        role: None,
        after: None,
        limit: 2,
    };
    let first = stage.store.list_assignments(&all).await?;
    let rest = AssignmentQuery {
        after: first.last().cloned(),
        ..all.clone()
    };
    let rest = stage.store.list_assignments(&rest).await?;
    assert_eq!((first.len(), rest.len()), (2, 1), "pages go on after the last one");
    let in_session = AssignmentQuery {
        scope: Some(session.clone()),
        role: Some(custom),
        ..all
    };
    assert_eq!(
        stage.store.list_assignments(&in_session).await?,
        [held(&stage, &bo, custom, session.clone())]
    );
    let keys = Keys {
        tenants: [stage.tenant].into(),
        roles: [stage.tenant].into(),
        role_holders: [(stage.tenant, custom)].into(),
        ..Keys::default()
    };
    assert_eq!(stage.load(&keys).await?.held_roles.len(), 1);

    let mut changes = Changeset::default();
    changes
        .assignments
        .insert(held(&stage, &ana, custom, Scope::Platform), false);
    changes.assignments.insert(held(&stage, &bo, custom, session), false);
    changes.deleted_roles.insert((stage.tenant, role.id));
    stage.write(changes).await?;
    assert!(stage.store.roles(stage.tenant).await?.is_empty());
    assert!(stage.load(&keys).await?.held_roles.is_empty());
    Ok(())
}

fn seat(stage: &Stage, user: &User, change: i64) -> SeatEntry {
    SeatEntry {
        tenant: stage.tenant,
        user: user.id,
        at: stage.now,
        change,
        cause: if change > 0 {
            EventType::UserActivated
        } else {
            EventType::UserDeactivated
        },
        actor: "head-office".into(),
    }
}

/// U8, B13
async fn seats_add_up_and_whoever_expired_takes_none(stage: Stage) -> Result<()> {
    let mut ana = stage.person("ana");
    ana.status = Status::ACTIVE;
    let mut bo = stage.person("bo");
    bo.status = Status::ACTIVE;
    bo.expires_at = Some(stage.after(60));
    let mut cy = stage.person("cy");
    cy.seat_waiting_since = Some(stage.now);
    stage.write(creating([&ana, &bo, &cy])).await?;
    let changes = Changeset {
        seats: vec![
            seat(&stage, &ana, 1),
            seat(&stage, &cy, 1),
            seat(&stage, &bo, 1),
            seat(&stage, &cy, -1),
        ],
        ..Changeset::default()
    };
    stage.write(changes).await?;

    let usage = stage
        .store
        .seat_usage(stage.tenant, stage.now, stage.after(3_600))
        .await?;
    assert_eq!((usage.used, usage.waiting, usage.expiring), (2, 1, 1));
    let later = stage
        .store
        .seat_usage(stage.tenant, stage.after(60), stage.after(3_600))
        .await?;
    assert_eq!((later.used, later.expiring), (1, 0), "at the instant of the expiration");
    let ledger = stage.store.seat_ledger(stage.tenant, None, None, 3).await?;
    let older = stage
        .store
        .seat_ledger(stage.tenant, None, ledger.last().map(|(place, _)| *place), 3)
        .await?;
    let lines: Vec<i64> = ledger.iter().chain(&older).map(|(_, entry)| entry.change).collect();
    assert_eq!(lines, [-1, 1, 1, 1], "the newest first");
    assert_eq!(lines.iter().sum::<i64>(), 2);
    let of_cy = stage.store.seat_ledger(stage.tenant, Some(cy.id), None, 10).await?;
    assert_eq!(of_cy.len(), 2);
    assert_eq!(stage.store.seat_queue(stage.tenant, stage.now, 10).await?, [cy.id]);

    let mut tenant = stage.new_tenant(stage.tenant);
    tenant.created_tenants.clear();
    for settings in tenant.tenants.values_mut() {
        Arc::make_mut(settings).settings.seat_limit = 5;
    }
    stage.write(tenant).await?;
    let seats = async |now| -> Result<i64> {
        let keys = Keys {
            users: [(stage.tenant, ana.id)].into(),
            with_seats: Some(now),
            ..Keys::default()
        };
        Ok(stage.load(&keys).await?.accounts[&(stage.tenant, ana.id)]
            .seats
            .counts()
            .used)
    };
    assert_eq!((seats(stage.now).await?, seats(stage.after(60)).await?), (2, 1));
    Ok(())
}

/// U8: whoever holds the seats may clear the timer for those who wait, while somebody gives a seat back and sets it.
#[tokio::test]
async fn a_seat_given_back_while_seats_are_handed_out_wakes_those_who_wait() -> Result<()> {
    let stage = Stage::postgres().await?;
    let ana = stage.person("ana");
    let mut given_out = creating([&ana]);
    given_out.seats.push(seat(&stage, &ana, 1));
    stage.write(given_out).await?;
    let mut tenant = stage.new_tenant(stage.tenant);
    tenant.created_tenants.clear();
    for settings in tenant.tenants.values_mut() {
        Arc::make_mut(settings).settings.seat_limit = 1;
    }
    let tenant_now = tenant.tenants[&stage.tenant].clone();
    let act = Act::by_usher(stage.now, "a seat was free");
    wake_waiting(&tenant_now, &act, &mut tenant);
    stage.write(tenant).await?;

    let keys = Keys {
        tenants: [stage.tenant].into(),
        with_seats: Some(stage.now),
        ..Keys::default()
    };
    let mut handing_out = stage.store.begin().await?;
    handing_out.load(&keys).await?;
    let mut back = Changeset::default();
    back.users.insert((stage.tenant, ana.id), ana.clone());
    back.seats.push(seat(&stage, &ana, -1));
    wake_waiting(&tenant_now, &act, &mut back);
    let replica = stage.replica().await?;
    let giving_back = tokio::spawn(async move {
        let mut transaction = replica.begin().await?;
        transaction.apply(&back).await?;
        transaction.commit().await
    });
    let mut looking = PgConnection::connect(stage.config.url.expose_secret()).await?;
    eventually("it waits for the seats", Duration::from_secs(30), async || {
        let waiting =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut looking).await.ok()?;
        (waiting > 0).then_some(())
    })
    .await?;
    let mut nobody_more = Changeset::default();
    nobody_more.clear_timer(seat_timer(&tenant_now));
    handing_out.apply(&nobody_more).await?;
    handing_out.commit().await?;
    giving_back.await??;
    let woken = stage.store.take_due(stage.now, 10).await?;
    assert_eq!(
        woken.iter().map(|timer| timer.key).collect::<Vec<_>>(),
        [seat_timer(&tenant_now)]
    );
    Ok(())
}

/// U3
async fn users_are_found_by_group_role_activity_and_waiting(stage: Stage) -> Result<()> {
    let choir = group(&stage, "Choir", None);
    put(&stage, &[&choir]).await?;
    let ana = stage.person("ana");
    let mut bo = stage.person("bo");
    bo.last_login_at = Some(stage.after(-3_600));
    let mut cy = stage.person("cy");
    cy.last_login_at = Some(stage.after(-60));
    cy.seat_waiting_since = Some(stage.now);
    stage.write(creating([&ana, &bo, &cy])).await?;
    join(&stage, choir.id, &[&ana, &cy], true).await?;
    let coach = RoleRef::BuiltIn(BuiltInRole::Coach);
    let mut changes = Changeset::default();
    changes
        .assignments
        .insert(held(&stage, &bo, coach, Scope::Group(choir.id)), true);
    stage.write(changes).await?;

    let base = UserQuery::all(stage.tenant, stage.now);
    let listed = async |query: UserQuery| -> Result<BTreeSet<UserId>> {
        let listed = stage.store.list_users(&query).await?;
        Ok(listed.iter().map(|user| user.id).collect())
    };
    let with = |change: fn(&mut UserQuery, GroupId), query: &UserQuery| {
        let mut query = query.clone();
        change(&mut query, choir.id);
        query
    };
    let in_group = with(|query, choir| query.groups = vec![choir], &base);
    assert_eq!(listed(in_group).await?, [ana.id, cy.id].into());
    let coaches = UserQuery {
        roles: vec![coach],
        ..base.clone()
    };
    assert_eq!(listed(coaches).await?, [bo.id].into());
    let never = UserQuery {
        activity: Activity::NeverLoggedIn,
        ..base.clone()
    };
    assert_eq!(listed(never).await?, [ana.id].into());
    let inactive = UserQuery {
        activity: Activity::InactiveSince(stage.after(-600)),
        ..base.clone()
    };
    assert_eq!(listed(inactive).await?, [bo.id].into());
    let waiting = UserQuery {
        waiting_for_seat: true,
        ..base.clone()
    };
    assert_eq!(listed(waiting).await?, [cy.id].into());
    let by_login = UserQuery {
        order: UserOrder::LastLogin,
        ..base
    };
    let order: Vec<UserId> = stage
        .store
        .list_users(&by_login)
        .await?
        .iter()
        .map(|user| user.id)
        .collect();
    assert_eq!(order, [ana.id, bo.id, cy.id], "who never signed in comes first");
    Ok(())
}

/// U3
async fn a_sign_in_is_written_beside_the_account_and_never_backwards(stage: Stage) -> Result<()> {
    let ana = stage.person("ana");
    stage.write(creating([&ana])).await?;
    let sign_in = async |at| -> Result<Option<User>> {
        let mut changes = Changeset::default();
        changes.put_login(stage.tenant, ana.id, at);
        stage.write(changes).await?;
        Ok(stage.user(ana.id).await?)
    };
    let read = sign_in(stage.after(60)).await?;
    assert_eq!(
        read.map(|user| (user.version, user.last_login_at)),
        Some((ana.version, Some(stage.after(60))))
    );
    let read = sign_in(stage.after(30)).await?;
    assert_eq!(read.and_then(|user| user.last_login_at), Some(stage.after(60)));
    // Together with a change of the account itself, both are written.
    let mut after = stage.user(ana.id).await?.unwrap_or_else(|| ana.clone());
    after.version += 1;
    let mut changes = Changeset::default();
    changes.put_login(stage.tenant, ana.id, stage.after(90));
    changes.users.insert((stage.tenant, ana.id), after);
    stage.write(changes).await?;
    let read = stage.user(ana.id).await?;
    assert_eq!(
        read.map(|user| (user.version, user.last_login_at)),
        Some((ana.version + 1, Some(stage.after(90))))
    );
    Ok(())
}

/// U4, B10: the latest counts, and ends the warning before it.
async fn many_sign_ins_are_one_statement_and_each_counts_for_itself(stage: Stage) -> Result<()> {
    let mut people: Vec<User> = (0..4).map(|number| stage.person(&format!("p{number}"))).collect();
    for user in &mut people {
        user.last_login_at = Some(stage.after(10));
        user.inactivity_warned_at = Some(stage.after(20));
    }
    stage.write(creating(&people)).await?;
    let mut changes = Changeset::default();
    for (user, at) in people.iter().zip([5, 15, 20, 30]) {
        changes.put_login(stage.tenant, user.id, stage.after(at));
    }
    stage.write(changes).await?;
    let mut read = Vec::new();
    for user in &people {
        let user = stage.user(user.id).await?;
        read.extend(user.map(|user| (user.last_login_at, user.inactivity_warned_at)));
    }
    let warned = Some(stage.after(20));
    let at = |seconds| Some(stage.after(seconds));
    assert_eq!(
        read,
        [(at(10), warned), (at(15), warned), (at(20), None), (at(30), None)]
    );
    Ok(())
}

/// S8
async fn users_are_found_by_how_far_they_came(stage: Stage) -> Result<()> {
    let active = |name: &str| {
        let mut user = stage.person(name);
        user.status = Status::ACTIVE;
        user
    };
    let ana = active("ana");
    let mut bo = active("bo");
    bo.first_course_at = Some(stage.after(-60));
    let mut cy = active("cy");
    cy.expires_at = Some(stage.after(-1));
    let dee = stage.person("dee");
    stage.write(creating([&ana, &bo, &cy, &dee])).await?;
    for (engagement, expected) in [(Engagement::Activated, ana.id), (Engagement::Engaged, bo.id)] {
        let query = UserQuery {
            engagement: Some(engagement),
            ..UserQuery::all(stage.tenant, stage.now)
        };
        let listed = stage.store.list_users(&query).await?;
        let listed: Vec<UserId> = listed.iter().map(|user| user.id).collect();
        assert_eq!(listed, [expected], "{engagement:?}");
    }
    assert_eq!(stage.user(bo.id).await?, Some(bo));
    Ok(())
}
