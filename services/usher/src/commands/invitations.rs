//! `usher invitations`

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use usher_proto::identity::v1::{
    CancelInvitationRequest, GetInvitationRequest, Invitation, InvitationState, ListInvitationsRequest,
    ResendInvitationRequest, SendInvitationRequest,
};

use super::invite::Text;
use super::{Change, Limit, Session, choice, each};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{Show, short};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Invitations {
    /// List invitations, the newest first: the open ones.
    List(List),
    /// Show invitations.
    Show {
        /// The invitations' ids.
        #[arg(required = true, value_name = "INVITATION")]
        invitations: Vec<String>,
    },
    /// Invite users who have an account already and have not registered. A second invitation replaces the first.
    Send {
        /// Ids, addresses or external ids.
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
        #[command(flatten)]
        text: Text,
        #[command(flatten)]
        change: Change,
    },
    /// Cancel open invitations: their links are dead at once.
    Cancel {
        /// The invitations' ids.
        #[arg(required = true, value_name = "INVITATION")]
        invitations: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Send invitations again, with new links; the old ones are dead at once.
    Resend {
        /// The invitations' ids.
        #[arg(required = true, value_name = "INVITATION")]
        invitations: Vec<String>,
        #[command(flatten)]
        text: Text,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Of every state.
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Only this state; repeat it for several.
    #[arg(long, value_parser = choice!(InvitationState, "INVITATION_STATE_", ["queued", "sent", "accepted", "cancelled", "superseded", "lapsed", "undeliverable"]))]
    state: Vec<InvitationState>,
    /// Only those of this user: id, address or external id.
    #[arg(long)]
    user: Option<String>,
    /// Only those sent before this date: who might need another one?
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    sent_before: Option<Timestamp>,
    #[command(flatten)]
    limit: Limit,
}

const EVERY_STATE: [InvitationState; 7] = [
    InvitationState::Queued,
    InvitationState::Sent,
    InvitationState::Accepted,
    InvitationState::Cancelled,
    InvitationState::Superseded,
    InvitationState::Lapsed,
    InvitationState::Undeliverable,
];

pub(super) async fn run(command: &Invitations, session: &Session) -> Result<Exit, Failure> {
    let tenant_id = &session.client.tenant;
    let client = || session.client.invitations();
    let (found, exit) = match command {
        Invitations::List(options) => return list(options, session).await,
        Invitations::Show { invitations } => {
            let get = |invitation_id: String| async move {
                let request = GetInvitationRequest {
                    tenant_id: tenant_id.clone(),
                    invitation_id,
                };
                present(client().get_invitation(request).await?.into_inner().invitation)
            };
            each(invitations, get).await?
        }
        Invitations::Send { users, text, change } => {
            let messages = &text.messages()?;
            let send = |user: String| async move {
                let request = SendInvitationRequest {
                    tenant_id: tenant_id.clone(),
                    user_id: session.client.user_id(&user).await?,
                    messages: messages.clone(),
                    options: Some(change.options()),
                };
                present(client().send_invitation(request).await?.into_inner().invitation)
            };
            each(users, send).await?
        }
        Invitations::Cancel { invitations, change } => {
            let cancel = |invitation_id: String| async move {
                let request = CancelInvitationRequest {
                    tenant_id: tenant_id.clone(),
                    invitation_id,
                    options: Some(change.options()),
                };
                present(client().cancel_invitation(request).await?.into_inner().invitation)
            };
            each(invitations, cancel).await?
        }
        Invitations::Resend {
            invitations,
            text,
            change,
        } => {
            let messages = &text.messages()?;
            let resend = |invitation_id: String| async move {
                let request = ResendInvitationRequest {
                    tenant_id: tenant_id.clone(),
                    invitation_id,
                    messages: messages.clone(),
                    options: Some(change.options()),
                };
                present(client().resend_invitation(request).await?.into_inner().invitation)
            };
            each(invitations, resend).await?
        }
    };
    session.out.list(&found)?;
    Ok(exit)
}

fn present(invitation: Option<Invitation>) -> Result<Invitation, Failure> {
    invitation.ok_or_else(|| incomplete("invitation"))
}

async fn list(options: &List, session: &Session) -> Result<Exit, Failure> {
    let user_id = match &options.user {
        Some(user) => session.client.user_id(user).await?,
        None => String::new(),
    };
    let states: &[InvitationState] = if options.all { &EVERY_STATE } else { &options.state };
    let page = |page_size, page_token| {
        let request = ListInvitationsRequest {
            tenant_id: session.client.tenant.clone(),
            states: states.iter().map(|state| *state as i32).collect(),
            user_id: user_id.clone(),
            sent_before: options.sent_before,
            page_size,
            page_token,
        };
        async move {
            let answer = session
                .client
                .invitations()
                .list_invitations(request)
                .await?
                .into_inner();
            Ok((answer.invitations, answer.next_page_token))
        }
    };
    options.limit.show(session.out, page).await?;
    Ok(Exit::Done)
}

impl Show for Invitation {
    const NAME: &'static str = "usher.identity.v1.Invitation";
    const COLUMNS: &'static [&'static str] = &[
        "INVITATION ID",
        "STATE",
        "ADDRESS",
        "SENT",
        "LINK DIES",
        "LINK",
        "REMINDERS",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.invitation_id.clone(),
            short(self.state().as_str_name(), "INVITATION_STATE_").to_owned(),
            self.email.clone(),
            time::show(self.send_time.as_ref()),
            time::show(self.lapse_time.as_ref()),
            format!("no. {}", self.generation),
            self.reminders.to_string(),
        ]
    }
}
