//! Samples of what mail servers send: their structure, in words of our own.

use proptest::prelude::*;

use super::*;

const OURS: &str = "01938c2f5b7e7c11a1b2c3d4e5f60718@usher.example";

macro_rules! samples {
    ($($name:ident = $file:literal,)*) => {
        $(const $name: &[u8] = include_bytes!(concat!("samples/", $file));)*
        const ALL: &[&[u8]] = &[$($name),*];
    };
}

samples! {
    POSTFIX = "postfix.eml",
    EXIM = "exim.eml",
    EXCHANGE = "exchange.eml",
    GMAIL = "gmail.eml",
    SENDMAIL_DELAYED = "sendmail-delayed.eml",
    MAILBOX_FULL = "mailbox-full.eml",
    DELIVERED = "delivered.eml",
    UTF8 = "utf8.eml",
    COMPLAINT = "complaint.eml",
    NOT_SPAM = "not-spam.eml",
    OUT_OF_OFFICE = "out-of-office.eml",
    FORWARDED = "forwarded.eml",
}

fn reports(raw: &[u8]) -> Vec<BounceReport> {
    match read(raw) {
        Reading::Reports(reports) => reports,
        Reading::Nothing(why) => panic!("{why}"),
    }
}

/// Kind, address and code of the only report.
fn only(raw: &[u8]) -> (BounceKind, String, String) {
    let mut reports = reports(raw);
    assert_eq!(reports.len(), 1, "{reports:?}");
    let report = reports.remove(0);
    assert_eq!(report.message_id, OURS);
    assert!(report.time.is_some());
    (report.kind(), report.recipient, report.status)
}

fn hard(address: &str, status: &str) -> (BounceKind, String, String) {
    (BounceKind::Hard, address.into(), status.into())
}

#[test]
fn l13_an_unknown_user_is_a_hard_bounce_with_every_server() {
    assert_eq!(only(POSTFIX), hard("ana@example.org", "5.1.1"));
    assert_eq!(only(EXCHANGE), hard("carla@corp.example", "5.1.10"));
    assert_eq!(only(GMAIL), hard("dora@gmail.example", "5.2.1"));
    // Exim writes 5.0.0 whatever the other server said.
    assert_eq!(only(EXIM), hard("ben@example.org", "5.1.1"));
    let said = &reports(POSTFIX)[0];
    assert!(
        said.diagnostic
            .ends_with("Recipient address rejected: User unknown in virtual mailbox table"),
        "{}",
        said.diagnostic
    );
    assert_eq!(said.time.unwrap().seconds, 1_795_511_704);
}

#[test]
fn l13_a_refusal_without_a_code_of_its_own_is_judged_by_the_reply_as_in_the_dialogue() {
    let exim = String::from_utf8_lossy(EXIM).into_owned();
    let told = "550-5.1.1 there is nobody of this name here 550 5.1.1 try another";
    let said = |diagnostic: &str| only(exim.replace(told, diagnostic).as_bytes());
    assert_eq!(said("550 no such user"), hard("ben@example.org", "5.0.0"));
    assert_eq!(said("550-no such user 550 try another").0, BounceKind::Hard);
    for other in [
        "552 mailbox full",
        "554 refused",
        "550 5.7.1 refused",
        "retry timeout exceeded",
        "",
    ] {
        assert_eq!(said(other).0, BounceKind::Soft, "{other}");
    }
    let without = exim.replace("Status: 5.0.0\n", "").replace(told, "551 not here");
    assert_eq!(only(without.as_bytes()), hard("ben@example.org", ""));
}

#[test]
fn l13_a_delay_is_a_soft_bounce() {
    let (kind, address, status) = only(SENDMAIL_DELAYED);
    assert_eq!(
        (kind, address.as_str(), status.as_str()),
        (BounceKind::Soft, "emil@slow.example", "4.4.1")
    );
}

#[test]
fn l13_a_full_mailbox_policy_and_the_sender_say_nothing_of_the_address() {
    let told: Vec<_> = reports(MAILBOX_FULL)
        .into_iter()
        .map(|report| (report.kind(), report.recipient, report.status))
        .collect();
    let soft = |name: &str, status: &str| (BounceKind::Soft, format!("{name}@example.org"), status.to_owned());
    assert_eq!(
        told,
        [
            soft("full", "5.2.2"),
            soft("policy", "5.7.1"),
            soft("sender", "5.1.8"),
            soft("old", "4.4.7")
        ]
    );
}

#[test]
fn l13_an_address_in_utf_8_is_understood() {
    let (kind, address, status) = only(UTF8);
    assert_eq!((kind, status.as_str()), (BounceKind::Hard, "5.1.1"));
    assert_eq!(
        address,
        EmailAddress::parse("jörg@example.org").map_or_else(|_| String::new(), |a| a.as_str().to_owned())
    );
}

#[test]
fn l13_unwanted_mail_is_a_complaint() {
    let (kind, address, status) = only(COMPLAINT);
    assert_eq!(
        (kind, address.as_str(), status.as_str()),
        (BounceKind::Complaint, "fay@provider.example", "")
    );
    let blackened = String::from_utf8_lossy(COMPLAINT).replace("Original-Rcpt-To: <fay@provider.example>\n", "");
    assert_eq!(only(blackened.as_bytes()).1, "", "the Message-ID is enough");
}

#[test]
fn l13_what_is_no_report_is_told_and_reports_nothing() {
    for sample in [
        DELIVERED,
        NOT_SPAM,
        OUT_OF_OFFICE,
        FORWARDED,
        b"",
        b"hello",
        b"\n\n",
        &[0xff; 99],
    ] {
        let reading = read(sample);
        assert!(matches!(reading, Reading::Nothing(_)), "{reading:?}");
    }
    let headless = String::from_utf8_lossy(POSTFIX).replace("message/delivery-status", "text/plain");
    assert!(matches!(read(headless.as_bytes()), Reading::Nothing(_)));
}

#[test]
fn l13_a_message_that_is_too_long_is_no_report() {
    let mut long = POSTFIX.to_vec();
    long.resize(MAX_MESSAGE, b' ');
    assert!(matches!(read(&long), Reading::Reports(_)));
    long.push(b' ');
    assert!(matches!(read(&long), Reading::Nothing(_)));
}

#[test]
fn l13_lines_that_end_as_the_standard_has_it_are_read_alike() {
    for sample in [
        POSTFIX,
        EXIM,
        EXCHANGE,
        GMAIL,
        SENDMAIL_DELAYED,
        MAILBOX_FULL,
        COMPLAINT,
    ] {
        let lines = String::from_utf8_lossy(sample).replace('\n', "\r\n");
        assert_eq!(read(lines.as_bytes()), read(sample));
    }
}

/// What the service demands of a report, so that one odd message does not hold up the others.
fn hold(reading: &Reading) {
    let Reading::Reports(reports) = reading else { return };
    assert!(!reports.is_empty() && reports.len() <= MAX_RECIPIENTS);
    for report in reports {
        assert!(usher_core::text::line(&report.message_id, MAX_TEXT).is_ok());
        assert!(report.diagnostic.chars().count() <= MAX_TEXT && !report.diagnostic.contains(char::is_control));
        assert!(report.recipient.is_empty() || EmailAddress::parse(&report.recipient).is_ok());
        assert!(!report.recipient.is_empty() || !report.message_id.is_empty());
        if report.kind() == BounceKind::Hard {
            assert!(usher_core::delivery::is_dead_address(&report.status));
        }
    }
}

proptest! {
    #[test]
    fn l13_arbitrary_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        hold(&read(&bytes));
    }

    #[test]
    fn l13_samples_that_were_damaged_are_read_without_harm(
        sample in 0..ALL.len(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..40, proptest::collection::vec(any::<u8>(), 0..20)), 1..8),
    ) {
        let mut bytes = ALL[sample].to_vec();
        for (at, length, put) in cuts {
            let from = at.index(bytes.len() + 1);
            let to = (from + length).min(bytes.len());
            bytes.splice(from..to, put);
        }
        hold(&read(&bytes));
    }

    #[test]
    fn l13_a_status_part_of_any_text_is_read_without_harm(text in "(?s)((Action|Status|Final-Recipient|Diagnostic-Code|[a-z]{1,9}): ?.{0,40}\n){0,9}.{0,80}") {
        let message = format!("Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n{text}\n--b--\n");
        hold(&read(message.as_bytes()));
    }
}
