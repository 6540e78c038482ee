//! Administrators are told, once a day, whose access ends soon among the people in their care (B9).

use std::time::Duration;

use anyhow::{Result, bail};
use prost_types::{Duration as Span, FieldMask};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DeliveryKind, DeliveryState, InitialState, UserStatus};
use usher_tests::environment::eventually;

use crate::pacing::morning_zone;
use crate::stage::{Alone, DAY, HOUR, MINUTE, PATIENCE, alone, in_group, platform};

const KIND: DeliveryKind = DeliveryKind::ExpiryWarningToAdministrators;

fn days(days: i64) -> Span {
    Span {
        seconds: days * 86_400,
        nanos: 0,
    }
}

/// Active in a language and a time zone.
async fn administrator(stage: &Alone, name: &str, language: &str, zone: &str) -> Result<String> {
    let user = api::User {
        email: stage.address(name),
        language: language.into(),
        time_zone: zone.into(),
        ..api::User::default()
    };
    let created = stage.create_as(user, InitialState::ActiveWithPassword).await?;
    Ok(created.user_id)
}

/// Somebody who is active for some days, and has the mail that says that there is an account.
async fn member(stage: &Alone, name: &str, group: &str, ahead: u32) -> Result<String> {
    let user = stage.active(name).await?.user_id;
    if !group.is_empty() {
        stage.join(group, &[&user]).await?;
    }
    stage.expire(&user, Some(stage.after(ahead * DAY))).await?;
    stage.mail(name, 1).await?;
    Ok(user)
}

/// The mails of the kind that somebody got, and the lines of the newest that name people.
async fn told(stage: &Alone, name: &str, user: &str, number: usize) -> Result<(api::Delivery, String, Vec<String>)> {
    let delivery = eventually(&format!("mail {number} tells {name}"), PATIENCE, async || {
        let mut mails = stage.deliveries(user).await.ok()?;
        mails.retain(|mail| mail.kind() == KIND && mail.state() == DeliveryState::Sent);
        mails.sort_by_key(|mail| mail.create_time.map_or(0, |at| at.seconds));
        mails.into_iter().nth(number - 1)
    })
    .await?;
    // The first says that there is an account.
    let mail = stage.mail(name, number + 1).await?;
    let named = mail.text.lines().filter(|line| line.starts_with("- "));
    Ok((delivery, mail.subject.clone(), named.map(ToOwned::to_owned).collect()))
}

fn names(lines: &[String], addresses: &[String]) -> bool {
    lines.len() == addresses.len()
        && lines
            .iter()
            .zip(addresses)
            .all(|(line, address)| line.contains(address))
}

/// B9: of their scope and no other; as things stand when the mail goes out; once a day; by each step of the warnings once.
#[test]
fn administrators_are_told_once_a_day_whose_access_ends_soon_in_their_scope_and_of_nobody_else() -> Result<()> {
    alone(async |mut stage| {
        let settings = api::Tenant {
            expiry_warnings: vec![days(10), days(2)],
            // So that the day of those without a zone of their own does not end meanwhile.
            time_zone: morning_zone(&stage),
            ..api::Tenant::default()
        };
        stage.settings(settings).await?;
        let school = stage.group("School", "").await?;
        let class = stage.group("Class", &school).await?;
        let evening = stage.group("Evening school", "").await?;
        let root = administrator(&stage, "root", "", "").await?;
        // 26 hours apart: the same instant is never of the same day.
        let head = administrator(&stage, "head", "fr", "Pacific/Kiritimati").await?;
        let deputy = administrator(&stage, "deputy", "fr", "Etc/GMT+12").await?;
        let night = administrator(&stage, "night", "", "").await?;
        let shut = administrator(&stage, "shut", "", "").await?;
        for (user, scope) in [
            (&root, platform()),
            (&head, in_group(&school)),
            (&deputy, in_group(&class)),
            (&night, in_group(&evening)),
            (&shut, in_group(&class)),
        ] {
            stage.give(user, "administrator", scope).await?;
        }
        for name in ["root", "head", "deputy", "night", "shut"] {
            stage.mail(name, 1).await?;
        }
        stage.deactivate(&shut).await?;
        let pupil = member(&stage, "pupil", &class, 20).await?;
        let left = member(&stage, "left", &class, 20).await?;
        let stays = member(&stage, "stays", &school, 20).await?;
        let moves = member(&stage, "moves", &class, 20).await?;
        let lone = member(&stage, "lone", "", 20).await?;
        let late = member(&stage, "late", "", 40).await?;

        stage.system.advance(10 * DAY + MINUTE).await?;
        for name in ["pupil", "left", "stays", "moves", "lone"] {
            stage.mail(name, 2).await?;
        }
        let next = eventually("the head is going to be told", PATIENCE, async || {
            let steps = stage.explain(&head).await.ok()?.next_steps;
            let told = steps
                .into_iter()
                .find(|step| step.action == "send_expiry_warning_to_administrators");
            told.filter(|step| step.time.is_some())
        });
        assert!(next.await?.description.contains("in their care"));
        // What happens until the mail goes out counts.
        stage.deactivate(&left).await?;
        stage.expire(&stays, Some(stage.after(90 * DAY))).await?;
        let leaves = api::RemoveGroupMembersRequest {
            tenant_id: stage.tenant.clone(),
            group_id: class.clone(),
            user_ids: vec![moves.clone()],
            options: None,
        };
        stage.clients.groups().remove_group_members(leaves).await?;
        stage.system.advance(16 * MINUTE).await?;

        let (_, subject, of_head) = told(&stage, "head", &head, 1).await?;
        let (_, _, of_deputy) = told(&stage, "deputy", &deputy, 1).await?;
        let (_, _, of_root) = told(&stage, "root", &root, 1).await?;
        assert!(subject.contains("bientôt terminés : 1"), "{subject}");
        assert!(names(&of_head, &[stage.address("pupil")]), "{of_head:?}");
        assert!(names(&of_deputy, &[stage.address("pupil")]), "{of_deputy:?}");
        assert_ne!(of_head, of_deputy, "each in their own time zone");
        let soonest_first = [stage.address("moves"), stage.address("lone")];
        assert!(names(&of_root, &soonest_first), "{of_root:?}");

        // Somebody more on the same day waits for the next.
        stage.expire(&late, Some(stage.after(5 * DAY))).await?;
        stage.system.advance(HOUR).await?;
        stage.mail("late", 2).await?;
        stage.system.advance(16 * MINUTE).await?;
        let now = stage.after(Duration::ZERO);
        let tomorrow = eventually("the next mail to the root is put off", PATIENCE, async || {
            let mut mails = stage.deliveries(&root).await.ok()?;
            mails.retain(|mail| mail.kind() == KIND && mail.state() == DeliveryState::Queued);
            let due = mails.pop()?.due_time?;
            (due.seconds > now.seconds + 6 * 3_600).then_some(due)
        });
        assert!(tomorrow.await?.seconds <= now.seconds + 86_400);
        assert_eq!(stage.mails("root").len(), 2);
        stage.system.advance(DAY).await?;
        let (_, _, of_root) = told(&stage, "root", &root, 2).await?;
        assert!(names(&of_root, &[stage.address("late")]), "{of_root:?}");

        // The second step; who stays longer is told of before the new date only.
        stage.system.advance(7 * DAY).await?;
        stage.mail("pupil", 3).await?;
        stage.system.advance(16 * MINUTE).await?;
        let (_, _, of_head) = told(&stage, "head", &head, 2).await?;
        assert!(names(&of_head, &[stage.address("pupil")]), "{of_head:?}");
        assert_eq!(stage.user(&lone).await?.status(), UserStatus::Active);
        assert_eq!((stage.mails("night").len(), stage.mails("shut").len()), (1, 1));
        assert_eq!(stage.user(&pupil).await?.status(), UserStatus::Active);
        Ok(())
    })
}

/// B9: at a tenant that wants none, and where nobody is left to tell of.
#[test]
fn a_mail_to_administrators_is_not_sent_where_nobody_is_left_to_tell_of_or_nobody_wants_it() -> Result<()> {
    alone(async |mut stage| {
        let settings = api::Tenant {
            expiry_warnings: vec![days(10)],
            ..api::Tenant::default()
        };
        stage.settings(settings).await?;
        let root = administrator(&stage, "root", "", "").await?;
        stage.give(&root, "administrator", platform()).await?;
        stage.mail("root", 1).await?;
        let stays = member(&stage, "stays", "", 5).await?;
        stage.system.advance(16 * MINUTE).await?;
        stage.mail("stays", 2).await?;
        let queued = async |count: usize| {
            eventually("the mail is queued", PATIENCE, async || {
                let mut mails = stage.deliveries(&root).await.ok()?;
                mails.retain(|mail| mail.kind() == KIND);
                (mails.len() == count).then(|| mails.swap_remove(0))
            })
            .await
        };
        queued(1).await?;
        stage.expire(&stays, None).await?;
        stage.system.advance(16 * MINUTE).await?;
        let ended = eventually("the mail is dropped", PATIENCE, async || {
            let mails = stage.deliveries(&root).await.ok()?;
            mails
                .into_iter()
                .find(|mail| mail.kind() == KIND && mail.state() == DeliveryState::Cancelled)
        });
        let Ok(ended) = ended.await else {
            bail!("nobody is left to tell of: {:?}", stage.deliveries(&root).await?);
        };
        assert!(ended.attempts.iter().all(|attempt| attempt.outcome == 0), "{ended:?}");

        let update = api::UpdateTenantRequest {
            tenant: Some(api::Tenant {
                tenant_id: stage.tenant.clone(),
                no_expiry_warnings_to_administrators: true,
                ..api::Tenant::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["no_expiry_warnings_to_administrators".into()],
            }),
            options: None,
        };
        let updated = stage.clients.tenants().update_tenant(update).await?.into_inner().tenant;
        assert!(updated.is_some_and(|tenant| tenant.no_expiry_warnings_to_administrators));
        stage.expire(&stays, Some(stage.after(5 * DAY))).await?;
        stage.system.advance(16 * MINUTE).await?;
        stage.mail("stays", 3).await?;
        stage.settled().await?;
        queued(1).await?;
        assert_eq!(stage.mails("root").len(), 1);
        Ok(())
    })
}
