//! Seats: what takes one, what is refused when none is left, who waits and whose turn it is (U8, B13). Everything here holds
//! on both databases, and with every worker stopped: the test hands the mails over itself.

mod house;
mod ledger;
mod waiting;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use prost_types::Timestamp;
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, SeatPolicy, UserStatus};
use usher_tests::system::{Options, System};

use crate::stage::{DAY, HOUR, MINUTE, PASSWORD, apart, assert_refused, refused};
use house::{House, on_both};

/// How often the crowd comes, on each database.
const ROUNDS: usize = 50;
const PEOPLE: i64 = 200;
const SEATS: i64 = 50;

/// Who got a seat of those who tried at the same moment; everybody else was told that none is left.
fn seated(outcomes: Vec<Result<api::User, Status>>) -> BTreeSet<String> {
    let mut seated = BTreeSet::new();
    for outcome in outcomes {
        match outcome {
            Ok(user) => {
                assert_eq!(user.status(), UserStatus::Active, "{}", user.user_id);
                assert!(seated.insert(user.user_id));
            }
            refusal => assert_refused(refusal, Code::ResourceExhausted, "SEAT_LIMIT"),
        }
    }
    seated
}

fn count(seated: &BTreeSet<String>) -> i64 {
    i64::try_from(seated.len()).unwrap_or(i64::MAX)
}

async fn all<T>(calls: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(calls).await
}

/// U8, B13: never one too many, and never one too few.
#[test]
fn of_two_hundred_people_who_accept_at_once_fifty_get_the_fifty_seats() -> Result<()> {
    let names: Vec<_> = (0..PEOPLE).map(|number| format!("p{number}")).collect();
    on_both(&async |house: &mut House| {
        let began = Instant::now();
        let mut hashed = 0;
        for round in 1..=ROUNDS {
            house.seats(SEATS, SeatPolicy::Refuse).await?;
            let people = house.invite_crowd(&names).await?;
            assert_eq!(
                house.usage().await?,
                (0, SEATS, SEATS, 0),
                "an invitation takes no seat"
            );

            let calls = people.iter().enumerate();
            let calls = calls.map(|(number, (_, link))| house.accept_at(house.turn(number), link));
            let before = house.hashed().await?;
            let seated = seated(all(calls).await);
            hashed += house.hashed().await? - before;
            assert_eq!(count(&seated), SEATS, "round {round}");
            assert_eq!(house.usage().await?, (SEATS, SEATS, 0, 0), "round {round}");
            assert_eq!(house.active_ids().await?, seated, "round {round}");

            let ledger = house.ledger("", 1_000).await?;
            assert!(
                ledger
                    .iter()
                    .all(|it| (it.change, it.event_type.as_str()) == (1, "user.activated")
                        && it.actor_id == it.user_id)
            );
            let takers: BTreeSet<_> = ledger.iter().map(|it| it.user_id.clone()).collect();
            assert_eq!((ledger.len(), takers), (seated.len(), seated.clone()), "round {round}");
            let forecast = house.forecast().await?;
            let left = PEOPLE - SEATS;
            assert_eq!((forecast.open_invitation_count, forecast.shortfall_count), (left, left));

            // The link of whoever was refused works as soon as a seat is free.
            let (user, link) = people
                .iter()
                .find(|(user, _)| !seated.contains(user))
                .context("nobody was refused")?;
            assert_refused(house.accept(link).await, Code::ResourceExhausted, "SEAT_LIMIT");
            assert_eq!(house.user(user).await?.status(), UserStatus::Pending);
            house.deactivate(seated.first().context("nobody")?).await?;
            assert_eq!(house.usage().await?, (SEATS - 1, SEATS, 1, 0));
            assert_eq!(house.accept(link).await?.status(), UserStatus::Active);
            assert_eq!((house.usage().await?.0, house.sum().await?), (SEATS, SEATS));
        }
        // Whoever comes too late costs no hashing, but for those whose turn comes before the last seats are written down.
        let each = hashed / ROUNDS as u64;
        println!(
            "U8: {ROUNDS} rounds of {PEOPLE} people for {SEATS} seats in {:.0?}, {each} passwords hashed in each",
            began.elapsed()
        );
        assert!(
            each < 2 * SEATS.unsigned_abs(),
            "{each} passwords are hashed for {SEATS} seats"
        );

        // The same crowd comes back, without a password to hash in between: so it meets more closely.
        let few = SEATS / 5;
        let crowd: Vec<_> = house.active_ids().await?.into_iter().collect();
        for user in &crowd {
            house.deactivate(user).await?;
        }
        house.limit(few).await?;
        for round in 1..=ROUNDS {
            let calls = crowd.iter().enumerate();
            let calls = calls.map(|(number, user)| house.reactivate_at(house.turn(number), user));
            let seated = seated(all(calls).await);
            assert_eq!(count(&seated), few, "round {round}");
            assert_eq!(house.usage().await?, (few, few, 0, 0), "round {round}");
            let out = all(seated.iter().map(|user| house.deactivate(user))).await;
            out.into_iter().collect::<Result<(), Status>>()?;
            assert_eq!((house.usage().await?.0, house.sum().await?), (0, 0), "round {round}");
        }
        Ok(())
    })
}

/// U8, B1: the last seat is their own, and so is the answer.
#[test]
fn whoever_took_the_last_seat_is_told_so_again_however_often_they_ask() -> Result<()> {
    on_both(&async |house: &mut House| {
        for round in 0..10 {
            house.seats(1, SeatPolicy::Refuse).await?;
            let (ana, link) = house.invite_one("ana").await?;
            let request = api::AcceptInvitationRequest {
                options: Some(api::MutationOptions {
                    request_id: "once".into(),
                    ..api::MutationOptions::default()
                }),
                ..house.accepting(&link)
            };
            let calls = (0..20).map(async |number| {
                let mut invitations = house.turn(number).invitations();
                let accepted = invitations.accept_invitation(request.clone()).await;
                accepted.map(|answer| answer.into_inner().user)
            });
            let answers = all(calls).await.into_iter().collect::<Result<Vec<_>, Status>>()?;
            let first = answers[0].clone().context("a user")?;
            assert_eq!((&first.user_id, first.status()), (&ana, UserStatus::Active));
            assert!(
                answers.iter().all(|user| user.as_ref() == Some(&first)),
                "round {round}"
            );
            assert_eq!(house.usage().await?, (1, 1, 0, 0));
        }
        Ok(())
    })
}

/// U8: whatever would make somebody active.
#[test]
fn at_the_limit_nobody_is_let_in_and_inviting_goes_on() -> Result<()> {
    on_both(&async |house: &mut House| {
        house.seats(2, SeatPolicy::Refuse).await?;
        let [ana, bo] = [house.active("ana").await?, house.active("bo").await?];
        house.deactivate(&bo).await?;
        let cy = house.active("cy").await?;
        let at = house.after(HOUR);
        house.expire(&cy, Some(at)).await?;
        house.system.advance(HOUR + MINUTE).await?;
        let dee = house.active("dee").await?;
        // Full: ana and dee. Out: bo by somebody, cy by the date.
        assert_eq!(house.usage().await?, (2, 2, 0, 0));

        let told = refused(house.reactivate(&bo).await);
        assert_eq!(
            (told.code, told.reason.as_str()),
            (Code::ResourceExhausted, "SEAT_LIMIT")
        );
        assert!(
            told.message.contains('2') && told.message.contains("UpdateTenant"),
            "{}",
            told.message
        );
        for at in [Some(house.after(DAY)), None] {
            assert_refused(house.expire(&cy, at).await, Code::ResourceExhausted, "SEAT_LIMIT");
        }
        assert_eq!(house.user(&cy).await?.status(), UserStatus::Expired);
        for state in [
            InitialState::ActiveWithPassword,
            InitialState::ActiveWithGeneratedPassword,
        ] {
            let plan = api::CreateUserRequest {
                options: Some(api::MutationOptions {
                    validate_only: true,
                    ..api::MutationOptions::default()
                }),
                ..house.creating("eve", state)
            };
            for request in [plan, house.creating("eve", state)] {
                let answer = house.clients.users().create_user(request).await;
                assert_refused(answer, Code::ResourceExhausted, "SEAT_LIMIT");
            }
        }
        let pending = house.creating("eve", InitialState::Pending);
        house.clients.users().create_user(pending).await?;
        let (finn, link) = house.invite_one("finn").await?;
        assert_refused(house.accept(&link).await, Code::ResourceExhausted, "SEAT_LIMIT");
        assert_eq!(house.usage().await?, (2, 2, 0, 0), "PENDING and INVITED take no seat");
        // Below what is taken nobody is shown out, and nobody gets in.
        house.limit(1).await?;
        assert_eq!(house.usage().await?, (2, 1, 0, 0));
        assert_eq!(house.active_ids().await?, [ana.clone(), dee.clone()].into());

        house.limit(3).await?;
        house.reactivate(&bo).await?;
        assert_refused(house.expire(&cy, None).await, Code::ResourceExhausted, "SEAT_LIMIT");
        house.deactivate(&ana).await?;
        assert_eq!(house.expire(&cy, None).await?.status(), UserStatus::Active);
        house.limit(0).await?;
        house.reactivate(&ana).await?;
        assert_eq!(house.accept(&link).await?.status(), UserStatus::Active);
        assert_eq!(house.usage().await?, (5, 0, 0, 0), "0 is no limit");
        assert_eq!(house.active_ids().await?, [ana, bo, cy, dee, finn].into());
        assert_eq!(house.sum().await?, 5);
        Ok(())
    })
}
