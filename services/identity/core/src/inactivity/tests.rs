use chrono::DateTime;

use super::*;

const POLICY: InactivityPolicy = InactivityPolicy {
    warn_after_days: 90,
    deactivate_after_days: 120,
    exempt_administrators: true,
    max_share_percent: 10,
};

fn at(days: i64) -> Timestamp {
    DateTime::from_timestamp(1_772_442_000, 0).unwrap() + TimeDelta::days(days)
}

fn run(runs: &[InactivityRun], due: i64, active: i64, now: Timestamp) -> Option<InactivityRun> {
    next_run(TenantId::mint(at(0)), &POLICY, runs, (due, active), now)
}

#[test]
fn b10_a_run_of_more_than_the_stated_share_is_parked() {
    let state = |due, active| run(&[], due, active, at(0)).map(|run| run.state);
    assert_eq!(state(0, 100), None);
    assert_eq!(state(10, 100), Some(InactivityRunState::Running));
    assert_eq!(state(11, 100), Some(InactivityRunState::Parked));
}

#[test]
fn b10_the_share_is_that_of_a_day_and_not_of_a_run() {
    let mut first = run(&[], 8, 100, at(0)).unwrap();
    assert_eq!(run(std::slice::from_ref(&first), 1, 100, at(0)), None, "one at a time");
    first.state = InactivityRunState::Done;
    first.deactivated = 8;
    let later = |first: &InactivityRun, due, days| run(std::slice::from_ref(first), due, 92, at(days)).unwrap().state;
    let hour = at(0) + TimeDelta::hours(1);
    let soon = |due| run(std::slice::from_ref(&first), due, 92, hour).unwrap().state;
    assert_eq!(soon(2), InactivityRunState::Running);
    assert_eq!(soon(3), InactivityRunState::Parked);
    assert_eq!(later(&first, 9, 1), InactivityRunState::Running, "the next day");
    first.decided_at = Some(at(0));
    assert_eq!(
        later(&first, 9, 0),
        InactivityRunState::Running,
        "what was approved does not count"
    );
}

#[test]
fn b10_only_a_parked_run_is_decided_and_a_dismissed_one_spares_its_people_for_a_while() {
    let mut parked = run(&[], 50, 100, at(0)).unwrap();
    assert_eq!(parked.covers, at(-30));
    let mut approved = parked.clone();
    approved.approve("ana", at(1)).unwrap();
    assert_eq!(approved.state, InactivityRunState::Running);
    assert!(approved.approve("ana", at(1)).is_err() && approved.dismiss("ana", at(1)).is_err());
    parked.dismiss("ana", at(1)).unwrap();
    let spared = |days| spared_until(&POLICY, std::slice::from_ref(&parked), at(days));
    assert_eq!(
        (spared(1), spared(30), spared(31)),
        (Some(at(-30)), Some(at(-30)), None)
    );
}

#[test]
fn b10_the_spared_are_spared_until_the_time_of_the_last_run_that_was_about_them_is_over() {
    let dismissed = |created, decided| {
        let mut run = run(&[], 50, 100, at(created)).unwrap();
        run.dismiss("ana", at(decided)).unwrap();
        run
    };
    let runs = [dismissed(40, 50), dismissed(0, 2)];
    let spared = |warned, now| spared_for(&POLICY, &runs, at(warned), at(now));
    assert_eq!(spared(-30, 51), Some(at(80)));
    assert_eq!(spared(10, 51), Some(at(80)));
    assert_eq!(spared(11, 51), None, "warned later than the run was about");
    assert_eq!(spared(10, 80), None);
}

#[test]
fn b10_a_warning_counts_if_it_came_in_time_and_while_the_policy_was_on() {
    let holds = |warned, on_since: Option<i64>| POLICY.holds(at(0), at(warned), on_since.map(at));
    assert!(holds(90, None) && holds(90, Some(90)) && holds(95, Some(0)));
    assert!(!holds(89, None) && !holds(90, Some(91)));
    assert!(!InactivityPolicy::default().holds(at(0), at(90), None), "it is off");
}

#[test]
fn b10_a_late_warning_leaves_the_whole_time_after_it() {
    let schedule = |warned| POLICY.schedule(at(0), warned, at(200));
    let late = schedule(None);
    assert_eq!((late.warn_at, late.deactivate_at), (at(200), at(230)));
    assert_eq!(schedule(Some(at(90))).deactivate_at, at(120));
    assert_eq!(schedule(Some(at(100))).deactivate_at, at(130));
}

#[test]
fn b10_the_numbers_of_a_policy_are_checked() {
    let fields = |policy: InactivityPolicy| -> Vec<String> {
        let violations = policy.violations("p");
        violations.into_iter().map(|violation| violation.field).collect()
    };
    assert!(fields(POLICY).is_empty() && fields(InactivityPolicy::default()).is_empty());
    let policy = |warn_after_days, deactivate_after_days, max_share_percent| InactivityPolicy {
        warn_after_days,
        deactivate_after_days,
        max_share_percent,
        ..POLICY
    };
    assert_eq!(fields(policy(-1, 3, 10)), ["p.warn_after_days"]);
    assert_eq!(fields(policy(30, 30, 10)), ["p.deactivate_after_days"]);
    assert_eq!(fields(policy(30, 31, 101)), ["p.max_share_percent"]);
}
