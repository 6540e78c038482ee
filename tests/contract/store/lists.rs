//! Lists: filters, orders, and pages that stay stable while rows change (U3).

use std::collections::BTreeSet;

use anyhow::Result;
use usher_core::bounce::BounceKind;
use usher_core::change::Changeset;
use usher_core::delivery::{DeliveryState, DeliveryStateName};
use usher_core::event::EventType;
use usher_core::ids::{GroupId, TenantId};
use usher_core::invitation::{Invitation, InvitationState};
use usher_core::ports::{After, DeliveryQuery, Directory as _, InvitationQuery, MailRef, UserOrder, UserQuery};
use usher_core::status::{Onboarding, Status, StatusName};
use usher_core::text::fold;
use usher_core::user::{User, name_key};

use super::on_both;
use super::stage::{Stage, address, creating, inviting, mailing, telling};

on_both! {
    users_are_listed_in_every_order_page_by_page,
    pages_skip_nobody_and_repeat_nobody_while_rows_change,
    users_are_filtered_by_the_status_that_counts_now,
    users_are_filtered_by_labels_languages_and_text,
    invitations_are_listed_newest_first_by_the_state_that_counts_now,
    mails_are_listed_newest_first_by_user_and_state,
    suppressions_are_listed_newest_first,
    the_mail_that_a_report_is_about_is_found,
    the_history_of_an_account_is_told_newest_first,
}

fn all(stage: &Stage) -> UserQuery {
    UserQuery {
        limit: 100,
        ..UserQuery::all(stage.tenant, stage.now)
    }
}

fn instant_key(at: usher_core::clock::Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn after(user: &User, order: UserOrder) -> After {
    let key = match order {
        UserOrder::Name => name_key(&user.profile),
        UserOrder::Email => user.profile.email.key().to_owned(),
        UserOrder::LastLogin => instant_key(user.last_login_at.unwrap_or_default()),
        UserOrder::Created => instant_key(user.created_at),
    };
    After { key, id: user.id.0 }
}

async fn walk(stage: &Stage, mut query: UserQuery) -> Result<Vec<User>> {
    let mut users = Vec::new();
    loop {
        let page = stage.store.list_users(&query).await?;
        assert!(page.len() <= query.limit as usize);
        let Some(last) = page.last() else { return Ok(users) };
        query.after = Some(after(last, query.order));
        users.extend(page);
    }
}

/// Names in several scripts, two of them the same.
fn people(stage: &Stage) -> Vec<User> {
    let names = [
        ("Zoë", "Ångström"),
        ("Ana", "de la Cruz"),
        ("ana", "De la cruz"),
        ("山田", "太郎"),
        ("", ""),
        ("محمد", "علي"),
        ("Ben", "Ångström"),
    ];
    let mut people = Vec::new();
    for (number, (first, last)) in (0_i64..).zip(names) {
        let mut user = stage.person(&format!("p{}", (number * 5) % 7));
        user.profile.first_name = first.into();
        user.profile.last_name = last.into();
        // Two of them at the same instant.
        user.created_at = stage.after((number * 3) % 7 / 2);
        people.push(user);
    }
    people
}

async fn users_are_listed_in_every_order_page_by_page(stage: Stage) -> Result<()> {
    let people = people(&stage);
    let (choir, band) = (GroupId::mint(stage.now), GroupId::mint(stage.now));
    let of_choir = |number: &usize| number % 3 != 1;
    let of_band = |number: &usize| number % 2 == 1;
    let mut changes = creating(&people);
    for (number, user) in people.iter().enumerate() {
        for (group, is_in) in [(choir, of_choir(&number)), (band, of_band(&number))] {
            let key = (stage.tenant, group, user.id);
            changes
                .memberships
                .extend(is_in.then_some((key, Some(user.created_at))));
        }
    }
    stage.write(changes).await?;
    let everybody: Vec<usize> = (0..people.len()).collect();
    let filtered = |of: &dyn Fn(&usize) -> bool| everybody.iter().copied().filter(of).collect();
    let asked = [
        (vec![], everybody.clone()),
        (vec![choir], filtered(&of_choir)),
        (
            vec![choir, band],
            filtered(&|number| of_choir(number) || of_band(number)),
        ),
    ];
    for order in [UserOrder::Name, UserOrder::Email, UserOrder::Created] {
        let ways = asked.iter().flat_map(|asked| [(false, asked), (true, asked)]);
        for (descending, (groups, members)) in ways {
            // Byte by byte, as both databases have to.
            let mut expected: Vec<After> = members.iter().map(|number| after(&people[*number], order)).collect();
            expected.sort_by(|a, b| (a.key.as_bytes(), a.id).cmp(&(b.key.as_bytes(), b.id)));
            if descending {
                expected.reverse();
            }
            let query = UserQuery {
                order,
                descending,
                groups: groups.clone(),
                limit: 3,
                ..all(&stage)
            };
            let listed: Vec<After> = walk(&stage, query)
                .await?
                .iter()
                .map(|user| after(user, order))
                .collect();
            assert_eq!(listed, expected, "{order:?} {descending} {groups:?}");
        }
    }
    Ok(())
}

async fn pages_skip_nobody_and_repeat_nobody_while_rows_change(stage: Stage) -> Result<()> {
    let people: Vec<User> = (0..30).map(|number| stage.person(&format!("m{number:02}"))).collect();
    stage.write(creating(&people)).await?;
    let mut query = UserQuery {
        order: UserOrder::Email,
        limit: 4,
        ..all(&stage)
    };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = stage.store.list_users(&query).await?;
        let Some(last) = page.last() else { break };
        query.after = Some(after(last, query.order));
        seen.extend(page.iter().map(|user| user.profile.email.key().to_owned()));
        // Somebody comes before and somebody behind the place, and the last one of the page is erased.
        let mut gone = last.clone();
        gone.status = Status::Erased;
        let mut changes = creating([
            &stage.person(&format!("a{round}")),
            &stage.person(&format!("z{round:02}")),
        ]);
        changes.users.insert((gone.tenant, gone.id), gone);
        if round < 8 {
            stage.write(changes).await?;
        }
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nobody twice");
    for person in &people {
        assert!(
            distinct.contains(&person.profile.email.key().to_owned()),
            "nobody skipped"
        );
    }
    assert!(
        seen.contains(&"z07@example.org".to_owned()),
        "who came behind the place is there"
    );
    assert!(!seen.contains(&"a0@example.org".to_owned()));
    Ok(())
}

/// S5: the clock decides, not the row.
async fn users_are_filtered_by_the_status_that_counts_now(stage: Stage) -> Result<()> {
    let mut users = Vec::new();
    let mut add = |name: &str, status: Status, expires_in: Option<i64>| {
        let mut user = stage.person(name);
        user.status = status;
        user.expires_at = expires_in.map(|seconds| stage.after(seconds));
        users.push(user);
    };
    let deactivated = Status::Deactivated {
        restores: Onboarding::Active,
    };
    add("pending", Status::PENDING, None);
    add("invited", Status::Onboarding(Onboarding::Invited), Some(60));
    add("active", Status::ACTIVE, Some(1));
    add("due", Status::ACTIVE, Some(0));
    add("deactivated", deactivated, None);
    add("deactivated-due", deactivated, Some(-1));
    add("expired", Status::ACTIVE.expired().expect("it can"), Some(-60));
    add("erased", Status::Erased, Some(-60));
    stage.write(creating(&users)).await?;
    for seconds in [0, 1, 60] {
        let now = stage.after(seconds);
        for status in StatusName::ALL {
            let query = UserQuery {
                statuses: vec![status],
                now,
                limit: 2,
                ..all(&stage)
            };
            let listed: BTreeSet<_> = walk(&stage, query).await?.iter().map(|user| user.id).collect();
            let expected: BTreeSet<_> = users
                .iter()
                .filter(|user| user.effective_status(now).name() == status)
                .map(|user| user.id)
                .collect();
            assert_eq!(listed, expected, "{status:?} after {seconds} s");
        }
    }
    let query = UserQuery {
        statuses: vec![StatusName::Pending, StatusName::Erased],
        ..all(&stage)
    };
    assert_eq!(walk(&stage, query).await?.len(), 2);
    assert_eq!(walk(&stage, all(&stage)).await?.len(), 7, "all but the erased one");
    Ok(())
}

async fn users_are_filtered_by_labels_languages_and_text(stage: Stage) -> Result<()> {
    let mut ana = stage.person("ana.cruz");
    ana.profile.first_name = "Ána".into();
    ana.profile.last_name = "de la Cruz".into();
    ana.profile.labels = vec!["3\"B".into(), "théâtre".into()];
    ana.profile.language = "es".into();
    let mut zoe = stage.person("zoe_100%");
    zoe.profile.first_name = "Zoë".into();
    zoe.profile.labels = vec!["théâtre".into()];
    zoe.profile.language = "fr-CA".into();
    stage.write(creating([&ana, &zoe])).await?;
    let listed = async |query: UserQuery| -> Result<Vec<&str>> {
        let users = walk(&stage, query).await?;
        Ok(users
            .iter()
            .map(|user| if user.id == ana.id { "ana" } else { "zoe" })
            .collect())
    };
    let labels = |labels: &[&str]| UserQuery {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        order: UserOrder::Email,
        ..all(&stage)
    };
    assert_eq!(listed(labels(&["théâtre"])).await?, ["ana", "zoe"]);
    assert_eq!(listed(labels(&["théâtre", "3\"B"])).await?, ["ana"]);
    assert!(listed(labels(&["3"])).await?.is_empty(), "a label is whole");
    assert!(listed(labels(&["3\"B", "other"])).await?.is_empty());
    let languages = |languages: &[&str]| UserQuery {
        languages: languages.iter().map(|language| (*language).to_owned()).collect(),
        ..all(&stage)
    };
    assert_eq!(listed(languages(&["fr-CA", "de"])).await?, ["zoe"]);
    let text = |text: &str| UserQuery {
        text: fold(text),
        ..all(&stage)
    };
    for (typed, expected) in [
        ("CRUZ", vec!["ana"]),
        ("ána", vec!["ana"]),
        ("la cruz ana", vec!["ana"]),
        ("zoe", vec!["zoe"]),
        ("example.org", vec!["ana", "zoe"]),
        ("_100%", vec!["zoe"]),
        ("z%", vec![]),
        ("z_e", vec![]),
        ("\\", vec![]),
        ("' OR 1=1 --", vec![]),
    ] {
        let mut found = listed(text(typed)).await?;
        found.sort_unstable();
        assert_eq!(found, expected, "{typed:?}");
    }
    Ok(())
}

/// L8.
async fn invitations_are_listed_newest_first_by_the_state_that_counts_now(stage: Stage) -> Result<()> {
    let (ana, ben) = (stage.person("ana"), stage.person("ben"));
    let mut invitations: Vec<Invitation> = Vec::new();
    for (number, state) in (0_i64..).zip(InvitationState::ALL) {
        for (user, lapses_in) in [(&ana, 100), (&ben, 10)] {
            let mut invitation = stage.invitation(user);
            invitation.state = state;
            invitation.created_at = stage.after(number);
            invitation.lapses_at = stage.after(lapses_in);
            invitation.sent_at = (state != InvitationState::Queued).then(|| stage.after(number));
            invitations.push(invitation);
        }
    }
    stage.write(inviting(&invitations)).await?;
    invitations.sort_by_key(|invitation| std::cmp::Reverse((invitation.created_at, invitation.id)));
    let query = |states: &[InvitationState], now: i64| InvitationQuery {
        groups: Vec::new(),
        tenant: stage.tenant,
        states: states.to_vec(),
        user: None,
        sent_before: None,
        after: None,
        limit: 3,
        now: stage.after(now),
    };
    let walk = async |mut query: InvitationQuery| -> Result<Vec<Invitation>> {
        let mut found = Vec::new();
        loop {
            let page = stage.store.list_invitations(&query).await?;
            let Some(last) = page.last() else { return Ok(found) };
            let key = instant_key(last.created_at);
            query.after = Some(After { key, id: last.id.0 });
            found.extend(page);
        }
    };
    assert_eq!(walk(query(&[], 0)).await?, invitations);
    for now in [0, 10, 100] {
        for state in InvitationState::ALL {
            let expected: Vec<Invitation> = invitations
                .iter()
                .filter(|invitation| invitation.effective_state(stage.after(now)) == state)
                .cloned()
                .collect();
            assert_eq!(walk(query(&[state], now)).await?, expected, "{state:?} after {now} s");
        }
    }
    let open = [InvitationState::Queued, InvitationState::Sent];
    assert_eq!(walk(query(&open, 10)).await?.len(), 2);
    let of_ana = InvitationQuery {
        user: Some(ana.id),
        ..query(&[], 0)
    };
    assert_eq!(walk(of_ana).await?.len(), 7);
    let long_ago = InvitationQuery {
        sent_before: Some(stage.after(3)),
        ..query(&[], 0)
    };
    assert_eq!(walk(long_ago).await?.len(), 4);
    let elsewhere = InvitationQuery {
        tenant: TenantId::mint(stage.now),
        ..query(&[], 0)
    };
    assert!(walk(elsewhere).await?.is_empty());
    Ok(())
}

/// L16.
async fn mails_are_listed_newest_first_by_user_and_state(stage: Stage) -> Result<()> {
    let (ana, ben) = (stage.person("ana"), stage.person("ben"));
    let mut mails = Vec::new();
    for number in 0..6 {
        let user = if number % 3 == 0 { &ben } else { &ana };
        let mut mail = stage.mail(&stage.invitation(user));
        mail.created_at = stage.after(number / 2);
        if number % 2 == 0 {
            mail.state = DeliveryState::Uncertain;
        }
        mails.push(mail);
    }
    stage.write(mailing(&mails)).await?;
    mails.sort_by_key(|mail| std::cmp::Reverse((mail.created_at, mail.id)));
    let mut query = DeliveryQuery {
        groups: Vec::new(),
        tenant: stage.tenant,
        user: None,
        delivery: None,
        states: Vec::new(),
        after: None,
        limit: 4,
    };
    let first = stage.store.list_deliveries(&query).await?;
    let last = &first.last().expect("four").delivery;
    query.after = Some(After {
        key: instant_key(last.created_at),
        id: last.id.0,
    });
    let second = stage.store.list_deliveries(&query).await?;
    let listed: Vec<_> = first.into_iter().chain(second).map(|record| record.delivery).collect();
    assert_eq!(listed, mails);
    query.after = None;
    query.user = Some(ana.id);
    query.states = vec![DeliveryStateName::Uncertain];
    let found = stage.store.list_deliveries(&query).await?;
    let expected: Vec<_> = mails
        .iter()
        .filter(|mail| mail.user == Some(ana.id) && mail.state == DeliveryState::Uncertain)
        .map(|mail| mail.id)
        .collect();
    assert_eq!(
        found.iter().map(|record| record.delivery.id).collect::<Vec<_>>(),
        expected
    );
    Ok(())
}

/// L13.
async fn suppressions_are_listed_newest_first(stage: Stage) -> Result<()> {
    let mut changes = Changeset::default();
    for number in 0..5_i64 {
        let name = format!("dead{number}");
        changes.suppress(stage.tenant, &address(&name), "550 5.1.1", stage.after(number / 2));
    }
    stage.write(changes).await?;
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = stage.store.list_suppressions(stage.tenant, after, 2).await?;
        let Some(last) = page.last() else { break };
        let key = format!("{} {}", instant_key(last.at), last.email);
        after = Some(After {
            key,
            id: uuid::Uuid::nil(),
        });
        listed.extend(page.into_iter().map(|row| row.email));
    }
    assert_eq!(
        listed,
        [4, 3, 2, 1, 0].map(|number| format!("dead{number}@example.org"))
    );
    Ok(())
}

/// B6: of the account and its invitations, not of mails, and no calls to work.
async fn the_history_of_an_account_is_told_newest_first(stage: Stage) -> Result<()> {
    let (ana, ben) = (stage.person("ana"), stage.person("ben"));
    let kinds = [
        EventType::UserCreated,
        EventType::InvitationQueued,
        EventType::InvitationDue,
        EventType::DeliverySent,
        EventType::UserInvited,
        EventType::InvitationSent,
        EventType::ExpirationDue,
        EventType::UserExpired,
    ];
    for kind in kinds {
        stage
            .write(telling([stage.event(kind, &ana), stage.event(kind, &ben)]))
            .await?;
    }
    let told = stage.store.history(stage.tenant, ana.id, 10).await?;
    let told: Vec<_> = told.iter().map(|event| (event.user, event.kind)).collect();
    let expected = [
        EventType::UserExpired,
        EventType::InvitationSent,
        EventType::UserInvited,
        EventType::InvitationQueued,
        EventType::UserCreated,
    ];
    assert_eq!(told, expected.map(|kind| (Some(ana.id), kind)));
    assert_eq!(stage.store.history(stage.tenant, ana.id, 2).await?.len(), 2);
    Ok(())
}

/// L13: by its id, or as the newest that went to an address in a span; a bounce comes back as written.
async fn the_mail_that_a_report_is_about_is_found(stage: Stage) -> Result<()> {
    let ana = stage.person("ana");
    let mut mails = Vec::new();
    let ends = [
        (10, DeliveryState::Sent),
        (20, DeliveryState::Uncertain),
        (30, DeliveryState::Failed),
    ];
    for (seconds, state) in ends {
        let mut mail = stage.mail(&stage.invitation(&ana));
        mail.ended_at = Some(stage.after(seconds));
        mail.state = state;
        mail.bounce = (seconds == 10).then_some(BounceKind::Hard);
        mails.push(mail);
    }
    mails.push(stage.mail(&stage.invitation(&ana)));
    stage.write(mailing(&mails)).await?;
    let to = |name: &str, since, until| MailRef::To {
        email: address(name).key().to_owned(),
        since: stage.after(since),
        until: stage.after(until),
    };
    let wanted = [
        to("ana", 0, 60),
        MailRef::Id(mails[3].id),
        to("ben", 0, 60),
        to("ana", 10, 19),
        to("ana", 0, 9),
        to("ana", 21, 60),
        MailRef::Id(usher_core::ids::DeliveryId::mint(stage.now)),
    ];
    let found = stage.store.find_mails(stage.tenant, &wanted).await?;
    let of = |index: usize| Some(mails[index].id);
    let ids: Vec<_> = found.iter().map(|mail| mail.as_ref().map(|mail| mail.id)).collect();
    assert_eq!(ids, [of(1), of(3), None, of(0), None, None, None]);
    let first = found[0].as_ref().expect("it was found");
    assert_eq!((first.user, first.email.as_str()), (Some(ana.id), address("ana").key()));
    let elsewhere = stage.store.find_mails(TenantId::mint(stage.now), &wanted).await?;
    assert!(elsewhere.iter().all(Option::is_none));
    assert!(stage.store.find_mails(stage.tenant, &[]).await?.is_empty());
    let many = vec![MailRef::Id(mails[0].id); 101];
    assert!(
        stage
            .store
            .find_mails(stage.tenant, &many)
            .await?
            .iter()
            .all(Option::is_some)
    );
    let query = DeliveryQuery {
        groups: Vec::new(),
        tenant: stage.tenant,
        user: None,
        delivery: Some(mails[0].id),
        states: Vec::new(),
        after: None,
        limit: 1,
    };
    assert_eq!(stage.store.list_deliveries(&query).await?[0].delivery, mails[0]);
    Ok(())
}
