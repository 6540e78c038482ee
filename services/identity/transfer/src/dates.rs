//! Instants as people and spreadsheets write them. Always UTC. What could be two days is refused, not guessed at.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _, Utc};
use usher_core::clock::Timestamp;

/// The day that serial numbers of spreadsheets count from, as days before 1970.
const EPOCH_1900: f64 = 25_569.0;
/// How many days later the other date system of spreadsheets begins.
const EPOCH_1904: f64 = 1_462.0;
/// The serial number of 9999-12-31, the last that spreadsheets know.
const LAST_SERIAL: f64 = 2_958_466.0;
/// Plain numbers below this are more likely a year or an age than a day of 1954.
const FIRST_PLAIN_SERIAL: f64 = 20_000.0;

const FAULT: &str = "is not a date that can be told for certain; write 2027-06-30 or 2027-06-30T18:00:00Z";

/// Reads an instant: RFC 3339 (`2027-06-30T18:00:00+02:00`), `2027-06-30 18:00` in UTC, or a day, which means its
/// beginning in UTC. A day may be `2027-06-30`, `30.6.2027`, or with slashes where only one reading is a date.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let digits_first = text.len() >= 10 && text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    if digits_first && let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(usher_core::clock::to_micros(at.with_timezone(&Utc)));
    }
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let time = time_of_day(time.trim()).ok_or(FAULT)?;
    Ok(day_of(day)?.and_time(time).and_utc())
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    if text.is_empty() {
        return Some(NaiveTime::MIN);
    }
    ["%H:%M:%S%.f", "%H:%M"]
        .iter()
        .find_map(|format| NaiveTime::parse_from_str(text, format).ok())
}

fn day_of(text: &str) -> Result<NaiveDate, String> {
    let separator = text
        .chars()
        .find(|c| !c.is_ascii_digit())
        .filter(|c| matches!(c, '-' | '.' | '/'))
        .ok_or(FAULT)?;
    let parts: Vec<&str> = text.split(separator).collect();
    let [first, second, third] = parts[..] else {
        return Err(FAULT.into());
    };
    let digits = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let number = |part: &str| part.parse::<u32>().map_err(|_| FAULT.to_owned());
    let date = |year: &str, month: u32, day: u32| {
        let year = year.parse().map_err(|_| FAULT.to_owned())?;
        NaiveDate::from_ymd_opt(year, month, day).ok_or_else(|| "is not a day of the calendar".to_owned())
    };
    if digits(first, 4..=4) && digits(second, 1..=2) && digits(third, 1..=2) && separator != '.' {
        return date(first, number(second)?, number(third)?);
    }
    if !(digits(first, 1..=2) && digits(second, 1..=2) && digits(third, 4..=4)) {
        return Err(FAULT.into());
    }
    let (one, two) = (number(first)?, number(second)?);
    if separator == '.' || one > 12 || one == two {
        return date(third, two, one);
    }
    if two > 12 {
        return date(third, one, two);
    }
    Err(format!(
        "could be {third}-{two:02}-{one:02} or {third}-{one:02}-{two:02}; write the one that is meant"
    ))
}

/// The instant that a spreadsheet's serial number stands for, to the millisecond.
pub(crate) fn from_serial(serial: f64, is_1904: bool) -> Option<Timestamp> {
    let serial = if is_1904 { serial + EPOCH_1904 } else { serial };
    if !(61.0..LAST_SERIAL).contains(&serial) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 9999-12-31 in milliseconds")]
    let milliseconds = ((serial - EPOCH_1900) * 86_400_000.0).round() as i64;
    DateTime::from_timestamp_millis(milliseconds)
}

/// The instant that a number without a date's format stands for where a date is expected.
pub(crate) fn from_plain_number(number: f64, is_1904: bool) -> Result<Timestamp, String> {
    let plausible = (FIRST_PLAIN_SERIAL..LAST_SERIAL).contains(&number);
    from_serial(number, is_1904)
        .filter(|_| plausible)
        .ok_or_else(|| FAULT.into())
}

/// The serial number of an instant.
pub(crate) fn to_serial(at: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds up to the year 9999 are exact")]
    let milliseconds = at.timestamp_millis() as f64;
    milliseconds / 86_400_000.0 + EPOCH_1900
}

/// For a cell: RFC 3339 in UTC, with a fraction only where there is one.
pub(crate) fn show(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// A date of a spreadsheet as a person sees it: `2027-06-30`, with the time where it is not midnight.
pub(crate) fn show_plain(at: NaiveDateTime) -> String {
    if at.num_seconds_from_midnight() == 0 && at.nanosecond() == 0 {
        format!("{:04}-{:02}-{:02}", at.year(), at.month(), at.day())
    } else {
        at.format("%Y-%m-%d %H:%M:%S").to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn s13_a_day_means_its_beginning_in_utc_and_an_offset_counts() {
        for (text, shown) in [
            ("2027-06-30", "2027-06-30T00:00:00Z"),
            (" 2027-06-30 18:05 ", "2027-06-30T18:05:00Z"),
            ("2027-06-30 18:05:09", "2027-06-30T18:05:09Z"),
            ("2027-06-30T18:05", "2027-06-30T18:05:00Z"),
            ("2027-06-30T18:05:00+02:00", "2027-06-30T16:05:00Z"),
            ("2027/6/3", "2027-06-03T00:00:00Z"),
            ("31.12.2026", "2026-12-31T00:00:00Z"),
            ("3.4.2026 08:30", "2026-04-03T08:30:00Z"),
            ("31/12/2026", "2026-12-31T00:00:00Z"),
            ("12/31/2026", "2026-12-31T00:00:00Z"),
            ("05-05-2026", "2026-05-05T00:00:00Z"),
        ] {
            assert_eq!(show(parse(text).unwrap()), shown, "{text}");
        }
    }

    #[test]
    fn s13_a_date_that_could_be_two_days_is_named_with_both() {
        let fault = parse("03/04/2026").unwrap_err();
        assert!(fault.contains("2026-04-03") && fault.contains("2026-03-04"), "{fault}");
    }

    #[test]
    fn s13_what_is_no_date_is_refused() {
        for text in [
            "2027-13-01",
            "27-06-30",
            "soon",
            "2027-02-30",
            "",
            "+12027-01-01",
            "30.06.27",
            "31.13.2026",
            "2027-06-30 25:00",
            "1/2",
            "2027.06.30",
            "0000-00-00",
            "20270630",
            "46000",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn s13_serial_numbers_are_days_of_either_date_system() {
        assert_eq!(show(from_serial(46_387.0, false).unwrap()), "2026-12-31T00:00:00Z");
        assert_eq!(show(from_serial(46_387.75, false).unwrap()), "2026-12-31T18:00:00Z");
        assert_eq!(show(from_serial(44_925.0, true).unwrap()), "2026-12-31T00:00:00Z");
        for number in [2_027.0, 20_270_630.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(from_plain_number(number, false).is_err(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn s13_every_instant_comes_back(seconds in -2_000_000_000_i64..253_402_300_799, micros in 0_u32..1_000_000) {
            let at = DateTime::from_timestamp(seconds, micros * 1_000).unwrap();
            prop_assert_eq!(parse(&show(at)).unwrap(), at);
            let whole = DateTime::from_timestamp(seconds, 0).unwrap();
            prop_assert_eq!(from_serial(to_serial(whole), false).unwrap(), whole);
        }
    }
}
