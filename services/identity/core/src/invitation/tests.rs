use chrono::{DateTime, TimeDelta};

use super::*;

const LADDER: [i64; 3] = [100, 200, 300];

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_772_442_000 + seconds, 0).unwrap()
}

#[test]
fn l14_the_next_step_of_the_ladder() {
    let table = [
        // last step, link's end, now: next step and when it is due
        (0, 1_000, 0, Some((1, 100))),
        (0, 1_000, 99, Some((1, 100))),
        (0, 1_000, 100, Some((1, 100))),
        (0, 1_000, 150, Some((1, 150))),
        (0, 1_000, 250, Some((2, 250))),
        (0, 1_000, 900, Some((3, 900))),
        (1, 1_000, 0, Some((2, 200))),
        (1, 1_000, 250, Some((2, 250))),
        (2, 1_000, 210, Some((3, 300))),
        (3, 1_000, 310, None),
        (0, 100, 0, None),
        (0, 101, 0, Some((1, 100))),
        (1, 200, 0, None),
        (0, 250, 240, Some((2, 240))),
    ];
    for (last, lapse, now, expected) in table {
        assert_eq!(
            next_reminder(&LADDER, last, at(0), at(lapse), at(now)),
            expected.map(|(step, due)| (step, at(due))),
            "after step {last}, link until {lapse}, now {now}"
        );
    }
    assert_eq!(next_reminder(&[], 0, at(0), at(1_000), at(0)), None);
}

#[test]
fn l11_the_message_is_chosen_by_the_persons_language_then_the_tenants_then_any() {
    let messages = ["fr", "pt-BR", "en", ""].map(|language| Message {
        language: language.into(),
        subject: format!("in {language}"),
        text: String::new(),
    });
    let choose = |messages: &[Message], own: &str, default: &str| {
        Message::choose(messages, own, default).map(|message| message.language.clone())
    };
    for (own, default, expected) in [
        ("fr", "en", "fr"),
        ("fr-CA", "en", "fr"),
        ("pt-BR", "en", "pt-BR"),
        ("pt", "en", "en"),
        ("ar", "en-GB", "en"),
        ("ar", "de", ""),
        ("", "fr", "fr"),
    ] {
        assert_eq!(
            choose(&messages, own, default).as_deref(),
            Some(expected),
            "{own} {default}"
        );
    }
    assert_eq!(choose(&messages[..1], "ar", "de"), None);
}

#[test]
fn an_open_invitation_lapses_by_the_clock_and_a_closed_one_stays_as_it_is() {
    let mut invitation = Invitation {
        tenant: TenantId::mint(at(0)),
        id: InvitationId::mint(at(0)),
        user: UserId::mint(at(0)),
        email: EmailAddress::parse("ana@example.org").unwrap(),
        state: InvitationState::Queued,
        generation: 1,
        message: None,
        created_at: at(0),
        queued_at: at(0),
        sent_at: None,
        ladder_from: None,
        last_step: 0,
        lapses_at: at(100),
        accepted_at: None,
    };
    for state in InvitationState::ALL {
        invitation.state = state;
        let before = at(100) - TimeDelta::microseconds(1);
        assert_eq!(invitation.effective_state(before), state);
        let after = if state.is_open() {
            InvitationState::Lapsed
        } else {
            state
        };
        assert_eq!(invitation.effective_state(at(100)), after);
        assert_eq!(InvitationState::from_name(state.as_str()), Some(state));
    }
}
