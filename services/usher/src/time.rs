//! Instants and spans as people write them, and as they are shown: always in UTC.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use prost_types::{Duration, Timestamp};

/// Reads an instant: RFC 3339 (`2027-06-30T18:00:00+02:00`), or `2027-06-30 18:00` in UTC, or a day, which means its
/// beginning in UTC.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let instant = DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc)).ok();
    let in_utc = || {
        ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
    };
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let digits_first = text.len() >= 10 && text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    let at = instant
        .or_else(|| in_utc().or_else(day).map(|at| at.and_utc()))
        .filter(|_| digits_first);
    at.map(timestamp)
        .ok_or_else(|| "is not a date that can be told for certain; write 2027-06-30 or 2027-06-30T18:00:00Z".into())
}

/// Reads a span: a number and `m`, `h`, `d` or `w`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text} is not a span of time; write for example 90m, 36h, 30d or 2w");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
    let (number, unit) = text.split_at(split);
    let number: i64 = number.parse().map_err(|_| fault())?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(fault()),
    };
    let seconds = number.checked_mul(seconds).ok_or_else(fault)?;
    Ok(Duration { seconds, nanos: 0 })
}

/// For people: `2027-06-30 18:00:00Z`, or nothing.
pub(crate) fn show(at: Option<&Timestamp>) -> String {
    at.and_then(instant)
        .map(|at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// For people: `30d`, `36h`, `90m`.
pub(crate) fn show_span(span: &Duration) -> String {
    let span = TimeDelta::seconds(span.seconds);
    match (span.num_days(), span.num_hours(), span.num_minutes()) {
        (days, ..) if days > 0 && TimeDelta::days(days) == span => format!("{days}d"),
        (_, hours, _) if hours > 0 && TimeDelta::hours(hours) == span => format!("{hours}h"),
        (.., minutes) => format!("{minutes}m"),
    }
}

fn instant(at: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_means_its_beginning_in_utc_and_an_offset_counts() {
        for (text, shown) in [
            ("2027-06-30", "2027-06-30 00:00:00Z"),
            (" 2027-06-30 18:05 ", "2027-06-30 18:05:00Z"),
            ("2027-06-30 18:05:09", "2027-06-30 18:05:09Z"),
            ("2027-06-30T18:05:00+02:00", "2027-06-30 16:05:00Z"),
        ] {
            assert_eq!(show(Some(&parse(text).unwrap())), shown, "{text}");
        }
    }

    #[test]
    fn a_date_that_could_be_two_days_is_refused() {
        for text in [
            "06/07/2027",
            "30.06.2027",
            "2027-13-01",
            "27-06-30",
            "soon",
            "2027-02-30",
            "",
            "+12027-01-01",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_read_as_they_are_shown() {
        for text in ["1m", "90m", "36h", "30d"] {
            assert_eq!(show_span(&parse_span(text).unwrap()), text);
        }
        assert_eq!(show_span(&parse_span("2w").unwrap()), "14d");
        for text in [
            "",
            "3",
            "d",
            "3x",
            "-3d",
            "99999999999999999999d",
            "9223372036854775807w",
        ] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
