//! Moments that years seldom have, on the same moved clock: pauses of mail that are longer than what waits for it, policies that
//! change, and hundreds of mails at once. The mail server takes every mail.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta};
use usher_core::clock::Timestamp;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InactivityRunState, InactivityStep, InitialState, UserStatus};
use usher_tests::environment::new_folder;

use super::house::House;
use super::people::proto;
use crate::inactivity::setting;
use crate::stage::PASSWORD;

const HOUR: TimeDelta = TimeDelta::hours(1);
/// The one person of most of these.
const ANA: &str = "ana@moment.example";

const fn days(days: i64) -> TimeDelta {
    TimeDelta::days(days)
}

struct Moment {
    house: House,
    tenant: String,
    from: Timestamp,
}

/// Runs a test in a tenant with this policy, of which everybody may be deactivated without approval.
fn moment(policy: (i32, i32), test: impl AsyncFnOnce(Moment) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let file = new_folder("moment")?.join("usher.db");
        let from: Timestamp = DateTime::from_timestamp(1_788_166_800, 0).context("an instant")?;
        let house = House::build(&format!("sqlite:{}?mode=rwc", file.display()), from, None).await?;
        let tenant = api::Tenant {
            display_name: "Moment".into(),
            inactivity_policy: Some(inactivity(policy, 100)),
            ..api::Tenant::default()
        };
        let request = api::CreateTenantRequest {
            tenant: Some(tenant),
            options: None,
        };
        let created = house.clients.tenants().create_tenant(request).await?.into_inner();
        let tenant = created.tenant.context("no tenant")?.tenant_id;
        test(Moment { house, tenant, from }).await
    })
}

fn inactivity((warn_after_days, deactivate_after_days): (i32, i32), max_share_percent: i32) -> api::InactivityPolicy {
    api::InactivityPolicy {
        warn_after_days,
        deactivate_after_days,
        include_administrators: false,
        max_share_percent,
    }
}

impl Moment {
    /// Moves the clock so far from the beginning, and does everything on the way when it is due.
    async fn live(&mut self, until: TimeDelta) -> Result<()> {
        let until = self.from + until;
        self.house.settle().await?;
        while self.house.now() < until {
            let next = self.house.next_due().await?.unwrap_or(until);
            self.house.move_to(next.clamp(self.house.now(), until));
            self.house.settle().await?;
        }
        Ok(())
    }

    fn so_far(&self) -> TimeDelta {
        self.house.now() - self.from
    }

    async fn active(&self, email: &str) -> Result<String> {
        let request = api::CreateUserRequest {
            tenant_id: self.tenant.clone(),
            user: Some(api::User {
                email: email.into(),
                ..api::User::default()
            }),
            initial_state: InitialState::ActiveWithPassword.into(),
            password: PASSWORD.into(),
            ..api::CreateUserRequest::default()
        };
        let user = self.house.clients.users().create_user(request).await?.into_inner().user;
        Ok(user.context("no user")?.user_id)
    }

    async fn pause(&self) -> Result<()> {
        let request = api::PauseMailRequest {
            tenant_id: self.tenant.clone(),
            options: None,
        };
        self.house.clients.tenants().pause_mail(request).await?;
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        let request = api::ResumeMailRequest {
            tenant_id: self.tenant.clone(),
            options: None,
        };
        self.house.clients.tenants().resume_mail(request).await?;
        Ok(())
    }

    async fn set_policy(&self, policy: Option<api::InactivityPolicy>) -> Result<()> {
        let request = setting(&self.tenant, policy);
        self.house.clients.tenants().update_tenant(request).await?;
        Ok(())
    }

    async fn explain(&self, user: &str) -> Result<(UserStatus, Vec<api::NextStep>)> {
        let request = api::ExplainUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
        };
        let told = self.house.clients.users().explain_user(request).await?.into_inner();
        Ok((told.user.context("no user")?.status(), told.next_steps))
    }

    async fn status(&self, user: &str) -> Result<UserStatus> {
        Ok(self.explain(user).await?.0)
    }

    /// What comes next, and after how long from the beginning.
    async fn next(&self, user: &str) -> Result<Vec<(String, TimeDelta)>> {
        let steps = self.explain(user).await?.1.into_iter();
        let at = |time: Option<prost_types::Timestamp>| {
            let time = time.unwrap_or_default();
            DateTime::from_timestamp(time.seconds, 0).unwrap_or_default() - self.from
        };
        Ok(steps.map(|step| (step.action, at(step.time))).collect())
    }

    /// After how long from the beginning mails went to somebody.
    fn posted(&self, email: &str) -> Vec<TimeDelta> {
        let mails = self.house.post.posted().into_iter().filter(|mail| mail.to == email);
        mails.map(|mail| mail.at - self.from).collect()
    }

    async fn runs(&self) -> Result<Vec<api::InactivityRun>> {
        let request = api::ListInactivityRunsRequest {
            tenant_id: self.tenant.clone(),
            ..api::ListInactivityRunsRequest::default()
        };
        let answer = self.house.clients.inactivity().list_inactivity_runs(request).await?;
        Ok(answer.into_inner().runs)
    }

    async fn to_be_deactivated(&self, until: TimeDelta) -> Result<Vec<api::InactiveUser>> {
        let request = api::PreviewInactivityRequest {
            tenant_id: self.tenant.clone(),
            step: InactivityStep::Deactivate.into(),
            until: Some(proto(self.from + until)),
            ..api::PreviewInactivityRequest::default()
        };
        let answer = self.house.clients.inactivity().preview_inactivity(request).await?;
        Ok(answer.into_inner().users)
    }
}

/// B10 with B15: the mail was paused from the day before the warning until two weeks after the day on which they would go.
#[test]
fn a_warning_that_a_pause_held_leaves_its_whole_time_once_it_goes_out() -> Result<()> {
    moment((30, 37), async |mut it| {
        let ana = it.active(ANA).await?;
        it.live(days(29)).await?;
        it.pause().await?;
        it.live(days(50)).await?;
        ensure!(it.posted(ANA).len() == 1, "{:?}", it.posted(ANA));
        ensure!(it.status(&ana).await? == UserStatus::Active);
        it.resume().await?;
        it.live(days(50) + HOUR).await?;
        let warned = it.posted(ANA)[1];
        ensure!(warned < days(50) + HOUR);
        let text = it.house.post.text(ANA).unwrap_or_default();
        ensure!(text.contains("in 7 days"), "{text}");
        ensure!(it.next(&ana).await?.iter().all(|(_, at)| *at >= days(57)));
        it.live(warned + days(7) - HOUR).await?;
        ensure!(it.status(&ana).await? == UserStatus::Active);
        it.live(warned + days(7) + HOUR).await?;
        ensure!(it.status(&ana).await? == UserStatus::Deactivated);
        it.house.leave().await
    })
}

/// B10: what they were told before the policy was off is no warning of the one that is on now.
#[test]
fn a_policy_that_is_switched_on_again_deactivates_nobody_without_a_new_warning() -> Result<()> {
    moment((30, 37), async |mut it| {
        let ana = it.active(ANA).await?;
        it.live(days(31)).await?;
        ensure!(it.posted(ANA).len() == 2);
        it.set_policy(None).await?;
        it.live(days(60)).await?;
        it.set_policy(Some(inactivity((30, 37), 100))).await?;
        it.live(days(60) + HOUR * 2).await?;
        ensure!(it.status(&ana).await? == UserStatus::Active);
        let mails = it.posted(ANA);
        ensure!(mails.len() == 3, "{mails:?}");
        it.live(days(67) - HOUR).await?;
        ensure!(it.status(&ana).await? == UserStatus::Active);
        it.live(days(67) + HOUR * 2).await?;
        ensure!(it.status(&ana).await? == UserStatus::Deactivated);
        ensure!(it.posted(ANA).len() == 3);
        it.house.leave().await
    })
}

/// B10, B6: the second warning comes on the day that is told, and a warning of before counts for no run.
#[test]
fn a_policy_that_is_lengthened_warns_the_warned_again_on_their_new_day() -> Result<()> {
    moment((30, 60), async |mut it| {
        let ana = it.active(ANA).await?;
        it.live(days(31)).await?;
        ensure!(it.posted(ANA).len() == 2);
        it.set_policy(Some(inactivity((90, 120), 10))).await?;
        it.live(days(31) + HOUR * 2).await?;
        let steps = [
            ("warn_inactive".to_owned(), days(90)),
            ("deactivate_inactive".to_owned(), days(120)),
        ];
        ensure!(it.next(&ana).await? == steps, "{:?}", it.next(&ana).await?);
        it.live(days(90) + HOUR * 2).await?;
        let mails = it.posted(ANA);
        ensure!(
            mails.len() == 3 && mails[2] >= days(90) && mails[2] <= days(90) + HOUR,
            "{mails:?}"
        );
        it.live(days(120) - HOUR).await?;
        ensure!(it.runs().await?.is_empty(), "nobody was due");
        it.set_policy(Some(inactivity((90, 120), 100))).await?;
        it.live(mails[2] + days(30) + HOUR * 2).await?;
        ensure!(it.status(&ana).await? == UserStatus::Deactivated);
        it.house.leave().await
    })
}

/// B10, B6: nothing that is told lies in the past; who is spared has a later date, and who waits for a decision is told so.
#[test]
fn a_preview_and_an_explanation_tell_of_runs_that_were_parked_or_dismissed() -> Result<()> {
    moment((30, 37), async |mut it| {
        it.set_policy(Some(inactivity((30, 37), 10))).await?;
        let ana = it.active(ANA).await?;
        it.live(days(40)).await?;
        let run = it.runs().await?.into_iter().next().context("no run")?;
        ensure!(run.state() == InactivityRunState::Parked);
        let now = proto(it.house.now());
        let found = it.to_be_deactivated(it.so_far()).await?;
        ensure!(found.len() == 1 && found[0].parked_run_id == run.run_id, "{found:?}");
        ensure!(found[0].deactivate_time == Some(now), "{found:?}");
        let (_, steps) = it.explain(&ana).await?;
        ensure!(steps.len() == 1 && steps[0].time == Some(now), "{steps:?}");
        ensure!(steps[0].description.contains("until somebody decides"), "{steps:?}");

        let request = api::DismissInactivityRunRequest {
            tenant_id: it.tenant.clone(),
            run_id: run.run_id,
            options: None,
        };
        it.house.clients.inactivity().dismiss_inactivity_run(request).await?;
        let again = it.so_far() + days(7);
        ensure!(it.to_be_deactivated(it.so_far()).await?.is_empty(), "they are spared");
        let found = it.to_be_deactivated(again).await?;
        ensure!(found.len() == 1 && found[0].parked_run_id.is_empty(), "{found:?}");
        ensure!(found[0].deactivate_time == Some(proto(it.from + again)), "{found:?}");
        ensure!(it.next(&ana).await? == [("deactivate_inactive".to_owned(), again)]);
        it.live(again - HOUR).await?;
        ensure!(it.runs().await?.len() == 1);
        it.live(again + HOUR * 2).await?;
        ensure!(it.runs().await?.len() == 2, "considered again");
        it.house.leave().await
    })
}

/// People whom a pause keeps from being invited: more than one release of the sweep takes.
const HELD: usize = 650;

/// B15: 100 a second, although every mail is looked at in the middle of it.
#[test]
fn hundreds_of_mails_that_a_pause_held_go_out_at_the_pace_that_was_promised() -> Result<()> {
    moment((0, 0), async |mut it| {
        it.pause().await?;
        it.live(HOUR).await?;
        for class in (0..HELD).collect::<Vec<_>>().chunks(200) {
            let addresses: Vec<String> = class.iter().map(|number| format!("p{number}@moment.example")).collect();
            let request = api::InviteUsersRequest {
                tenant_id: it.tenant.clone(),
                addresses: addresses.join(", "),
                ..api::InviteUsersRequest::default()
            };
            it.house.clients.invitations().invite_users(request).await?;
        }
        // All are looked at once a day, at the same minute.
        let resumed = days(2) + HOUR - TimeDelta::seconds(3);
        it.live(resumed).await?;
        ensure!(it.house.post.posted().is_empty());
        it.resume().await?;
        let mut counted = Vec::new();
        for tick in 1..=30 {
            it.live(resumed + TimeDelta::milliseconds(250 * tick)).await?;
            counted.push((it.so_far() - resumed, it.house.post.posted().len()));
        }
        for (after, count) in &counted {
            let allowed = usize::try_from(after.num_milliseconds() / 10)?;
            ensure!(*count <= allowed, "{count} after {after}: {counted:?}");
            // Nor does it go slower.
            let expected = allowed.saturating_sub(50).min(HELD);
            ensure!(*count >= expected, "{count} after {after}: {counted:?}");
        }
        let mut each: HashMap<String, usize> = HashMap::new();
        for mail in it.house.post.posted() {
            *each.entry(mail.to).or_default() += 1;
        }
        ensure!(each.len() == HELD && each.values().all(|count| *count == 1));
        it.house.leave().await
    })
}
