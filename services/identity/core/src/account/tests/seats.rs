//! Seats (U8, B13).

use super::*;
use crate::seats::SeatPolicy;

/// A tenant with so many seats, of which so many are taken.
fn with_seats(mut stage: Stage, limit: i64, used: i64, policy: SeatPolicy) -> Stage {
    let tenant = Arc::make_mut(&mut stage.account.tenant);
    tenant.settings.seat_limit = limit;
    tenant.settings.seat_policy = policy;
    stage.account.seats = Seats::new(used, 0);
    stage
}

fn set_used(stage: &Stage, used: i64) {
    let counts = stage.account.seats.counts();
    stage.account.seats.restore(crate::seats::SeatCounts { used, ..counts });
}

fn all_taken(limit: i64) -> Refusal {
    Refusal::SeatLimit { limit, waiting: 0 }
}

fn accept(stage: &mut Stage) -> Result<(), Refusal> {
    let token = stage.token();
    stage.accept(token)
}

fn ledger(stage: &Stage) -> Vec<(i64, EventType)> {
    stage
        .changes
        .seats
        .iter()
        .map(|entry| (entry.change, entry.cause))
        .collect()
}

fn wakes(stage: &Stage) -> bool {
    let key = crate::account::seat_timer(&stage.account.tenant);
    stage.changes.timers.get(&key).is_some_and(Option::is_some)
}

#[test]
fn u8_inviting_takes_no_seat_and_accepting_takes_one() {
    let mut stage = with_seats(Stage::pending(), 1, 0, SeatPolicy::Refuse);
    stage.invite().unwrap();
    assert_eq!(stage.account.seats.counts().used, 0);
    accept(&mut stage).unwrap();
    assert_eq!(ledger(&stage), [(1, EventType::UserActivated)]);
    assert_eq!(stage.account.seats.counts().used, 1);
}

#[test]
fn u8_at_the_limit_accepting_is_refused_and_the_link_stays_usable() {
    let mut stage = with_seats(Stage::invited(), 5, 5, SeatPolicy::Refuse);
    let before = stage.account.clone();
    assert_eq!(accept(&mut stage), Err(all_taken(5)));
    assert_eq!(stage.account, before);
    set_used(&stage, 4);
    accept(&mut stage).unwrap();
    assert_eq!(stage.account.user.status, Status::ACTIVE);
}

#[test]
fn u8_with_a_waiting_list_accepting_counts_and_a_free_seat_activates() {
    let mut stage = with_seats(Stage::invited(), 5, 5, SeatPolicy::Wait);
    accept(&mut stage).unwrap();
    assert_eq!(stage.account.user.status.name(), StatusName::Invited);
    assert_eq!(stage.account.user.seat_waiting_since, Some(stage.now));
    assert!(
        stage
            .account
            .invitation
            .as_ref()
            .is_some_and(|it| !it.is_open(stage.now))
    );
    assert!(ledger(&stage).is_empty());
    assert_eq!(
        stage.invite(),
        Err(Refusal::WaitsForSeat(stage.account.user.id.to_string()))
    );

    let by = Act::by_usher(stage.now, "");
    stage.changes = Changeset::default();
    assert_eq!(
        stage.account.take_free_seat(&by, &mut stage.changes),
        Effect::Unchanged,
        "none is free"
    );
    set_used(&stage, 4);
    assert_eq!(stage.account.take_free_seat(&by, &mut stage.changes), Effect::Changed);
    assert_eq!(stage.account.user.status, Status::ACTIVE);
    assert_eq!(stage.account.user.seat_waiting_since, None);
    assert_eq!(ledger(&stage), [(1, EventType::UserActivated)]);
}

#[test]
fn u8_whoever_leaves_gives_the_seat_back_and_those_who_wait_are_looked_for() {
    let mut stage = with_seats(Stage::active(), 5, 5, SeatPolicy::Wait);
    stage.changes = Changeset::default();
    let by = act(stage.now);
    stage.account.deactivate(&by, &mut stage.changes).unwrap();
    assert_eq!(ledger(&stage), [(-1, EventType::UserDeactivated)]);
    assert!(wakes(&stage));
    assert_eq!(stage.account.seats.counts().used, 4);
}

#[test]
fn u8_reactivating_and_restoring_past_the_limit_is_refused() {
    let mut stage = with_seats(Stage::active(), 5, 5, SeatPolicy::Wait);
    let by = act(stage.now);
    stage.account.deactivate(&by, &mut stage.changes).unwrap();
    set_used(&stage, 5);
    let refused = stage
        .account
        .decide(&mut stage.changes, |account, changes| account.reactivate(&by, changes));
    assert_eq!(refused, Err(all_taken(5)));
    assert_eq!(stage.account.user.status.name(), StatusName::Deactivated);
    set_used(&stage, 4);
    assert_eq!(stage.account.reactivate(&by, &mut stage.changes), Ok(Effect::Changed));
    assert_eq!(stage.account.user.status, Status::ACTIVE);
}

#[test]
fn u8_created_active_at_the_limit_is_refused_or_waits() {
    let stage = with_seats(Stage::pending(), 1, 1, SeatPolicy::Refuse);
    let now = stage.now;
    let create = |tenant: &Arc<Tenant>, changes: &mut Changeset| {
        let new = NewUser {
            id: UserId::mint(now),
            profile: Profile::of(address("bo@example.org")),
            credential: Some(Credential::OneTime { generation: 1 }),
            expires_at: None,
            deletes_at: None,
        };
        Account::create(Arc::clone(tenant), Seats::new(1, 0), new, false, &act(now), changes)
    };
    let mut changes = Changeset::default();
    assert_eq!(create(&stage.account.tenant, &mut changes).unwrap_err(), all_taken(1));
    assert!(changes.is_empty());
    let stage = with_seats(stage, 1, 1, SeatPolicy::Wait);
    let waiting = create(&stage.account.tenant, &mut changes).unwrap();
    assert_eq!(waiting.user.status, Status::PENDING);
    assert!(waiting.user.seat_waiting_since.is_some());
}

#[test]
fn u8_a_seat_that_others_wait_for_is_not_a_newcomers() {
    let mut stage = with_seats(Stage::invited(), 5, 4, SeatPolicy::Wait);
    stage.account.seats = Seats::new(4, 1);
    accept(&mut stage).unwrap();
    assert_eq!(stage.account.user.status.name(), StatusName::Invited);
    assert_eq!(stage.account.seats.counts().waiting, 2);
    assert!(wakes(&stage), "whoever came before is looked for");
    let by = Act::by_usher(stage.now, "");
    stage.account.take_free_seat(&by, &mut stage.changes);
    assert_eq!(stage.account.user.status, Status::ACTIVE);
    assert_eq!(stage.account.seats.counts().waiting, 1);
}

#[test]
fn u8_whoever_was_active_before_comes_after_those_who_wait() {
    for by_date in [false, true] {
        let mut stage = with_seats(Stage::active(), 5, 5, SeatPolicy::Wait);
        let (by, later) = (act(stage.now), stage.now + TimeDelta::hours(1));
        if by_date {
            let set = stage.account.set_expiration(Some(later), &by, &mut stage.changes);
            assert_eq!(set, Ok(Effect::Changed));
        } else {
            stage.account.deactivate(&by, &mut stage.changes).unwrap();
        }
        let by = act(later);
        let mut back = |seats: Seats| {
            stage.account.seats = seats;
            stage.account.decide(&mut stage.changes, |account, changes| {
                if by_date {
                    account.set_expiration(None, &by, changes)
                } else {
                    account.reactivate(&by, changes)
                }
            })
        };
        let refused = |waiting| Err(Refusal::SeatLimit { limit: 5, waiting });
        assert_eq!(back(Seats::new(5, 0)), refused(0));
        assert_eq!(back(Seats::new(5, 2)), refused(2));
        assert_eq!(
            back(Seats::new(4, 1)),
            refused(1),
            "one is free, and somebody waits for it"
        );
        assert_eq!(back(Seats::new(4, 0)), Ok(Effect::Changed));
        assert_eq!(stage.account.user.status, Status::ACTIVE);
    }
}

#[test]
fn u8_without_a_waiting_list_nobody_comes_first() {
    let mut stage = with_seats(Stage::active(), 5, 5, SeatPolicy::Refuse);
    let by = act(stage.now);
    stage.account.deactivate(&by, &mut stage.changes).unwrap();
    // Somebody began to wait while there was a list.
    stage.account.seats = Seats::new(4, 1);
    assert_eq!(stage.account.reactivate(&by, &mut stage.changes), Ok(Effect::Changed));
}

#[test]
fn u8_only_who_takes_a_seat_comes_after_those_who_wait() {
    let mut stage = with_seats(Stage::invited(), 5, 5, SeatPolicy::Wait);
    stage.account.seats = Seats::new(5, 3);
    let by = act(stage.now);
    stage.account.deactivate(&by, &mut stage.changes).unwrap();
    assert_eq!(stage.account.reactivate(&by, &mut stage.changes), Ok(Effect::Changed));
    assert_eq!(stage.account.user.status.name(), StatusName::Invited);
}

#[test]
fn u8_the_refusal_says_how_many_wait() {
    let told = |waiting| Refusal::SeatLimit { limit: 5, waiting }.to_string();
    assert!(told(0).starts_with("all 5 seats are taken; "), "{}", told(0));
    assert!(told(1).contains(": 1 person waits"), "{}", told(1));
    assert!(told(2).contains(": 2 people wait"), "{}", told(2));
}
