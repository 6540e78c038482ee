//! `usher invite`: addresses as they come, from arguments, a file or standard input (L4).

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use prost_types::Timestamp;
use usher_core::email::{EmailAddress, split_addresses};
use usher_proto::identity::v1::invite_result::Outcome;
use usher_proto::identity::v1::{
    InviteResult, InviteUsersRequest, Message, MutationOptions, PreviewInvitationRequest, PreviewInvitationResponse,
    SendTestInvitationRequest, SendTestInvitationResponse,
};
use uuid::Uuid;

use super::users::status;
use super::{Change, Session};
use crate::client::{patiently, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Show};
use crate::time;

/// What the progress bar shows.
const BAR: &str = "{bar:40} {pos}/{len} addresses, {eta} left";
/// Addresses in one call.
const BATCH: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// Addresses, separated by comma, semicolon or white space. Without any, and without --file, standard input is read.
    #[arg(value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// Read addresses from this file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The language of accounts that are made, for example fr or pt-BR.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TAG")]
    language: String,
    /// A label for every account; repeat it for several.
    #[arg(long)]
    label: Vec<String>,
    /// Access of every account ends at this instant.
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    expire: Option<Timestamp>,
    /// Every account is erased at this instant.
    #[arg(long, value_name = "DATE", value_parser = time::parse)]
    delete_on: Option<Timestamp>,
    /// A group that every account becomes a member of: id, external id or path A/B; repeat it for several.
    #[arg(long)]
    group: Vec<String>,
    /// A role for every account, held in the groups, or on the platform where there are none; repeat it for several.
    #[arg(long)]
    role: Vec<String>,
    /// The programme session that the invitation comes from: then exactly one group, and the role learner.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SESSION")]
    session: String,
    #[command(flatten)]
    text: Text,
    /// Print the mail as it would be sent, and send nothing.
    #[arg(long, conflicts_with_all = ["addresses", "file", "test"])]
    preview: bool,
    /// Send a test version to this address only; its link leads nowhere.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["addresses", "file"])]
    test: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// A text of one's own for the mail. It is plain text: markup arrives as the characters that it is.
#[derive(Debug, Args)]
pub(crate) struct Text {
    /// A subject of your own.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    subject: String,
    /// A file with a text of your own for the mail.
    #[arg(long, value_name = "FILE")]
    message_file: Option<PathBuf>,
}

impl Text {
    /// None, or one for all languages.
    pub(super) fn messages(&self) -> Result<Vec<Message>, Failure> {
        let text = match &self.message_file {
            Some(path) => text_of(path)?,
            None => String::new(),
        };
        if text.is_empty() && self.subject.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Message {
            language: String::new(),
            subject: self.subject.clone(),
            text,
        }])
    }
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read(path)?)
        .map_err(|_| Failure::Data(format!("{} is not UTF-8; save it as UTF-8", path.display())))?;
    Ok(text.trim_start_matches('\u{FEFF}').to_owned())
}

pub(super) async fn run(command: &Invite, session: &Session) -> Result<Exit, Failure> {
    if command.preview {
        return preview(command, session).await;
    }
    if let Some(email) = &command.test {
        return test(command, email, session).await;
    }
    let mut results = Vec::new();
    let mut cut_off = None;
    let messages = command.text.messages()?;
    let group_ids = session.client.group_ids(&command.group).await?;
    let roles = session.client.role_names(&command.role).await?;
    let given = addresses(command)?;
    let addresses = fold(&given);
    let bar = ProgressBar::new(addresses.len() as u64);
    bar.set_style(ProgressStyle::with_template(BAR).expect("a test reads this template"));
    for batch in addresses.chunks(BATCH) {
        let request = InviteUsersRequest {
            tenant_id: session.client.tenant.clone(),
            addresses: batch.join("\n"),
            language: command.language.clone(),
            labels: command.label.clone(),
            expire_time: command.expire,
            messages: messages.clone(),
            options: Some(once(command.change.options())),
            group_ids: group_ids.clone(),
            roles: roles.clone(),
            delete_time: command.delete_on,
            session_id: command.session.clone(),
        };
        let invite = || async { Ok(session.client.invitations().invite_users(request.clone()).await?) };
        match patiently(invite).await {
            Ok(answer) => results.extend(answer.into_inner().results),
            Err(failure) => {
                cut_off = Some(failure);
                break;
            }
        }
        bar.set_position(results.len() as u64);
    }
    bar.finish_and_clear();
    session.out.list(&results)?;
    if let Some(failure) = cut_off {
        output::note(&format!(
            "{} of {} addresses were sent.",
            results.len(),
            addresses.len()
        ));
        return Err(failure);
    }
    let refused = results
        .iter()
        .filter(|result| matches!(result.outcome, Some(Outcome::Refused(_))))
        .count();
    if !session.out.json {
        output::note(&format!("{} invited, {refused} refused", results.len() - refused));
    }
    Ok(if refused == 0 { Exit::Done } else { Exit::Partly })
}

/// So that a call whose answer was lost can be sent again, and is carried out once (B1).
fn once(options: MutationOptions) -> MutationOptions {
    if options.validate_only {
        return options;
    }
    MutationOptions {
        request_id: format!("invite:{}", Uuid::new_v4().simple()),
        ..options
    }
}

fn addresses(command: &Invite) -> Result<String, Failure> {
    let mut text = command.addresses.join("\n");
    let file = match &command.file {
        Some(path) => Some(path.as_path()),
        None if text.is_empty() && std::io::stdin().is_terminal() => {
            return Err(Failure::Usage(
                "whom? give addresses, --file FILE, or a list on standard input".into(),
            ));
        }
        None if text.is_empty() => Some(Path::new("-")),
        None => None,
    };
    if let Some(path) = file {
        text.push('\n');
        text.push_str(&text_of(path)?);
    }
    if split_addresses(&text).next().is_none() {
        return Err(Failure::Data("there is no address in what was given".into()));
    }
    Ok(text)
}

/// Each address once, as it stands first; what is no address stays, so that the answer names it.
fn fold(text: &str) -> Vec<&str> {
    let mut seen = HashSet::new();
    split_addresses(text)
        .filter(|piece| {
            seen.insert(EmailAddress::parse(piece).map_or_else(|_| (*piece).to_owned(), |email| email.key().to_owned()))
        })
        .collect()
}

async fn preview(command: &Invite, session: &Session) -> Result<Exit, Failure> {
    let request = PreviewInvitationRequest {
        tenant_id: session.client.tenant.clone(),
        language: command.language.clone(),
        first_name: String::new(),
        messages: command.text.messages()?,
        reminder_step: 0,
    };
    let mail = session
        .client
        .invitations()
        .preview_invitation(request)
        .await?
        .into_inner();
    if session.out.json {
        session.out.list(&[mail])?;
    } else {
        output::pairs(&[("Subject:", mail.subject)])?;
        output::lines(std::iter::once("").chain(mail.text.lines()))?;
    }
    Ok(Exit::Done)
}

async fn test(command: &Invite, email: &str, session: &Session) -> Result<Exit, Failure> {
    let request = SendTestInvitationRequest {
        tenant_id: session.client.tenant.clone(),
        email: email.to_owned(),
        language: command.language.clone(),
        first_name: String::new(),
        messages: command.text.messages()?,
        options: Some(command.change.options()),
    };
    let answer = session
        .client
        .invitations()
        .send_test_invitation(request)
        .await?
        .into_inner();
    session.out.list(&[answer])?;
    Ok(Exit::Done)
}

impl Show for InviteResult {
    const NAME: &'static str = "usher.identity.v1.InviteResult";
    const COLUMNS: &'static [&'static str] = &["ADDRESS", "OUTCOME", "STATUS", "USER ID", "INVITATION ID", "WHY NOT"];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.address.clone()];
        match &self.outcome {
            Some(Outcome::Invited(invited)) => {
                let (user, invitation) = (invited.user.as_ref(), invited.invitation.as_ref());
                cells.push(if invited.created { "created, invited" } else { "invited" }.into());
                cells.push(user.map(|user| status(user.status()).to_owned()).unwrap_or_default());
                cells.push(user.map(|user| user.user_id.clone()).unwrap_or_default());
                cells.push(
                    invitation
                        .map(|invitation| invitation.invitation_id.clone())
                        .unwrap_or_default(),
                );
                cells.push(String::new());
            }
            Some(Outcome::Refused(refusal)) => {
                cells.push("refused".into());
                cells.extend([const { String::new() }; 3]);
                cells.push(refusal.message.clone());
            }
            None => cells.extend([const { String::new() }; 5]),
        }
        cells
    }
}

impl Show for PreviewInvitationResponse {
    const NAME: &'static str = "usher.identity.v1.PreviewInvitationResponse";
    const COLUMNS: &'static [&'static str] = &["LANGUAGE", "SUBJECT"];

    fn cells(&self) -> Vec<String> {
        vec![self.language.clone(), self.subject.clone()]
    }
}

impl Show for SendTestInvitationResponse {
    const NAME: &'static str = "usher.identity.v1.SendTestInvitationResponse";
    const COLUMNS: &'static [&'static str] = &["DELIVERY ID"];

    fn cells(&self) -> Vec<String> {
        vec![self.delivery_id.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_of_the_progress_bar_is_valid() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }

    #[test]
    fn duplicates_fold_into_the_first_and_what_is_no_address_stays() {
        let text = "ana@example.org; ANA@EXAMPLE.org,\n  bo@exämple.org bo@xn--exmple-cua.org nonsense nonsense a@@b";
        assert_eq!(fold(text), ["ana@example.org", "bo@exämple.org", "nonsense", "a@@b"]);
    }
}
