//! What a seed makes of a year: the tenant's rules, who comes, and what happens to whom on which day.

use chrono::{DateTime, Datelike as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use usher_core::clock::Timestamp;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::SeatPolicy;

/// People of the tenant, beside its administrators.
pub(super) const PEOPLE: usize = 1_000;
pub(super) const ADMINISTRATORS: usize = 3;
const DAYS: i64 = 365;
const ZONES: [Tz; 8] = [
    Tz::Europe__Paris,
    Tz::America__New_York,
    Tz::America__St_Johns,
    Tz::Asia__Kathmandu,
    Tz::Pacific__Auckland,
    Tz::Pacific__Kiritimati,
    Tz::Australia__Lord_Howe,
    Tz::UTC,
];

/// What the tenant wants.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) zone: Tz,
    /// Minutes of the day.
    pub(super) quiet: Option<(u32, u32)>,
    /// 0: none.
    pub(super) cap: usize,
    /// Ahead of the expiration, the longest first.
    pub(super) warnings: Vec<TimeDelta>,
    pub(super) warn_after: TimeDelta,
    pub(super) grace: TimeDelta,
    pub(super) share_percent: i32,
    pub(super) cool_off: TimeDelta,
    /// 0: none.
    pub(super) seats: i64,
    pub(super) seat_policy: SeatPolicy,
    pub(super) pause: Option<(Timestamp, Timestamp)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Action {
    Invite,
    Accept,
    /// So much earlier than it is reported.
    SignIn {
        late: TimeDelta,
    },
    OpenCourse,
    Deactivate,
    Reactivate,
    /// After so long, or never.
    Expire(Option<TimeDelta>),
    DeleteAfter(TimeDelta),
    Resend,
    Refresh,
    AskErasure,
    CancelErasure,
    Complain,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) at: Timestamp,
    pub(super) person: usize,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) rules: Rules,
    /// Between two instants at which anything happens lie up to so many minutes.
    pub(super) pace: i64,
    /// Of each person; `None`: the tenant's.
    pub(super) zones: Vec<Option<Tz>>,
    /// In order of time.
    pub(super) steps: Vec<Step>,
}

impl Plan {
    pub(super) fn new(dice: &mut StdRng) -> Self {
        let first = Utc.with_ymd_and_hms(dice.random_range(2027..2035), dice.random_range(1..=12), 1, 0, 0, 0);
        let from = first.single().unwrap_or(DateTime::UNIX_EPOCH);
        let to = from + TimeDelta::days(DAYS);
        let rules = Rules::new(dice, from);
        let zones = (0..PEOPLE)
            .map(|_| {
                if dice.random_bool(0.4) {
                    ZONES.choose(dice).copied()
                } else {
                    None
                }
            })
            .collect();
        let mut steps: Vec<Step> = (0..PEOPLE).flat_map(|person| life(person, from, dice)).collect();
        steps.retain(|step| step.at < to);
        steps.sort_by_key(|step| step.at);
        Self {
            from,
            to,
            rules,
            pace: *[4 * 60, 12 * 60, 30 * 60].choose(dice).unwrap_or(&60),
            zones,
            steps,
        }
    }
}

impl Rules {
    fn new(dice: &mut StdRng, from: Timestamp) -> Self {
        let days = TimeDelta::days;
        let hour = |dice: &mut StdRng, from: u32, to: u32| dice.random_range(from * 4..=to * 4) * 15;
        let warn_after = days(dice.random_range(40..=120));
        Self {
            zone: ZONES.choose(dice).copied().unwrap_or(Tz::UTC),
            quiet: dice.random_bool(0.9).then(|| (hour(dice, 17, 23), hour(dice, 5, 10))),
            cap: dice.random_range(0..=2),
            warnings: [vec![days(30), days(7), days(1)], vec![days(14), days(3)], vec![days(2)]]
                .choose(dice)
                .cloned()
                .unwrap_or_default(),
            warn_after,
            grace: days(dice.random_range(7..=30)),
            share_percent: *[1, 10, 100].choose(dice).unwrap_or(&100),
            cool_off: days(dice.random_range(1..=14)),
            seats: *[0, 300, 600].choose(dice).unwrap_or(&0),
            seat_policy: *[SeatPolicy::Refuse, SeatPolicy::Wait]
                .choose(dice)
                .unwrap_or(&SeatPolicy::Refuse),
            pause: dice.random_bool(0.5).then(|| {
                let begins = from + TimeDelta::hours(dice.random_range(0..DAYS * 20));
                (begins, begins + TimeDelta::hours(dice.random_range(1..24 * 45)))
            }),
        }
    }

    pub(super) fn tenant(&self) -> api::Tenant {
        let span = |delta: &TimeDelta| prost_types::Duration {
            seconds: delta.num_seconds(),
            nanos: 0,
        };
        let text = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        let days = |delta: TimeDelta| i32::try_from(delta.num_days()).unwrap_or(0);
        api::Tenant {
            display_name: "A year".into(),
            time_zone: self.zone.name().into(),
            quiet_hours: self.quiet.map(|(start, end)| api::QuietHours {
                start: text(start),
                end: text(end),
            }),
            daily_mail_cap: i32::try_from(self.cap).unwrap_or(0),
            expiry_warnings: self.warnings.iter().map(span).collect(),
            inactivity_policy: Some(api::InactivityPolicy {
                warn_after_days: days(self.warn_after),
                deactivate_after_days: days(self.warn_after + self.grace),
                include_administrators: false,
                max_share_percent: self.share_percent,
            }),
            erasure_cool_off: Some(span(&self.cool_off)),
            seat_limit: self.seats,
            seat_policy: self.seat_policy.into(),
            ..api::Tenant::default()
        }
    }
}

/// What happens to somebody.
fn life(person: usize, from: Timestamp, dice: &mut StdRng) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut on = |at: Timestamp, action| steps.push(Step { at, person, action });
    let within =
        |dice: &mut StdRng, from: i64, to: i64| TimeDelta::seconds(dice.random_range(from * 86_400..to * 86_400));
    // A class at the beginning, others one by one.
    let arrives = if dice.random_bool(0.6) {
        from + TimeDelta::minutes(5)
    } else {
        from + within(dice, 0, 250)
    };
    on(arrives, Action::Invite);
    if dice.random_bool(0.3) {
        on(arrives, Action::Expire(Some(within(dice, 5, 360))));
    }
    if dice.random_bool(0.03) {
        on(arrives, Action::DeleteAfter(within(dice, 20, 360)));
    }
    if dice.random_bool(0.1) {
        on(arrives + within(dice, 1, 60), Action::Resend);
    }
    if dice.random_bool(0.15) {
        on(arrives + within(dice, 20, 90), Action::Refresh);
    }
    for _ in 0..3 {
        on(arrives + within(dice, 0, 50), Action::Accept);
    }
    sign_ins(arrives, dice, &mut on);
    if dice.random_bool(0.3) {
        on(arrives + within(dice, 5, 100), Action::OpenCourse);
    }
    if dice.random_bool(0.2) {
        let leaves = arrives + within(dice, 1, 300);
        on(leaves, Action::Deactivate);
        if dice.random_bool(0.5) {
            on(leaves + within(dice, 0, 60), Action::Reactivate);
        }
    }
    if dice.random_bool(0.15) {
        let moved = dice.random_bool(0.8).then(|| within(dice, 1, 100));
        on(arrives + within(dice, 1, 300), Action::Expire(moved));
    }
    if dice.random_bool(0.05) {
        let asked = arrives + within(dice, 1, 300);
        on(asked, Action::AskErasure);
        if dice.random_bool(0.4) {
            on(asked + within(dice, 0, 10), Action::CancelErasure);
        }
    }
    if dice.random_bool(0.01) {
        on(arrives + within(dice, 1, 200), Action::Complain);
    }
    steps
}

fn sign_ins(arrives: Timestamp, dice: &mut StdRng, on: &mut impl FnMut(Timestamp, Action)) {
    let (pause, until) = match dice.random_range(0..10) {
        0..2 => return,
        2..6 => (40, 365),
        6..8 => (90, 365),
        _ => (30, 60),
    };
    let end = arrives + TimeDelta::days(until);
    let mut at = arrives;
    loop {
        at += TimeDelta::seconds(dice.random_range(86_400..pause * 86_400));
        if at > end || at.year() > arrives.year() + 1 {
            return;
        }
        let late = dice
            .random_bool(0.03)
            .then(|| TimeDelta::hours(dice.random_range(1..100)));
        on(
            at,
            Action::SignIn {
                late: late.unwrap_or_default(),
            },
        );
    }
}
