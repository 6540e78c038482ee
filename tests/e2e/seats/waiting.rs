//! Seats that free up, and those who wait for one.

use super::*;

/// U8, S5: nobody has to write an expiry down for its seat to be free.
#[test]
fn a_seat_is_free_at_the_instant_of_the_expiration_while_every_worker_is_stopped() -> Result<()> {
    on_both(&async |house: &mut House| {
        house.seats(1, SeatPolicy::Refuse).await?;
        let ana = house.active("ana").await?;
        let at = house.after(HOUR);
        house.expire(&ana, Some(at)).await?;
        let (bo, link) = house.invite_one("bo").await?;
        house.system.advance(59 * MINUTE).await?;
        assert_refused(house.accept(&link).await, Code::ResourceExhausted, "SEAT_LIMIT");
        assert_eq!(house.usage().await?, (1, 1, 0, 0));

        house.system.advance(MINUTE).await?;
        assert_eq!(house.usage().await?, (0, 1, 1, 0));
        assert_eq!(house.accept(&link).await?.user_id, bo);
        assert_eq!(house.usage().await?, (1, 1, 0, 0));
        // The later date would take a second seat.
        assert_refused(house.expire(&ana, None).await, Code::ResourceExhausted, "SEAT_LIMIT");
        house.write_expiry_down(&ana, at).await?;
        assert_eq!((house.usage().await?, house.sum().await?), ((1, 1, 0, 0), 1));
        let lines: Vec<_> = house
            .ledger(&ana, 1)
            .await?
            .into_iter()
            .map(|it| (it.change, it.event_type, it.actor_id))
            .collect();
        let entry = |change: i32, event: &str, actor: &str| (change, event.to_owned(), actor.to_owned());
        assert_eq!(
            lines,
            [
                entry(1, "user.activated", "anonymous"),
                entry(-1, "user.expired", "usher")
            ]
        );
        Ok(())
    })
}

/// U8: their turn comes by a deactivation and by a higher limit.
#[test]
fn whoever_registers_while_every_seat_is_taken_waits_and_gets_in_when_their_turn_comes() -> Result<()> {
    let names: Vec<_> = ["ana", "bo", "cy", "dee", "eve", "finn"].map(str::to_owned).into();
    on_both(&async |house: &mut House| {
        house.seats(2, SeatPolicy::Wait).await?;
        let people = house.invite(&names).await?;
        let mut ids = Vec::new();
        for (number, (user, link)) in people.iter().enumerate() {
            let accepted = house.accept(link).await?;
            let waits = number >= 2;
            assert_eq!(accepted.seat_wait_time.is_some(), waits, "{user}");
            assert_eq!(accepted.status() == UserStatus::Active, !waits, "{user}");
            ids.push(user.clone());
        }
        let [ana, bo, cy, dee, eve, finn] = <[String; 6]>::try_from(ids).ok().context("six")?;
        assert_eq!(house.usage().await?, (2, 2, 0, 4));
        assert_eq!(
            house.waiting_ids().await?,
            [cy.clone(), dee.clone(), eve.clone(), finn.clone()].into()
        );
        // The registration counts: the link is used, and there is nothing to invite to.
        assert_refused(
            house.accept(&people[2].1).await,
            Code::FailedPrecondition,
            "INVITATION_NOT_USABLE",
        );
        let again = api::SendInvitationRequest {
            tenant_id: house.tenant.clone(),
            user_id: cy.clone(),
            ..api::SendInvitationRequest::default()
        };
        assert_refused(
            house.clients.invitations().send_invitation(again).await,
            Code::FailedPrecondition,
            "WAITS_FOR_SEAT",
        );
        let created = house.creating("gil", InitialState::ActiveWithPassword);
        let gil = house.clients.users().create_user(created).await?.into_inner().user;
        let gil = gil.context("a user")?;
        assert_eq!(
            (gil.status(), gil.seat_wait_time.is_some()),
            (UserStatus::Pending, true)
        );
        let forecast = house.forecast().await?;
        assert_eq!((forecast.waiting_count, forecast.shortfall_count), (5, 5));
        assert_eq!(forecast.summary, "0 invitations open, 5 people waiting, 0 seats left.");

        house.deactivate(&ana).await?;
        house.becomes_active(&cy).await?;
        assert_eq!(house.usage().await?, (2, 2, 0, 4));
        // Whoever is shut out keeps their place, and nobody waits for them.
        house.deactivate(&dee).await?;
        house.deactivate(&bo).await?;
        house.becomes_active(&eve).await?;
        house.reactivate(&dee).await?;
        house.limit(4).await?;
        house.becomes_active(&dee).await?;
        house.becomes_active(&finn).await?;
        assert_eq!(house.usage().await?, (4, 4, 0, 1));
        house.limit(0).await?;
        house.becomes_active(&gil.user_id).await?;
        assert_eq!(house.usage().await?, (5, 0, 0, 0));

        let took: Vec<_> = house
            .ledger("", 2)
            .await?
            .into_iter()
            .filter(|it| it.change > 0 && it.actor_id == "usher")
            .map(|it| it.user_id)
            .collect();
        assert_eq!(took, [cy.clone(), eve, dee, finn, gil.user_id]);
        assert_eq!(house.sum().await?, 5);
        // With the password that they chose when they registered.
        let request = api::VerifyPasswordRequest {
            tenant_id: house.tenant.clone(),
            email: "cy@seats.example".into(),
            password: PASSWORD.into(),
        };
        let signed_in = house.clients.access().verify_password(request).await?.into_inner();
        assert_eq!(signed_in.user.context("a user")?.user_id, cy);
        Ok(())
    })
}

/// U8: the order is that of the registrations, also where nobody has looked for those who wait yet.
#[test]
fn nobody_gets_in_before_those_who_wait() -> Result<()> {
    on_both(&async |house: &mut House| {
        house.seats(1, SeatPolicy::Wait).await?;
        let ana = house.active("ana").await?;
        house.expire(&ana, Some(house.after(HOUR))).await?;
        let [(bo, first), (cy, second)] = [house.invite_one("bo").await?, house.invite_one("cy").await?];
        assert!(house.accept(&first).await?.seat_wait_time.is_some());
        house.system.advance(HOUR).await?;
        // The seat is free, and nobody has written that down.
        house.accept(&second).await?;
        house.becomes_active(&bo).await?;
        assert_eq!(house.waiting_ids().await?, [cy].into());
        Ok(())
    })
}

/// U8, S7, S11: also not who had a seat before, while a free one has not been given to them yet.
#[test]
fn whoever_was_active_before_comes_after_those_who_wait() -> Result<()> {
    on_both(&async |house: &mut House| {
        house.seats(2, SeatPolicy::Wait).await?;
        let [ana, bo] = [house.active("ana").await?, house.active("bo").await?];
        house.expire(&bo, Some(house.after(HOUR))).await?;
        let [(cy, first), (dee, second)] = [house.invite_one("cy").await?, house.invite_one("dee").await?];
        for link in [&first, &second] {
            assert!(house.accept(link).await?.seat_wait_time.is_some());
        }
        house.deactivate(&ana).await?;
        // Whether or not the seat was given to cy already.
        let told = refused(house.reactivate(&ana).await);
        assert_eq!(
            (told.code, told.reason.as_str()),
            (Code::ResourceExhausted, "SEAT_LIMIT")
        );
        house.becomes_active(&cy).await?;
        let told = refused(house.reactivate(&ana).await);
        assert!(told.message.contains("1 person waits"), "{}", told.message);

        house.system.advance(HOUR).await?;
        assert_refused(house.expire(&bo, None).await, Code::ResourceExhausted, "SEAT_LIMIT");
        house.becomes_active(&dee).await?;
        let told = refused(house.expire(&bo, None).await);
        assert!(told.message.contains("all 2 seats are taken"), "{}", told.message);

        // The same again and again: a seat is free, and somebody waits for it.
        let mut leaves = cy;
        for number in 0..10 {
            let (waits, link) = house.invite_one(&format!("p{number}")).await?;
            assert!(house.accept(&link).await?.seat_wait_time.is_some());
            house.deactivate(&leaves).await?;
            let back = house.reactivate(&leaves).await;
            assert_refused(back, Code::ResourceExhausted, "SEAT_LIMIT");
            house.becomes_active(&waits).await?;
            leaves = waits;
        }
        assert_eq!(house.usage().await?, (2, 2, 0, 0));

        // Nobody waits, and a seat is left: at once.
        house.limit(4).await?;
        assert_eq!(house.reactivate(&ana).await?.status(), UserStatus::Active);
        assert_eq!(house.expire(&bo, None).await?.status(), UserStatus::Active);
        assert_eq!((house.usage().await?, house.sum().await?), ((4, 4, 0, 0), 4));
        Ok(())
    })
}

/// B13
#[test]
fn the_forecast_tells_what_is_open_what_is_left_and_what_will_lack() -> Result<()> {
    on_both(&async |house: &mut House| {
        house.seats(5, SeatPolicy::Refuse).await?;
        let forecast = house.forecast().await?;
        assert_eq!(forecast.summary, "0 invitations open, 5 seats left.");
        house.active("ana").await?;
        let bo = house.active("bo").await?;
        house.expire(&bo, Some(house.after(10 * DAY))).await?;
        let cy = house.active("cy").await?;
        house.expire(&cy, Some(house.after(31 * DAY))).await?;
        let names: Vec<_> = (0..4).map(|number| format!("p{number}")).collect();
        house.invite(&names).await?;
        let forecast = house.forecast().await?;
        let told = (forecast.free_count, forecast.seat_limit, forecast.open_invitation_count);
        assert_eq!(told, (2, 5, 4));
        let told = (
            forecast.waiting_count,
            forecast.expiring_count,
            forecast.shortfall_count,
        );
        assert_eq!(told, (0, 1, 2));
        assert_eq!(
            forecast.summary,
            "4 invitations open, 2 seats left, 1 account expires within 30 days."
        );
        // An invitation that lapsed takes no seat any more.
        house.system.advance(31 * DAY).await?;
        let forecast = house.forecast().await?;
        assert_eq!(forecast.summary, "0 invitations open, 4 seats left.");
        assert_eq!(forecast.shortfall_count, 0);
        house.limit(0).await?;
        assert_eq!(
            house.forecast().await?.summary,
            "0 invitations open, no limit of seats."
        );
        let nowhere = api::GetSeatForecastRequest {
            tenant_id: "00000000-0000-7000-8000-000000000000".into(),
        };
        let answer = house.clients.seats().get_seat_forecast(nowhere).await;
        assert_refused(answer, Code::NotFound, "TENANT_NOT_FOUND");
        Ok(())
    })
}
