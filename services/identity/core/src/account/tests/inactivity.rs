//! Inactivity (B10): 90 days to the warning, 120 to the end.

use super::super::ActivityKind;
use super::*;
use crate::inactivity::InactivityPolicy;
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
        let steps = stage.account.next_steps(stage.now).into_iter();
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
