//! When mail goes out: not at night, not too much in a day (B8), and not while it is paused (B15).

use std::time::Duration;

use anyhow::Result;
use prost_types::{Duration as Span, FieldMask, Timestamp};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DeliveryKind, DeliveryState, UserStatus};
use usher_tests::environment::eventually;

use crate::stage::{Alone, DAY, HOUR, PATIENCE, alone, refused, together};

/// Quiet from an hour ago for four hours, every day, in UTC.
fn quiet_now(stage: &Alone) -> (api::QuietHours, Timestamp) {
    let minute = stage.after(Duration::ZERO).seconds.rem_euclid(86_400) / 60;
    let text = |minute: i64| {
        let minute = minute.rem_euclid(1_440);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    let end = minute + 180;
    let day = stage.after(Duration::ZERO).seconds.div_euclid(86_400);
    let ends = Timestamp {
        seconds: (day + 1) * 86_400 + end * 60,
        nanos: 0,
    };
    let quiet = api::QuietHours {
        start: text(minute - 60),
        end: text(end),
    };
    (quiet, ends)
}

async fn reminder(stage: &Alone, user: &str) -> Result<api::Delivery> {
    let mails = stage.deliveries(user).await?;
    let reminder = mails.into_iter().find(|mail| mail.kind() == DeliveryKind::Reminder);
    reminder.ok_or_else(|| anyhow::anyhow!("no reminder"))
}

/// B8: who lives where it is day gets theirs at once; in the night of the others a worker is not even called.
#[test]
fn a_reminder_that_is_due_at_night_goes_out_in_the_recipients_morning() -> Result<()> {
    alone(async |mut stage| {
        let (quiet, morning) = quiet_now(&stage);
        let settings = api::Tenant {
            reminder_ladder: vec![Span {
                seconds: 86_400,
                nanos: 0,
            }],
            quiet_hours: Some(quiet.clone()),
            ..api::Tenant::default()
        };
        stage.settings(settings).await?;
        let (sleeps, _) = stage.invited("sleeps").await?;
        let (wakes, _) = stage.invited("wakes").await?;
        let update = api::UpdateUserRequest {
            user: Some(api::User {
                tenant_id: stage.tenant.clone(),
                user_id: wakes.user_id.clone(),
                // Twelve hours away.
                time_zone: "Etc/GMT+12".into(),
                ..api::User::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["time_zone".into()],
            }),
            ..api::UpdateUserRequest::default()
        };
        let updated = stage.clients.users().update_user(update).await?.into_inner().user;
        assert_eq!(updated.map(|user| user.time_zone), Some("Etc/GMT+12".to_owned()));
        let next = stage.explain(&sleeps.user_id).await?.next_steps;
        assert_eq!(
            (next[0].action.as_str(), next[0].time),
            ("send_reminder", Some(morning))
        );

        stage.system.advance(DAY).await?;
        stage.mail("wakes", 2).await?;
        let held = eventually("the reminder is put off", PATIENCE, async || {
            let reminder = reminder(&stage, &sleeps.user_id).await.ok()?;
            (reminder.due_time == Some(morning)).then_some(reminder)
        })
        .await?;
        assert_eq!((held.state(), held.attempts.len()), (DeliveryState::Queued, 0));
        assert_eq!(stage.mails("sleeps").len(), 1);
        stage.system.advance(3 * HOUR).await?;
        stage.mail("sleeps", 2).await?;
        Ok(())
    })
}

/// B8: a cap over mails of all kinds; what somebody asks for goes out all the same, and counts.
#[test]
fn who_got_as_many_mails_as_the_cap_allows_is_reminded_the_next_day() -> Result<()> {
    alone(async |mut stage| {
        let settings = api::Tenant {
            reminder_ladder: vec![Span { seconds: 60, nanos: 0 }],
            daily_mail_cap: 1,
            // Where it is morning now, so that the day does not end meanwhile.
            time_zone: morning_zone(&stage),
            ..api::Tenant::default()
        };
        stage.settings(settings).await?;
        let (user, _) = stage.invited("ana").await?;
        stage.system.advance(2 * Duration::from_mins(1)).await?;
        let due = reminder(&stage, &user.user_id).await?.create_time;
        let held = eventually("the reminder is put off", PATIENCE, async || {
            let reminder = reminder(&stage, &user.user_id).await.ok()?;
            let hours = (reminder.due_time?.seconds - due?.seconds) / 3_600;
            (hours >= 6).then_some(reminder)
        })
        .await?;
        assert_eq!((held.state(), stage.mails("ana").len()), (DeliveryState::Queued, 1));
        stage.system.advance(DAY).await?;
        stage.mail("ana", 2).await?;
        Ok(())
    })
}

/// A zone in which it is between 6 and 7 in the morning.
pub(crate) fn morning_zone(stage: &Alone) -> String {
    let hour = stage.after(Duration::ZERO).seconds.rem_euclid(86_400) / 3_600;
    // East of Greenwich is Etc/GMT-1; from -14 to +12.
    let east = (6 - hour).rem_euclid(24);
    if east <= 14 {
        format!("Etc/GMT-{east}")
    } else {
        format!("Etc/GMT+{}", 24 - east)
    }
}

async fn pause(stage: &Alone) -> Result<api::Tenant> {
    let request = api::PauseMailRequest {
        tenant_id: stage.tenant.clone(),
        options: None,
    };
    let tenant = stage.clients.tenants().pause_mail(request).await?.into_inner().tenant;
    tenant.ok_or_else(|| anyhow::anyhow!("no tenant"))
}

async fn resume(stage: &Alone) -> Result<api::Tenant> {
    let request = api::ResumeMailRequest {
        tenant_id: stage.tenant.clone(),
        options: None,
    };
    let tenant = stage.clients.tenants().resume_mail(request).await?.into_inner().tenant;
    tenant.ok_or_else(|| anyhow::anyhow!("no tenant"))
}

/// B15: statuses go on changing; afterwards everybody gets their one mail, and links that could not be sent live.
#[test]
fn mail_is_paused_for_longer_than_links_live_and_nothing_is_lost_or_sent_twice() -> Result<()> {
    alone(async |stage| {
        let (early, _) = stage.invited("early").await?;
        let paused = pause(&stage).await?;
        assert!(paused.mail_pause_time.is_some());
        assert_eq!(pause(&stage).await?.version, paused.version, "once");
        let names: Vec<String> = (0..120).map(|number| format!("p{number}")).collect();
        let addresses: Vec<String> = names.iter().map(|name| stage.address(name)).collect();
        stage
            .clients
            .invitations()
            .invite_users(stage.inviting(addresses.join(",")))
            .await?;
        let active = stage.active("made").await?;
        stage.accept(&stage.link("early", 1).await?).await?;
        assert_eq!(stage.user(&early.user_id).await?.status(), UserStatus::Active);
        let told = stage.explain(&active.user_id).await?.summary;
        assert!(told.contains("Mail is paused since"), "{told}");

        for _ in 0..4 {
            stage.system.advance(10 * DAY).await?;
        }
        for name in names.iter().map(String::as_str).chain(["made"]) {
            assert!(stage.mails(name).is_empty(), "{name} got a mail");
        }
        assert_eq!(resume(&stage).await?.mail_pause_time, None);
        // Some every second; the clock need not be waited for.
        stage.system.advance(Duration::from_mins(5)).await?;
        for name in names.iter().map(String::as_str).chain(["made"]) {
            stage.mail(name, 1).await?;
        }
        stage.settled().await?;
        for name in names.iter().map(String::as_str).chain(["made", "early"]) {
            assert_eq!(stage.mails(name).len(), 1, "{name}");
        }
        let link = stage.link("p7", 1).await?;
        assert_eq!(stage.accept(&link).await?.status(), UserStatus::Active);
        Ok(())
    })
}

/// B9: by each step once, in an order that a moved date begins anew; a tenant that sets it later has it for everybody.
#[test]
fn whose_access_ends_soon_is_warned_ahead_of_it_and_again_if_the_date_is_moved() -> Result<()> {
    alone(async |stage| {
        let ends = stage.active("ends").await?;
        let stays = stage.active("stays").await?;
        stage.expire(&ends.user_id, Some(stage.after(20 * DAY))).await?;
        stage.mail("ends", 1).await?;
        let days = |days: i64| Span {
            seconds: days * 86_400,
            nanos: 0,
        };
        let update = api::UpdateTenantRequest {
            tenant: Some(api::Tenant {
                tenant_id: stage.tenant.clone(),
                expiry_warnings: vec![days(10), days(2)],
                ..api::Tenant::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["expiry_warnings".into()],
            }),
            options: None,
        };
        stage.clients.tenants().update_tenant(update).await?;
        let next = stage.explain(&ends.user_id).await?.next_steps;
        assert_eq!(next[0].action, "send_expiry_warning");
        for (pause, mails) in [(10 * DAY + HOUR, 2), (8 * DAY, 3)] {
            stage.system.advance(pause).await?;
            stage.mail("ends", mails).await?;
        }
        stage.expire(&ends.user_id, Some(stage.after(5 * DAY))).await?;
        stage.system.advance(HOUR).await?;
        stage.mail("ends", 4).await?;
        let warnings = stage.deliveries(&ends.user_id).await?;
        let warnings = warnings
            .iter()
            .filter(|mail| mail.kind() == DeliveryKind::ExpiryWarning);
        assert_eq!(warnings.map(|mail| mail.reminder_step).collect::<Vec<_>>(), [1, 2, 1]);
        stage.system.advance(6 * DAY).await?;
        stage.becomes(&ends.user_id, UserStatus::Expired).await?;
        assert_eq!((stage.mails("ends").len(), stage.mails("stays").len()), (4, 1));
        assert_eq!(stage.user(&stays.user_id).await?.status(), UserStatus::Active);
        Ok(())
    })
}

/// B8
#[test]
fn zones_hours_and_caps_that_there_are_not_are_refused_by_name() -> Result<()> {
    together(async |stage| {
        let cases = [
            (
                "time_zone",
                api::Tenant {
                    time_zone: "Paris".into(),
                    ..api::Tenant::default()
                },
            ),
            (
                "quiet_hours",
                api::Tenant {
                    quiet_hours: Some(api::QuietHours {
                        start: "8:00".into(),
                        end: "20:00".into(),
                    }),
                    ..api::Tenant::default()
                },
            ),
            (
                "daily_mail_cap",
                api::Tenant {
                    daily_mail_cap: 101,
                    ..api::Tenant::default()
                },
            ),
        ];
        for (path, tenant) in cases {
            let request = api::UpdateTenantRequest {
                tenant: Some(api::Tenant {
                    tenant_id: stage.tenant.clone(),
                    ..tenant
                }),
                update_mask: Some(FieldMask {
                    paths: vec![path.into()],
                }),
                options: None,
            };
            let told = refused(stage.clients.tenants().update_tenant(request).await);
            assert_eq!(
                (told.code, told.fields),
                (Code::InvalidArgument, vec![format!("tenant.{path}")])
            );
        }
        Ok(())
    })
}
