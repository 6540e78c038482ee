use super::*;
use crate::ids::DeliveryId;

fn now() -> Timestamp {
    chrono::DateTime::from_timestamp(1_772_442_000, 0).unwrap()
}

#[test]
fn pauses_jitter_fully_below_five_seconds_doubling_to_an_hour() {
    for attempt in -1..40 {
        let ceiling = (5_000_i64 << (attempt.clamp(1, 11) - 1)).min(3_600_000);
        let pauses: Vec<i64> = (0..200)
            .map(|_| retry_pause(DeliveryId::mint(now()), attempt).num_milliseconds())
            .collect();
        assert!(
            pauses.iter().all(|pause| (200..ceiling).contains(pause)),
            "attempt {attempt}: {pauses:?}"
        );
        let mean = pauses.iter().sum::<i64>() / 200;
        assert!(
            (ceiling / 3..ceiling * 2 / 3).contains(&mean),
            "attempt {attempt}: mean {mean} ms"
        );
    }
}

#[test]
fn a_repeat_decides_the_same_pause() {
    let id = DeliveryId::mint(now());
    assert_eq!(retry_pause(id, 3), retry_pause(id, 3));
    assert_ne!(retry_pause(id, 3), retry_pause(id, 4));
}

#[test]
fn l13_only_an_answer_about_the_recipients_address_is_a_hard_bounce() {
    let table = [
        // phase, code, answer, hard bounce?
        (Phase::Recipient, 550, "5.1.1 no such user", true),
        (Phase::Recipient, 550, "5.1.2 no such host", true),
        (Phase::Recipient, 556, "5.1.10 null MX", true),
        (Phase::Recipient, 550, "5.2.1 mailbox disabled", true),
        (Phase::Recipient, 550, "No such user here", true),
        (Phase::Recipient, 550, "5.0.0 no such user", true),
        (Phase::Recipient, 552, "5.0.0 mailbox full", false),
        (Phase::Recipient, 551, "user not local", true),
        (Phase::Recipient, 553, "mailbox name not allowed", true),
        (Phase::Recipient, 552, "mailbox full", false),
        (Phase::Recipient, 552, "5.2.2 mailbox full", false),
        (Phase::Recipient, 550, "5.7.1 refused by policy", false),
        (Phase::Recipient, 554, "5.7.606 banned sender", false),
        (Phase::Recipient, 554, "relay access denied", false),
        (Phase::Recipient, 521, "host does not take mail", false),
        // RFC 3463 3.2: .7 and .8 are about the sender, which servers tell at RCPT.
        (Phase::Recipient, 553, "5.1.7 bad sender address syntax", false),
        (
            Phase::Recipient,
            550,
            "5.1.8 sender address rejected: domain not found",
            false,
        ),
        (Phase::Mail, 550, "5.1.1 no such user", false),
        (Phase::Data, 550, "5.1.1 no such user", false),
        (Phase::Content, 550, "5.1.1 no such user", false),
        (Phase::Unknown, 550, "5.1.1 no such user", false),
    ];
    for (phase, smtp_code, response, expected) in table {
        let report = |outcome| Report {
            outcome,
            response: response.into(),
            smtp_code,
            phase,
        };
        assert_eq!(
            report(Outcome::Failed).is_hard_bounce(),
            expected,
            "{phase:?} {smtp_code} {response}"
        );
        for outcome in [
            Outcome::Sent,
            Outcome::Deferred,
            Outcome::Unreachable,
            Outcome::Uncertain,
        ] {
            assert!(!report(outcome).is_hard_bounce(), "{outcome:?} {response}");
        }
    }
}

#[test]
fn names_can_be_read_back() {
    for state in DeliveryStateName::ALL {
        assert_eq!(DeliveryStateName::from_name(state.as_str()), Some(state));
    }
    for kind in DeliveryKind::ALL {
        assert_eq!(DeliveryKind::from_name(kind.as_str()), Some(kind));
    }
    for outcome in Outcome::ALL {
        assert_eq!(Outcome::from_name(outcome.as_str()), Some(outcome));
    }
    for phase in Phase::ALL {
        assert_eq!(Phase::from_name(phase.as_str()), Some(phase));
    }
}
