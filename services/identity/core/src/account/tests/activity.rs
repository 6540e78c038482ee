//! What people do on the platform (S8, U4).

use proptest::prelude::*;

use super::super::ActivityKind;
use super::*;
use crate::user::{Engagement, User};

impl Stage {
    fn report(&mut self, kind: ActivityKind, at: Timestamp) -> Result<Effect, Refusal> {
        self.decide(|account, act, changes| account.record_activity(kind, at, act, changes))
    }
}

/// Reports: what, and when in minutes before now.
fn reports() -> impl Strategy<Value = Vec<(bool, i64)>> {
    proptest::collection::vec((any::<bool>(), 0_i64..20), 0..12)
}

fn after(reports: &[(bool, i64)]) -> (User, usize) {
    let mut stage = Stage::active();
    let (tenant, id) = (stage.account.user.tenant, stage.account.user.id);
    let mut told = 0;
    for (course, minutes) in reports {
        let kind = if *course {
            ActivityKind::CourseOpened
        } else {
            ActivityKind::SignIn
        };
        let at = stage.now - TimeDelta::minutes(*minutes);
        stage.report(kind, at).unwrap();
        told += stage.told().len();
        if let Some(login) = stage.changes.logins.get(&(tenant, id)) {
            assert_eq!(Some(*login), stage.account.user.last_login_at);
        }
    }
    let mut user = stage.account.user;
    // Minted anew for each stage.
    (user.tenant, user.id) = (TenantId(uuid::Uuid::nil()), UserId(uuid::Uuid::nil()));
    (user, told)
}

proptest! {
    /// S8, U4: whatever comes twice, late or in another order.
    #[test]
    fn s8_any_order_and_repetition_of_reports_leaves_the_same_row(
        (reports, shuffled) in reports().prop_flat_map(|reports| {
            let twice: Vec<_> = reports.iter().chain(&reports).copied().collect();
            (Just(reports), Just(twice).prop_shuffle())
        })
    ) {
        prop_assert_eq!(after(&reports), after(&shuffled));
    }
}

#[test]
fn s8_the_first_course_makes_an_active_person_engaged_and_is_told_once() {
    let mut stage = Stage::active();
    let version = stage.account.user.version;
    assert_eq!(stage.account.user.engagement(stage.now), Some(Engagement::Activated));
    let at = stage.now;
    assert_eq!(stage.report(ActivityKind::CourseOpened, at), Ok(Effect::Changed));
    assert_eq!(stage.told(), [EventType::UserEngaged]);
    assert_eq!(stage.account.user.engagement(stage.now), Some(Engagement::Engaged));
    assert_eq!(stage.account.user.version, version + 1);
    for (earlier, effect) in [(0, Effect::Unchanged), (1, Effect::Changed), (1, Effect::Unchanged)] {
        assert_eq!(stage.report(ActivityKind::CourseOpened, at - days(earlier)), Ok(effect));
        assert!(stage.told().is_empty());
    }
    assert_eq!(stage.account.user.version, version + 1);
    stage.deactivate().unwrap();
    assert_eq!(
        stage.account.user.engagement(stage.now),
        None,
        "only the active have one"
    );
}

#[test]
fn u4_a_sign_in_is_no_change_of_the_account() {
    let mut stage = Stage::active();
    let version = stage.account.user.version;
    let at = stage.now;
    assert_eq!(stage.report(ActivityKind::SignIn, at), Ok(Effect::Changed));
    assert_eq!(stage.report(ActivityKind::SignIn, at), Ok(Effect::Unchanged));
    assert_eq!(stage.report(ActivityKind::SignIn, at - days(1)), Ok(Effect::Unchanged));
    assert!(stage.told().is_empty() && stage.changes.is_empty());
    assert_eq!(
        (stage.account.user.version, stage.account.user.last_login_at),
        (version, Some(at))
    );
}
