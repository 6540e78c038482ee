//! In and out: deactivation, expiry and back.

use super::*;

#[test]
fn s1_a_new_account_is_pending_and_nobody_was_written_to() {
    let stage = Stage::pending();
    assert_eq!(stage.status(), StatusName::Pending);
    assert_eq!(stage.access(), Access::NotRegistered);
    assert_eq!(stage.told(), [EventType::UserCreated]);
    assert!(stage.account.deliveries.is_empty());
    assert_eq!(stage.account.user.version, 1);
}

#[test]
fn s3_an_account_created_with_a_password_is_active_at_once() {
    let stage = Stage::active();
    assert_eq!(stage.status(), StatusName::Active);
    assert_eq!(stage.access(), Access::Allowed { until: None });
    assert_eq!(
        stage.told(),
        [
            EventType::UserCreated,
            EventType::UserActivated,
            EventType::InvitationDue
        ]
    );
}

#[test]
fn s4_deactivation_ends_access_at_once_and_leaves_everything_else_as_it_was() {
    let mut stage = Stage::active();
    let before = stage.account.clone();
    stage.advance(days(1));
    assert_eq!(stage.deactivate(), Ok(Effect::Changed));
    assert_eq!(stage.access(), Access::Deactivated);
    let event = stage.event(EventType::UserDeactivated);
    assert_eq!(
        (event.from, event.to),
        (Some(StatusName::Active), Some(StatusName::Deactivated))
    );
    assert_eq!((event.actor.as_str(), event.user_version), ("administrator", 2));
    assert_eq!(stage.account.user.profile, before.user.profile);
    assert_eq!(stage.account.user.credential, before.user.credential);
    assert_eq!(stage.account.deliveries, before.deliveries);

    assert_eq!(stage.deactivate(), Ok(Effect::Unchanged));
    assert!(stage.changes.is_empty());
}

#[test]
fn s11_reactivation_restores_the_earlier_status_with_everything_intact() {
    for (mut stage, status) in [
        (Stage::pending(), StatusName::Pending),
        (Stage::invited(), StatusName::Invited),
        (Stage::active(), StatusName::Active),
    ] {
        let before = stage.account.clone();
        stage.deactivate().unwrap();
        stage.advance(days(1));
        assert_eq!(stage.reactivate(), Ok(Effect::Changed));
        assert_eq!(stage.status(), status);
        assert_eq!(stage.event(EventType::UserReactivated).to, Some(status));
        assert_eq!(stage.account.user.profile, before.user.profile);
        assert_eq!(stage.account.user.credential, before.user.credential);
        assert_eq!(stage.account.invitation, before.invitation);
        assert_eq!(stage.reactivate(), Ok(Effect::Unchanged));
    }
}

#[test]
fn s5_access_ends_at_the_very_instant_also_if_nothing_was_written_down() {
    let mut stage = Stage::created(Some(Credential::Password("$hash".into())), Some(days(10)));
    let end = stage.now + days(10);
    stage.advance(days(10) - TimeDelta::microseconds(1));
    assert_eq!(stage.access(), Access::Allowed { until: Some(end) });
    stage.advance(TimeDelta::microseconds(1));
    assert_eq!(stage.access(), Access::Expired);
    assert_eq!(stage.account.user.status, Status::ACTIVE, "no worker ran");
    assert_eq!(stage.account.user.effective_since(stage.now), end);
}

#[test]
fn s5_the_expiry_is_written_down_once_and_only_for_the_date_that_was_due() {
    let mut stage = Stage::created(None, Some(days(10)));
    let (due, user) = (stage.now + days(10), stage.account.user.id.0);
    assert_eq!(stage.timer(TimerKind::Expiration, user), Some(due));
    let expire = |stage: &mut Stage, due| {
        stage
            .decide(|account, act, changes| Ok(account.expire(due, act, changes)))
            .unwrap()
    };
    assert_eq!(expire(&mut stage, due), Effect::Unchanged, "too early");
    stage.advance(days(11));
    assert_eq!(expire(&mut stage, due - days(1)), Effect::Unchanged, "another date");
    assert!(stage.changes.is_empty());

    stage
        .decide(|account, act, changes| {
            account.on_expiration_timer(act, changes);
            Ok(())
        })
        .unwrap();
    assert_eq!(stage.told(), [EventType::ExpirationDue]);
    assert!(stage.changes.timers.is_empty(), "it fires again if the worker dies");

    assert_eq!(expire(&mut stage, due), Effect::Changed);
    assert_eq!(stage.told(), [EventType::UserExpired]);
    assert_eq!(stage.event(EventType::UserExpired).actor, "usher");
    assert_eq!(
        stage.account.user.status_since, due,
        "since the date, not since the worker came"
    );
    assert_eq!(stage.timer(TimerKind::Expiration, user), None);
    assert_eq!(expire(&mut stage, due), Effect::Unchanged);
}

#[test]
fn s5_whatever_command_comes_first_writes_the_expiry_down() {
    let mut stage = Stage::created(None, Some(days(10)));
    stage.advance(days(11));
    stage.move_to("ana@example.net");
    assert_eq!(stage.told(), [EventType::UserExpired, EventType::UserUpdated]);
    let versions: Vec<i64> = stage.changes.events.iter().map(|event| event.user_version).collect();
    assert_eq!(versions, [2, 3]);
    assert_eq!(
        stage.event(EventType::UserExpired).actor,
        "usher",
        "nobody did it but the clock"
    );
    assert_eq!(stage.event(EventType::UserUpdated).actor, "administrator");
}

#[test]
fn s6_nobody_switches_an_expired_account_on_or_off() {
    let mut stage = Stage::created(None, Some(days(10)));
    let id = stage.account.user.id.to_string();
    for settled in [false, true] {
        stage.advance(days(11));
        assert_eq!(stage.deactivate(), Err(Refusal::UserExpired(id.clone())), "{settled}");
        assert_eq!(stage.reactivate(), Err(Refusal::UserExpired(id.clone())), "{settled}");
        stage.move_to("ana@example.net");
    }
}

#[test]
fn s7_a_later_expiration_restores_exactly_the_status_before() {
    for (mut stage, status) in [
        (Stage::pending(), Status::PENDING),
        (Stage::invited(), Stage::invited().account.user.status),
        (Stage::active(), Status::ACTIVE),
    ] {
        for after in [Some(days(10)), None] {
            stage.set_expiration(Some(days(1))).unwrap();
            stage.advance(days(2));
            assert_eq!(stage.access(), Access::Expired);
            assert_eq!(stage.set_expiration(after), Ok(Effect::Changed));
            assert_eq!(stage.account.user.status, status);
            let event = stage.event(EventType::UserRestored);
            assert_eq!((event.from, event.to), (Some(StatusName::Expired), Some(status.name())));
            assert_eq!(event.expires_at, after.map(|after| stage.now + after));
        }
    }
}

#[test]
fn s7_an_expired_deactivated_account_is_deactivated_again_and_still_knows_what_it_was() {
    let mut stage = Stage::invited();
    stage.set_expiration(Some(days(2))).unwrap();
    stage.deactivate().unwrap();
    stage.advance(days(3));
    assert_eq!(stage.status(), StatusName::Expired);
    stage.set_expiration(None).unwrap();
    assert_eq!(stage.status(), StatusName::Deactivated);
    stage.reactivate().unwrap();
    assert_eq!(stage.status(), StatusName::Invited);
}

#[test]
fn s9_nobody_changes_the_status_of_the_account_that_they_act_as() {
    let mut stage = Stage::active();
    let own = Act {
        actor: stage.account.user.id.to_string(),
        ..act(stage.now)
    };
    let before = stage.account.clone();
    let at = Some(stage.now + days(1));
    assert_eq!(
        stage.decide(|account, _, changes| account.deactivate(&own, changes)),
        Err(Refusal::OwnStatus)
    );
    assert_eq!(
        stage.decide(|account, _, changes| account.reactivate(&own, changes)),
        Err(Refusal::OwnStatus)
    );
    assert_eq!(
        stage.decide(|account, _, changes| account.set_expiration(at, &own, changes)),
        Err(Refusal::OwnStatus)
    );
    assert_eq!(stage.account, before);
}

#[test]
fn s13_the_expiration_is_set_moved_and_cleared_and_its_timer_follows() {
    let mut stage = Stage::pending();
    let user = stage.account.user.id.0;
    assert_eq!(stage.timer(TimerKind::Expiration, user), None);
    assert_eq!(stage.set_expiration(Some(days(5))), Ok(Effect::Changed));
    assert_eq!(stage.timer(TimerKind::Expiration, user), Some(stage.now + days(5)));
    assert_eq!(stage.event(EventType::UserUpdated).changed_fields, ["expire_time"]);
    assert_eq!(stage.set_expiration(Some(days(5))), Ok(Effect::Unchanged));
    assert!(stage.changes.is_empty());
    stage.set_expiration(Some(days(9))).unwrap();
    assert_eq!(stage.timer(TimerKind::Expiration, user), Some(stage.now + days(9)));
    stage.set_expiration(None).unwrap();
    assert_eq!(stage.timer(TimerKind::Expiration, user), None);
}

#[test]
fn s13_a_timer_that_fires_for_an_expiration_that_was_moved_waits_for_the_new_one() {
    let mut stage = Stage::created(None, Some(days(5)));
    stage.set_expiration(Some(days(9))).unwrap();
    stage.advance(days(5));
    stage
        .decide(|account, act, changes| {
            account.on_expiration_timer(act, changes);
            Ok(())
        })
        .unwrap();
    assert!(stage.told().is_empty());
    let user = stage.account.user.id.0;
    assert_eq!(stage.timer(TimerKind::Expiration, user), Some(stage.now + days(4)));
}

#[test]
fn b2_a_change_based_on_another_version_is_refused() {
    let mut stage = Stage::pending();
    assert_eq!(stage.account.check_version(0), Ok(()), "0 asks for no check");
    assert_eq!(stage.account.check_version(1), Ok(()));
    stage.deactivate().unwrap();
    assert_eq!(
        stage.account.check_version(1),
        Err(Refusal::VersionMismatch { expected: 1, actual: 2 })
    );
}

#[test]
fn a_refused_command_leaves_no_trace_in_the_account_and_none_in_the_changes() {
    let mut stage = Stage::invited();
    stage.set_expiration(Some(days(40))).unwrap();
    stage.advance(days(41));
    // Both the expiry and the lapse of the link would be written down first.
    let before = stage.account.clone();
    let mut changes = Changeset::default();
    changes.clear_timer(TimerKey {
        tenant: before.tenant.id,
        kind: TimerKind::Lapse,
        subject: before.user.id.0,
    });
    let act = act(stage.now);
    let answer = stage
        .account
        .decide(&mut changes, |account, changes| account.deactivate(&act, changes));
    assert!(matches!(answer, Err(Refusal::UserExpired(_))));
    assert_eq!(stage.account, before);
    assert!(changes.events.is_empty() && changes.users.is_empty());
    assert_eq!(changes.timers.len(), 1, "what another command wrote stays");
}
