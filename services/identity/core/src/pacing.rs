//! When mail may go that nobody waits for at the moment: quiet hours in the recipient's time zone and a cap per day (B8), the
//! pause of a tenant's mail (B15).
//!
//! A wall clock is what people read: where it is put back, the quiet hours that come twice are quiet twice; where it is put
//! forward over their end, they end with the gap.

use chrono::{Days, MappedLocalTime, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Timelike as _};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::delivery::DeliveryKind;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Mails a second that go out when a pause ends, for each tenant: nothing floods (B15).
pub const RESUMED_PER_SECOND: i64 = 100;

/// A time of every day in which no automatic mail goes out. It may span midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// The first quiet minute of the day, 0 to 1439.
    start: u16,
    /// The first minute that is not quiet any more, 0 to 1439; never `start`.
    end: u16,
}

impl QuietHours {
    /// From minutes of the day; `None` if they are out of range, or the same.
    pub fn new(start: u16, end: u16) -> Option<Self> {
        (start < DAY && end < DAY && start != end).then_some(Self { start, end })
    }

    /// From times of the day as people write them: "20:00", "08:00".
    pub fn parse(start: &str, end: &str) -> Option<Self> {
        Self::new(minute(start)?, minute(end)?)
    }

    /// As people write them.
    pub fn texts(self) -> (String, String) {
        let text = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        (text(self.start), text(self.end))
    }

    /// Whether an instant is quiet where the recipient is.
    pub fn contains(self, at: Timestamp, zone: Tz) -> bool {
        let minute = minute_of(at.with_timezone(&zone).time());
        if self.start < self.end {
            (self.start..self.end).contains(&minute)
        } else {
            minute >= self.start || minute < self.end
        }
    }

    /// The first instant from this one on that is not quiet.
    pub fn end_after(self, at: Timestamp, zone: Tz) -> Timestamp {
        let mut end = at;
        // Twice where the clock is put back from the end of the quiet hours into them.
        while self.contains(end, zone) {
            let local = end.with_timezone(&zone).naive_local();
            let tomorrow = self.start > self.end && minute_of(local.time()) >= self.start;
            let date = local.date() + Days::new(u64::from(tomorrow));
            end = first_instant(date.and_time(time(self.end)), zone, end);
        }
        end
    }
}

/// The beginning of the next day where the recipient is.
pub fn next_day(at: Timestamp, zone: Tz) -> Timestamp {
    let tomorrow = at.with_timezone(&zone).date_naive() + Days::new(1);
    first_instant(tomorrow.and_time(NaiveTime::MIN), zone, at)
}

/// The beginning of the day where the recipient is.
pub fn day_of(at: Timestamp, zone: Tz) -> Timestamp {
    let today = at.with_timezone(&zone).date_naive().and_time(NaiveTime::MIN);
    first_instant(today, zone, Timestamp::MIN_UTC)
}

/// How long a day is at most: one on which the clock is put back. Mails of one day lie within it.
pub const LONGEST_DAY: TimeDelta = TimeDelta::hours(26);

/// A time zone by its IANA name; empty: UTC.
pub fn zone(name: &str) -> Option<Tz> {
    if name.is_empty() {
        Some(Tz::UTC)
    } else {
        name.parse().ok()
    }
}

impl DeliveryKind {
    /// Whether Usher sends it by itself, so that it keeps to quiet hours and caps. All others were asked for just now, and
    /// somebody waits for them.
    pub fn is_automatic(self) -> bool {
        match self {
            Self::Reminder | Self::ExpiryWarning | Self::ExpiryWarningToAdministrators | Self::InactivityWarning => {
                true
            }
            Self::Invitation | Self::AccountCreated | Self::FreshLink | Self::Test => false,
        }
    }
}

/// The first instant after another at which the clock on the wall shows a time, or has just jumped over it.
fn first_instant(wall: NaiveDateTime, zone: Tz, after: Timestamp) -> Timestamp {
    let mut wall = wall;
    loop {
        match zone.from_local_datetime(&wall) {
            MappedLocalTime::Single(at) => return at.to_utc(),
            MappedLocalTime::Ambiguous(first, second) => {
                return if first.to_utc() > after { first } else { second }.to_utc();
            }
            // The gap begins and ends at whole minutes.
            MappedLocalTime::None => wall += TimeDelta::minutes(1),
        }
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

fn minute_of(time: NaiveTime) -> u16 {
    u16::try_from(time.hour() * 60 + time.minute()).unwrap_or(0)
}

fn time(minute: u16) -> NaiveTime {
    NaiveTime::from_num_seconds_from_midnight_opt(u32::from(minute) * 60, 0).unwrap_or(NaiveTime::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    /// B8
    #[test]
    fn a_mail_due_at_night_goes_in_the_recipients_morning() {
        let quiet = QuietHours::parse("20:00", "08:00").expect("quiet hours");
        let cases = [
            // Evening, night and day in Paris, in winter.
            ("Europe/Paris", "2026-01-10T19:30:00Z", "2026-01-11T07:00:00Z"),
            ("Europe/Paris", "2026-01-11T02:00:00Z", "2026-01-11T07:00:00Z"),
            ("Europe/Paris", "2026-01-11T07:00:00Z", "2026-01-11T07:00:00Z"),
            ("Europe/Paris", "2026-01-11T18:59:59Z", "2026-01-11T18:59:59Z"),
            // The nights in which the clock is put forward, and back.
            ("Europe/Paris", "2026-03-28T22:00:00Z", "2026-03-29T06:00:00Z"),
            ("Europe/Paris", "2026-10-24T22:00:00Z", "2026-10-25T07:00:00Z"),
            ("Asia/Kathmandu", "2026-05-01T15:00:00Z", "2026-05-02T02:15:00Z"),
            ("America/Los_Angeles", "2026-07-01T05:00:00Z", "2026-07-01T15:00:00Z"),
        ];
        for (name, due, sent) in cases {
            let zone = zone(name).expect("a zone");
            assert_eq!(quiet.end_after(at(due), zone), at(sent), "{name} {due}");
        }
    }

    /// B8: the end of the quiet hours is a time that there is not, or that there is twice.
    #[test]
    fn quiet_hours_that_end_while_the_clock_is_put_forward_or_back_end_all_the_same() {
        let zone = zone("Europe/Paris").expect("a zone");
        let quiet = QuietHours::parse("22:00", "02:30").expect("quiet hours");
        // 02:00 to 03:00 is left out; then the gap's end is the first instant.
        assert_eq!(
            quiet.end_after(at("2026-03-29T00:00:00Z"), zone),
            at("2026-03-29T01:00:00Z")
        );
        // 02:00 to 03:00 comes twice: from the first 02:30 until the second 02:00 mail may go.
        assert_eq!(
            quiet.end_after(at("2026-10-24T23:00:00Z"), zone),
            at("2026-10-25T00:30:00Z")
        );
        assert_eq!(
            quiet.end_after(at("2026-10-25T01:10:00Z"), zone),
            at("2026-10-25T01:30:00Z")
        );
    }

    #[test]
    fn times_of_the_day_are_written_with_four_digits() {
        assert_eq!(
            QuietHours::parse("20:00", "08:00").map(QuietHours::texts),
            Some(("20:00".into(), "08:00".into()))
        );
        for (start, end) in [
            ("24:00", "08:00"),
            ("8:00", "20:00"),
            ("08:60", "20:00"),
            ("08:00", "08:00"),
            ("", ""),
            ("+8:00", "20:00"),
        ] {
            assert_eq!(QuietHours::parse(start, end), None, "{start} {end}");
        }
    }

    proptest! {
        /// B8: whatever the zone and the day, the instant is outside of the quiet hours, not before the mail was due, and the
        /// very first one that is.
        #[test]
        fn the_first_instant_outside_of_the_quiet_hours_is_found(
            start in 0..DAY, end in 0..DAY, zone in 0..chrono_tz::TZ_VARIANTS.len(), seconds in 0_i64..4_000_000_000,
        ) {
            prop_assume!(start != end);
            let (quiet, zone) = (QuietHours::new(start, end).expect("valid"), chrono_tz::TZ_VARIANTS[zone]);
            let due = Timestamp::from_timestamp(seconds, 0).expect("an instant");
            let sent = quiet.end_after(due, zone);
            prop_assert!(sent >= due);
            prop_assert!(!quiet.contains(sent, zone));
            if sent > due {
                prop_assert!(quiet.contains(due, zone));
                prop_assert!(quiet.contains(sent - TimeDelta::seconds(1), zone));
                prop_assert!(sent - due <= LONGEST_DAY);
            }
        }

        /// B8: every instant lies in the day that it belongs to.
        #[test]
        fn a_day_begins_before_what_is_in_it_and_ends_after(zone in 0..chrono_tz::TZ_VARIANTS.len(), seconds in 0_i64..4_000_000_000) {
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let now = Timestamp::from_timestamp(seconds, 0).expect("an instant");
            let (from, to) = (day_of(now, zone), next_day(now, zone));
            prop_assert!(from <= now && now < to, "{from} {now} {to}");
            let date = |at: Timestamp| at.with_timezone(&zone).date_naive();
            prop_assert_eq!(date(to - TimeDelta::seconds(1)), date(now));
        }
    }
}
