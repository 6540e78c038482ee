//! `usher users`

use std::future::Future;

use clap::{Args, Subcommand};
use prost_types::{FieldMask, Timestamp};
use usher_proto::identity::v1::{
    CreateUserRequest, DeactivateUserRequest, InitialState, ListUsersRequest, ReactivateUserRequest,
    SetUserExpirationRequest, UpdateUserRequest, User, UserStatus,
};

use super::filter::Filter;
use super::{Change, Limit, Session, each};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{Show, short};
use crate::password::Password;
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// List users.
    List(List),
    /// Show one user.
    Show {
        /// Id, address or external id.
        user: String,
    },
    /// Create an account: pending, or active with a password.
    Create(Create),
    /// Change a user's data; never the status.
    Update(Update),
    /// End access at once; everything else stays.
    Deactivate(Switch),
    /// Restore the status before the deactivation.
    Reactivate(Switch),
    /// Set, move or clear the expiration. On an expired user that restores the earlier status.
    Expire {
        /// Id, address or external id.
        user: String,
        /// 2027-06-30, 2027-06-30T18:00:00+02:00, or never. A day means its beginning in UTC.
        #[arg(value_parser = expiration)]
        date: Expiration,
        #[command(flatten)]
        version: Version,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Order; the oldest account first if left out. By last_login_time, who never signed in comes first.
    #[arg(long, value_name = "FIELD",
        value_parser = ["name", "name desc", "email", "email desc", "create_time", "create_time desc",
            "last_login_time", "last_login_time desc"])]
    order_by: Option<String>,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The address.
    email: String,
    #[command(flatten)]
    profile: Profile,
    /// Access ends at this instant.
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    expire: Option<Timestamp>,
    /// The account is erased at this instant.
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    delete_on: Option<Timestamp>,
    /// A group of the new account: id, external id or path A/B; repeat it for several.
    #[arg(long)]
    group: Vec<String>,
    /// A role of the new account, held in its groups, or on the platform where there are none; repeat it for several.
    #[arg(long)]
    role: Vec<String>,
    /// Active at once, with a one-time password that is mailed.
    #[arg(long, conflicts_with_all = ["password", "password_stdin"])]
    active: bool,
    #[command(flatten)]
    password: Password,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Id, address or external id.
    user: String,
    /// The new address.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    #[command(flatten)]
    profile: Profile,
    /// Take all labels away.
    #[arg(long, conflicts_with = "label")]
    no_labels: bool,
    /// The account is erased at this instant; or never.
    #[arg(long, value_name = "DATE", value_parser = expiration)]
    delete_on: Option<Expiration>,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
struct Profile {
    /// First name.
    #[arg(long, value_name = "NAME")]
    first_name: Option<String>,
    /// Last name.
    #[arg(long, value_name = "NAME")]
    last_name: Option<String>,
    /// Language of mails, for example fr or pt-BR.
    #[arg(long, value_name = "TAG")]
    language: Option<String>,
    /// A label; repeat it for several. They replace those that are there.
    #[arg(long)]
    label: Vec<String>,
    /// The id of this person in your own system.
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Switch {
    /// Ids, addresses or external ids.
    #[arg(required = true, value_name = "USER")]
    users: Vec<String>,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Refuse if the account has another version by now.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "NUMBER")]
    expected_version: i64,
}

/// An expiration as it is given on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Expiration {
    At(Timestamp),
    Never,
}

impl Expiration {
    /// As the API has it.
    pub(crate) fn time(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Never => None,
        }
    }
}

/// Reads a date, or `never`.
pub(crate) fn expiration(text: &str) -> Result<Expiration, String> {
    if text.eq_ignore_ascii_case("never") {
        Ok(Expiration::Never)
    } else {
        time::parse(text).map(Expiration::At)
    }
}

pub(super) async fn run(command: &Users, session: &Session) -> Result<Exit, Failure> {
    match command {
        Users::List(list) => session.out.list(&self::list(list, session).await?)?,
        Users::Show { user } => show(session, &session.client.user(user).await?)?,
        Users::Create(create) => show(session, &self::create(create, session).await?)?,
        Users::Update(update) => show(session, &self::update(update, session).await?)?,
        Users::Deactivate(switch) => {
            return several(switch, session, |tenant_id, user_id| async move {
                let request = DeactivateUserRequest {
                    tenant_id,
                    user_id,
                    expected_version: switch.version.expected_version,
                    options: Some(switch.change.options()),
                };
                Ok(session.client.users().deactivate_user(request).await?.into_inner().user)
            })
            .await;
        }
        Users::Reactivate(switch) => {
            return several(switch, session, |tenant_id, user_id| async move {
                let request = ReactivateUserRequest {
                    tenant_id,
                    user_id,
                    expected_version: switch.version.expected_version,
                    options: Some(switch.change.options()),
                };
                Ok(session.client.users().reactivate_user(request).await?.into_inner().user)
            })
            .await;
        }
        Users::Expire {
            user,
            date,
            version,
            change,
        } => {
            let request = SetUserExpirationRequest {
                tenant_id: session.client.tenant.clone(),
                user_id: session.client.user_id(user).await?,
                expire_time: date.time(),
                expected_version: version.expected_version,
                options: Some(change.options()),
            };
            let user = session
                .client
                .users()
                .set_user_expiration(request)
                .await?
                .into_inner()
                .user;
            show(session, &user.ok_or_else(|| incomplete("user"))?)?;
        }
    }
    Ok(Exit::Done)
}

async fn several<W>(switch: &Switch, session: &Session, act: impl Fn(String, String) -> W) -> Result<Exit, Failure>
where
    W: Future<Output = Result<Option<User>, Failure>>,
{
    let (users, exit) = each(&switch.users, |name| {
        let act = &act;
        async move {
            let user_id = session.client.user_id(&name).await?;
            act(session.client.tenant.clone(), user_id)
                .await?
                .ok_or_else(|| incomplete("user"))
        }
    })
    .await?;
    session.out.list(&users)?;
    Ok(exit)
}

async fn list(list: &List, session: &Session) -> Result<Vec<User>, Failure> {
    let filter = list.filter.resolve(&session.client).await?;
    let page = |page_size, page_token| {
        let request = ListUsersRequest {
            tenant_id: session.client.tenant.clone(),
            filter: Some(filter.clone()),
            order_by: list.order_by.clone().unwrap_or_default(),
            page_size,
            page_token,
        };
        async move {
            let answer = session.client.users().list_users(request).await?.into_inner();
            Ok((answer.users, answer.next_page_token))
        }
    };
    list.limit.gather(page).await
}

async fn create(create: &Create, session: &Session) -> Result<User, Failure> {
    let Profile {
        first_name,
        last_name,
        language,
        label,
        external_id,
    } = &create.profile;
    let password = create.password.given()?;
    let state = match (&password, create.active) {
        (Some(_), _) => InitialState::ActiveWithPassword,
        (None, true) => InitialState::ActiveWithGeneratedPassword,
        (None, false) => InitialState::Pending,
    };
    let request = CreateUserRequest {
        tenant_id: session.client.tenant.clone(),
        user: Some(User {
            email: create.email.clone(),
            first_name: first_name.clone().unwrap_or_default(),
            last_name: last_name.clone().unwrap_or_default(),
            language: language.clone().unwrap_or_default(),
            labels: label.clone(),
            external_id: external_id.clone().unwrap_or_default(),
            expire_time: create.expire,
            delete_time: create.delete_on,
            ..User::default()
        }),
        initial_state: state.into(),
        password: password.unwrap_or_default(),
        options: Some(create.change.options()),
        group_ids: session.client.group_ids(&create.group).await?,
        roles: session.client.role_names(&create.role).await?,
    };
    let user = session.client.users().create_user(request).await?.into_inner().user;
    user.ok_or_else(|| incomplete("user"))
}

async fn update(update: &Update, session: &Session) -> Result<User, Failure> {
    let Profile {
        first_name,
        last_name,
        language,
        label,
        external_id,
    } = &update.profile;
    let given = [
        ("email", update.email.is_some()),
        ("first_name", first_name.is_some()),
        ("last_name", last_name.is_some()),
        ("language", language.is_some()),
        ("labels", update.no_labels || !label.is_empty()),
        ("external_id", external_id.is_some()),
        ("delete_time", update.delete_on.is_some()),
    ];
    let paths: Vec<String> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(path, _)| (*path).to_owned())
        .collect();
    if paths.is_empty() {
        return Err(Failure::Usage(
            "nothing to change; see `usher users update --help`".into(),
        ));
    }
    let request = UpdateUserRequest {
        user: Some(User {
            tenant_id: session.client.tenant.clone(),
            user_id: session.client.user_id(&update.user).await?,
            email: update.email.clone().unwrap_or_default(),
            first_name: first_name.clone().unwrap_or_default(),
            last_name: last_name.clone().unwrap_or_default(),
            language: language.clone().unwrap_or_default(),
            labels: label.clone(),
            external_id: external_id.clone().unwrap_or_default(),
            delete_time: update.delete_on.and_then(Expiration::time),
            ..User::default()
        }),
        update_mask: Some(FieldMask { paths }),
        expected_version: update.version.expected_version,
        options: Some(update.change.options()),
    };
    let user = session.client.users().update_user(request).await?.into_inner().user;
    user.ok_or_else(|| incomplete("user"))
}

impl Show for User {
    const NAME: &'static str = "usher.identity.v1.User";
    const COLUMNS: &'static [&'static str] = &[
        "USER ID",
        "STATUS",
        "EMAIL",
        "NAME",
        "LANGUAGE",
        "LABELS",
        "EXPIRES",
        "LAST SIGN-IN",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.user_id.clone(),
            status(self.status()).to_owned(),
            self.email.clone(),
            full_name(self),
            self.language.clone(),
            self.labels.join(", "),
            time::show(self.expire_time.as_ref()),
            time::show(self.last_login_time.as_ref()),
        ]
    }
}

/// A status as people read it.
pub(crate) fn status(status: UserStatus) -> &'static str {
    short(status.as_str_name(), "USER_STATUS_")
}

fn full_name(user: &User) -> String {
    format!("{} {}", user.first_name, user.last_name).trim().to_owned()
}

/// A user's lines, one a field.
pub(super) fn pairs(user: &User) -> Vec<(&'static str, String)> {
    let restores = match status(user.restores()) {
        "" => String::new(),
        restores => format!(" (restores {restores})"),
    };
    vec![
        ("User", user.user_id.clone()),
        ("Address", user.email.clone()),
        ("Name", full_name(user)),
        (
            "Status",
            format!(
                "{} since {}{restores}",
                status(user.status()),
                time::show(user.status_time.as_ref())
            ),
        ),
        (
            "Expires",
            if user.expire_time.is_some() {
                time::show(user.expire_time.as_ref())
            } else {
                "never".into()
            },
        ),
        ("Erased on", time::show(user.delete_time.as_ref())),
        ("Waits for a seat since", time::show(user.seat_wait_time.as_ref())),
        ("Last sign-in", time::show(user.last_login_time.as_ref())),
        (
            "Came so far",
            short(user.engagement().as_str_name(), "ENGAGEMENT_").to_owned(),
        ),
        ("First course", time::show(user.first_course_time.as_ref())),
        ("Language", user.language.clone()),
        ("Labels", user.labels.join(", ")),
        ("External id", user.external_id.clone()),
        ("Created", time::show(user.create_time.as_ref())),
        ("Version", user.version.to_string()),
    ]
}

/// Prints one user.
pub(super) fn show(session: &Session, user: &User) -> Result<(), Failure> {
    session.out.one(user, &pairs(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiration_is_a_date_or_never() {
        assert_eq!(expiration("Never"), Ok(Expiration::Never));
        assert!(matches!(expiration("2027-06-30"), Ok(Expiration::At(_))));
        assert!(expiration("").is_err());
    }

    #[test]
    fn an_expired_user_shows_what_a_later_date_restores() {
        let user = User {
            status: UserStatus::Expired.into(),
            restores: UserStatus::Deactivated.into(),
            status_time: Some(Timestamp { seconds: 0, nanos: 0 }),
            ..User::default()
        };
        let shown = pairs(&user).into_iter().find(|(name, _)| *name == "Status").unwrap().1;
        assert_eq!(shown, "EXPIRED since 1970-01-01 00:00:00Z (restores DEACTIVATED)");
    }
}
