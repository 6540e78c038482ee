//! Which users: the filters of `usher users list`, and the same for what acts on many (U3, U4, U5).

use clap::Args;
use prost_types::Timestamp;
use usher_proto::identity::v1::selection::By;
use usher_proto::identity::v1::{Activity, Engagement, ErrorReason, Selection, UserFilter, UserIds, UserStatus};

use super::choice;
use crate::client::Client;
use crate::failure::Failure;
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only this status; repeat it for several. Without it all but the erased.
    #[arg(long, value_parser = choice!(UserStatus, "USER_STATUS_", ["pending", "invited", "active", "deactivated", "expired", "erased"]))]
    status: Vec<UserStatus>,
    /// Only with this label; repeated: with all of them.
    #[arg(long)]
    label: Vec<String>,
    /// Only with this language; repeated: with any of them.
    #[arg(long, value_name = "TAG")]
    language: Vec<String>,
    /// Only with this in the name or the address; case and accents do not matter.
    #[arg(long, default_value = "", hide_default_value = true)]
    text: String,
    /// Only in this group or one below it: id, external id or path A/B. Repeated: in any of them.
    #[arg(long)]
    group: Vec<String>,
    /// Only those who hold this role somewhere. Repeated: any of them.
    #[arg(long)]
    role: Vec<String>,
    /// Only those who never signed in.
    #[arg(long, conflicts_with = "inactive_since")]
    never_logged_in: bool,
    /// Only those who signed in once, but not since this date.
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    inactive_since: Option<Timestamp>,
    /// Only active users who never opened a course (activated), or did (engaged).
    #[arg(long, value_parser = choice!(Engagement, "ENGAGEMENT_", ["activated", "engaged"]))]
    engagement: Option<Engagement>,
    /// Only those whose open invitation was sent before this date.
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    invited_before: Option<Timestamp>,
    /// Only those who registered and wait for a seat.
    #[arg(long)]
    waiting_for_seat: bool,
}

impl Filter {
    /// As the API has it; groups and roles are looked up by the names that people use.
    pub(super) async fn resolve(&self, client: &Client) -> Result<UserFilter, Failure> {
        let activity = match (self.never_logged_in, self.inactive_since) {
            (true, _) => Activity::NeverLoggedIn,
            (false, Some(_)) => Activity::Inactive,
            (false, None) => Activity::Unspecified,
        };
        Ok(UserFilter {
            statuses: self.status.iter().map(|status| *status as i32).collect(),
            labels: self.label.clone(),
            languages: self.language.clone(),
            text: self.text.clone(),
            group_ids: client.group_ids(&self.group).await?,
            roles: client.role_names(&self.role).await?,
            activity: activity.into(),
            last_login_before: self.inactive_since,
            invited_before: self.invited_before,
            waiting_for_seat: self.waiting_for_seat,
            engagement: self.engagement.unwrap_or_default().into(),
        })
    }
}

/// Users by name, or whoever a filter matches.
#[derive(Debug, Args)]
pub(crate) struct Whom {
    #[command(flatten)]
    filter: Filter,
    /// This user: id, address or external id; repeat it for several.
    #[arg(long, conflicts_with = "Filter")]
    user: Vec<String>,
}

impl Whom {
    /// As the API has it. A name that nobody has is a failure of the whole: what is done to many begins with a list that is
    /// right.
    pub(super) async fn resolve(&self, client: &Client) -> Result<Selection, Failure> {
        if self.user.is_empty() {
            let by = By::Filter(self.filter.resolve(client).await?);
            return Ok(Selection { by: Some(by) });
        }
        let mut user_ids = Vec::with_capacity(self.user.len());
        for name in &self.user {
            let user_id = client.user_id(name).await.map_err(|failure| match failure.reason() {
                Some(ErrorReason::UserNotFound) => Failure::Data(format!(
                    "there is no user {name}; nothing was done; see `usher users list`"
                )),
                _ => failure,
            })?;
            user_ids.push(user_id);
        }
        let by = By::UserIds(UserIds { user_ids });
        Ok(Selection { by: Some(by) })
    }
}

/// Whether a selection is everybody there is.
pub(super) fn is_everybody(selection: &Selection) -> bool {
    matches!(&selection.by, Some(By::Filter(filter)) if *filter == UserFilter::default())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::client::{DEFAULT_SERVER, DEMO_TENANT};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        whom: Whom,
    }

    async fn selection(line: &str) -> Selection {
        let client = Client::try_new(DEFAULT_SERVER, DEMO_TENANT, "").unwrap();
        let line = Line::parse_from(line.split(' '));
        line.whom.resolve(&client).await.unwrap()
    }

    #[tokio::test]
    async fn u4_activity_is_one_of_never_and_not_since() {
        for (line, activity) in [
            ("x --never-logged-in", Activity::NeverLoggedIn),
            ("x --inactive-since 2027-01-01", Activity::Inactive),
            ("x --waiting-for-seat", Activity::Unspecified),
        ] {
            let selection = selection(line).await;
            assert!(!is_everybody(&selection), "{line}");
            let Some(By::Filter(filter)) = selection.by else {
                panic!("{line} is a filter");
            };
            assert_eq!(filter.activity(), activity, "{line}");
        }
        assert!(Line::try_parse_from(["x", "--never-logged-in", "--inactive-since", "2027-01-01"]).is_err());
    }

    #[tokio::test]
    async fn u5_a_selection_is_names_or_a_filter_and_built_in_roles_need_no_look_up() {
        let group = "0197a2f0-0000-7000-8000-000000000001";
        let selected = selection(&format!("x --group {group} --role coach")).await;
        let Some(By::Filter(filter)) = selected.by else {
            panic!("a filter");
        };
        assert_eq!(
            (filter.group_ids, filter.roles),
            (vec![group.into()], vec!["coach".into()])
        );
        let selected = selection(&format!("x --user {group}")).await;
        assert!(matches!(selected.by, Some(By::UserIds(ids)) if ids.user_ids == [group]));
        assert!(is_everybody(&selection("x").await));
        assert!(Line::try_parse_from(["x", "--user", "a@x.org", "--label", "a"]).is_err());
    }
}
