//! Inactivity (B10): 90 days to the warning, 120 to the end.

use super::super::ActivityKind;
use super::*;
use crate::inactivity::{InactivityPolicy, InactivityRun};
use crate::role::{BuiltInRole, RoleRef, Scope};

impl Stage {
    fn watched() -> Self {
        let mut stage = Self::active();
        stage.account.deliveries.clear();
        let mut tenant = (*stage.account.tenant).clone();
        tenant.settings.inactivity = InactivityPolicy {
            warn_after_days: 90,
            deactivate_after_days: 120,
            ..InactivityPolicy::default()
        };
        stage.account.tenant = Arc::new(tenant);
        stage
    }

    fn warn(&mut self) -> Effect {
        self.decide(|account, act, changes| Ok(account.warn_inactive(act, changes)))
            .unwrap()
    }

    fn show_out(&mut self) -> Effect {
        self.decide(|account, act, changes| Ok(account.deactivate_inactive(act, changes)))
            .unwrap()
    }

    fn sign_in(&mut self) {
        let now = self.now;
        self.decide(|account, act, changes| account.record_activity(ActivityKind::SignIn, now, act, changes))
            .unwrap();
    }

    /// Warned after 90 days, and the mail was sent.
    fn warned() -> Self {
        let mut stage = Self::watched();
        stage.advance(days(90));
        assert_eq!(stage.warn(), Effect::Changed);
        let mail = stage.newest().id;
        stage.send(mail);
        stage
    }
}

#[test]
fn b10_who_never_signed_in_counts_from_the_activation_and_is_warned_once() {
    let mut stage = Stage::watched();
    stage.advance(days(90) - TimeDelta::seconds(1));
    assert_eq!(stage.warn(), Effect::Unchanged);
    stage.advance(TimeDelta::seconds(1));
    assert_eq!(stage.warn(), Effect::Changed);
    assert_eq!(stage.told()[0], EventType::UserInactivityWarned);
    assert_eq!(stage.newest().kind, DeliveryKind::InactivityWarning);
    assert_eq!(stage.warn(), Effect::Unchanged);
    assert_eq!(stage.show_out(), Effect::Unchanged);
}

#[test]
fn b10_the_warned_are_deactivated_on_their_day_and_for_that_reason() {
    let mut stage = Stage::warned();
    stage.advance(days(30) - TimeDelta::seconds(1));
    assert_eq!(stage.show_out(), Effect::Unchanged);
    stage.advance(TimeDelta::seconds(1));
    assert_eq!(stage.show_out(), Effect::Changed);
    assert_eq!(stage.event(EventType::UserDeactivated).reason, "inactivity");
    assert_eq!(stage.show_out(), Effect::Unchanged);
    stage.reactivate().unwrap();
    assert_eq!((stage.warn(), stage.show_out()), (Effect::Unchanged, Effect::Unchanged));
    stage.advance(days(90));
    assert_eq!(
        stage.warn(),
        Effect::Changed,
        "who was let in again has the whole time once more"
    );
}

#[test]
fn b10_a_sign_in_takes_the_warning_back_with_its_mail() {
    let mut stage = Stage::watched();
    stage.advance(days(90));
    stage.warn();
    let mail = stage.newest().id;
    stage.sign_in();
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Cancelled));
    stage.advance(days(30));
    assert_eq!(stage.show_out(), Effect::Unchanged);
    stage.advance(days(60));
    assert_eq!(stage.warn(), Effect::Changed);
}

#[test]
fn b10_a_sign_in_that_is_reported_late_makes_the_warning_one_that_came_too_early() {
    let mut stage = Stage::warned();
    let before = stage.now - days(40);
    stage
        .decide(|account, act, changes| account.record_activity(ActivityKind::SignIn, before, act, changes))
        .unwrap();
    assert_eq!(stage.account.user.inactivity_warned_at, None);
    stage.advance(days(30));
    assert_eq!(stage.show_out(), Effect::Unchanged);
    stage.advance(days(19));
    assert_eq!(stage.warn(), Effect::Unchanged, "90 days from that sign-in");
    stage.advance(days(1));
    assert_eq!(stage.warn(), Effect::Changed);
}

#[test]
fn b10_nobody_is_deactivated_while_the_warning_is_under_way_and_everybody_is_if_it_could_not_be_sent() {
    let mut stage = Stage::watched();
    stage.advance(days(90));
    stage.warn();
    let mail = stage.newest().id;
    stage.advance(days(30));
    assert_eq!(stage.show_out(), Effect::Unchanged);
    stage.work(mail, &hard_bounce());
    assert_eq!(stage.show_out(), Effect::Changed);
}

/// Steps that come next, by the day.
fn steps(stage: &Stage, runs: &[InactivityRun]) -> Vec<(i64, NextAction)> {
    let steps = stage.account.next_steps(runs, stage.now).into_iter();
    steps
        .map(|step| ((step.at - stage.now).num_days(), step.action))
        .collect()
}

/// Warned after 90 days, and the mail was held for 40 more.
fn held() -> (Stage, DeliveryId) {
    let mut stage = Stage::watched();
    stage.advance(days(90));
    assert_eq!(stage.warn(), Effect::Changed);
    let mail = stage.newest().id;
    stage.advance(days(40));
    if let Some(mail) = stage.account.deliveries.iter_mut().find(|it| it.id == mail) {
        mail.give_up_at = stage.now + days(5);
    }
    assert_eq!(stage.show_out(), Effect::Unchanged, "it is under way");
    (stage, mail)
}

#[test]
fn b10_b15_the_time_after_a_warning_begins_when_its_mail_goes_out() {
    for report in [sent(), uncertain()] {
        let (mut stage, mail) = held();
        assert!(
            steps(&stage, &[]).contains(&(30, NextAction::DeactivateInactive)),
            "{:?}",
            steps(&stage, &[])
        );
        stage.work(mail, &report);
        assert_eq!(stage.account.user.inactivity_warned_at, Some(stage.now));
        assert_eq!(stage.show_out(), Effect::Unchanged, "within the hour");
        stage.advance(days(30) - TimeDelta::seconds(1));
        assert_eq!(stage.show_out(), Effect::Unchanged);
        stage.advance(TimeDelta::seconds(1));
        assert_eq!(stage.show_out(), Effect::Changed);
    }
}

#[test]
fn b10_a_warning_that_can_never_be_sent_counts_from_its_queueing() {
    let (mut stage, mail) = held();
    stage.work(mail, &hard_bounce());
    assert_eq!(stage.show_out(), Effect::Changed);

    let (mut stage, mail) = held();
    stage.account.suppressed = true;
    assert!(steps(&stage, &[]).contains(&(0, NextAction::DeactivateInactive)));
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Suppressed));
    assert_eq!(stage.show_out(), Effect::Changed);
}

#[test]
fn b10_b12_a_warning_that_was_uncertain_keeps_its_instant_unless_it_is_sent_again() {
    let (mut stage, mail) = held();
    let claim = stage.begin_transmission(mail);
    stage.finish(mail, claim, &uncertain()).unwrap();
    let given = stage.now;
    stage.advance(days(3));
    stage.finish(mail, claim, &sent()).unwrap();
    assert_eq!(stage.account.user.inactivity_warned_at, Some(given));

    let (mut stage, mail) = held();
    stage.work(mail, &uncertain());
    stage.advance(days(3));
    stage.resolve(mail, Resolution::SendAgain).unwrap();
    stage.send(mail);
    assert_eq!(stage.account.user.inactivity_warned_at, Some(stage.now));
}

impl Stage {
    fn with_policy(&mut self, change: impl FnOnce(&mut InactivityPolicy)) {
        let mut tenant = (*self.account.tenant).clone();
        let before = tenant.settings.inactivity;
        change(&mut tenant.settings.inactivity);
        tenant.settings.note_inactivity(before, self.now);
        self.account.tenant = Arc::new(tenant);
    }

    fn take_back(&mut self) -> Effect {
        self.decide(|account, _, changes| Ok(account.take_warning_back(changes)))
            .unwrap()
    }
}

#[test]
fn b10_a_policy_that_is_switched_on_again_warns_anew() {
    let mut stage = Stage::warned();
    assert_eq!(stage.take_back(), Effect::Unchanged);
    let on = |policy: &mut InactivityPolicy| policy.warn_after_days = 90;
    stage.with_policy(|policy| policy.warn_after_days = 0);
    stage.advance(days(40));
    stage.with_policy(on);
    assert_eq!(steps(&stage, &[])[0], (0, NextAction::WarnInactive));
    assert_eq!(stage.show_out(), Effect::Unchanged, "the old warning does not count");
    assert_eq!(stage.warn(), Effect::Changed);
    let mail = stage.newest().id;
    stage.send(mail);
    stage.with_policy(|policy| policy.deactivate_after_days = 121);
    assert_eq!(stage.take_back(), Effect::Unchanged, "it was on all the time");
    stage.advance(days(31));
    assert_eq!(stage.show_out(), Effect::Changed);
}

#[test]
fn b10_a_warning_is_dropped_with_the_policy() {
    let mut stage = Stage::watched();
    stage.advance(days(90));
    stage.warn();
    let mail = stage.newest().id;
    stage.with_policy(|policy| policy.warn_after_days = 0);
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Cancelled));
}

#[test]
fn b10_a_longer_policy_takes_warnings_back_that_came_too_early_for_it() {
    let mut stage = Stage::watched();
    stage.advance(days(90));
    stage.warn();
    let early = stage.newest().id;
    stage.advance(days(1));
    stage.with_policy(|policy| (policy.warn_after_days, policy.deactivate_after_days) = (180, 200));
    let both = [(89, NextAction::WarnInactive), (109, NextAction::DeactivateInactive)];
    assert_eq!(steps(&stage, &[]), both);
    assert_eq!(
        (stage.take_back(), stage.take_back()),
        (Effect::Changed, Effect::Unchanged)
    );
    assert_eq!(steps(&stage, &[]), both);
    stage.advance(days(89));
    assert_eq!(stage.warn(), Effect::Changed);
    let mail = stage.newest().id;
    assert_eq!(stage.begin(early), Begin::NotNeeded(NotNeeded::Cancelled));
    assert!(
        stage.account.user.inactivity_warned_at.is_some(),
        "the new one stays where the old mail is dropped"
    );
    stage.send(mail);
    stage.advance(days(20));
    assert_eq!(stage.show_out(), Effect::Changed);
}

#[test]
fn b6_b10_what_comes_next_tells_of_runs_that_were_parked_or_dismissed() {
    let mut stage = Stage::warned();
    stage.advance(days(31));
    let policy = stage.account.tenant.settings.inactivity;
    let run = crate::inactivity::next_run(stage.account.tenant.id, &policy, &[], (1, 1), stage.now);
    let mut run = run.unwrap();
    assert_eq!(
        steps(&stage, &[]),
        [(0, NextAction::DeactivateInactive)],
        "never in the past"
    );
    assert_eq!(
        steps(&stage, std::slice::from_ref(&run)),
        [(0, NextAction::DeactivateInactiveOnceDecided)]
    );
    run.dismiss("ana", stage.now).unwrap();
    let dismissed = std::slice::from_ref(&run);
    assert_eq!(steps(&stage, dismissed), [(30, NextAction::DeactivateInactive)]);
    stage.advance(days(29));
    assert_eq!(steps(&stage, dismissed), [(1, NextAction::DeactivateInactive)]);
}

#[test]
fn b10_a_warning_to_a_former_address_is_given_anew() {
    let mut stage = Stage::watched();
    stage.advance(days(90));
    stage.warn();
    let mail = stage.newest().id;
    stage.move_to("other@example.org");
    assert_eq!(stage.begin(mail), Begin::NotNeeded(NotNeeded::Cancelled));
    assert_eq!(stage.warn(), Effect::Changed);
    assert_eq!(stage.newest().email, address("other@example.org"));
}

#[test]
fn b10_administrators_are_exempt_unless_said_otherwise() {
    let mut stage = Stage::warned();
    let administrator = (RoleRef::BuiltIn(BuiltInRole::Administrator), Scope::Platform);
    stage.account.belonging.roles.insert(administrator);
    stage.advance(days(30));
    assert_eq!(stage.show_out(), Effect::Unchanged);
    let mut tenant = (*stage.account.tenant).clone();
    tenant.settings.inactivity.exempt_administrators = false;
    stage.account.tenant = Arc::new(tenant);
    assert_eq!(stage.show_out(), Effect::Changed);
}

#[test]
fn b6_what_comes_next_tells_the_warning_and_the_end() {
    let mut stage = Stage::watched();
    let steps = |stage: &Stage| -> Vec<(i64, NextAction)> {
        let steps = stage.account.next_steps(&[], stage.now).into_iter();
        let in_days = |at: Timestamp| (at - stage.now).num_days();
        steps.map(|step| (in_days(step.at), step.action)).collect()
    };
    let both = |warn, end| vec![(warn, NextAction::WarnInactive), (end, NextAction::DeactivateInactive)];
    assert_eq!(steps(&stage), both(90, 120));
    stage.advance(days(50));
    stage.sign_in();
    assert_eq!(steps(&stage), both(90, 120));
    let stage = Stage::warned();
    assert_eq!(steps(&stage), [(30, NextAction::DeactivateInactive)]);
}
