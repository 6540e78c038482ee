//! The demonstration: imports a file, shows how the statuses move while the mails go out, says what to try next, and
//! then shows what happens as it happens.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use usher_proto::identity::v1::{
    GetUserRequest, ImportMode, ImportSettings, Invitation, InvitationState, ListInvitationsRequest, ListUsersRequest,
    UserStatus, WatchEventsRequest, WatchEventsResponse,
};

use super::administration;
use super::welcome::Guide;
use crate::client::{Client, incomplete};
use crate::commands::upload::Upload;
use crate::commands::watch::{follow, tell};
use crate::commands::{Session, status, transition};
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::time;

/// How often the statuses are counted while the mails go out.
const LOOK: Duration = Duration::from_millis(250);
/// How often at most: the mail server may be away.
const LOOKS: u32 = 120;

/// Runs it. Ends only if the service does.
pub(super) async fn run(guide: &Guide, client: &Client, file: &Path) -> Result<(), Failure> {
    output::lines([String::new(), format!("Importing {}:", file.display())])?;
    let settings = ImportSettings {
        tenant_id: client.tenant.clone(),
        mode: ImportMode::Invite.into(),
        ..ImportSettings::default()
    };
    let upload = Upload::new(settings, "demonstration", crate::client::read(file)?);
    let job = upload.send(client, &ProgressBar::hidden()).await?.job;
    let job = follow(job.ok_or_else(|| incomplete("job"))?, client, &ProgressBar::hidden()).await?;
    let session = Session {
        client: client.clone(),
        out: Output { json: false },
    };
    tell(&job, &session).await?;

    output::lines(["", "The invitation worker takes the mails from here:"])?;
    show_statuses(client).await?;
    administration::run(guide, client).await?;
    next_steps(guide, client).await?;
    output::lines(["", "What happens from now on:"])?;
    show_events(client).await
}

/// Prints how many users have which status, each time that changes, until nobody waits for a mail.
async fn show_statuses(client: &Client) -> Result<(), Failure> {
    let mut shown = String::new();
    for _ in 0..LOOKS {
        // Asked before the count: whatever leaves the queue afterwards is in the count, so that the last line is the last word.
        let waiting = !invitations(client, InvitationState::Queued, 1).await?.is_empty();
        let counts = count(client).await?;
        let line: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{count:>4} {}", status(*name)))
            .collect();
        let line = line.join("  ");
        if line != shown {
            output::lines([&line])?;
            shown = line;
        }
        if !waiting {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    output::note("Some mails still wait; `usher deliveries` says why.");
    Ok(())
}

async fn count(client: &Client) -> Result<BTreeMap<UserStatus, usize>, Failure> {
    let mut counts = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListUsersRequest {
            tenant_id: client.tenant.clone(),
            page_size: 1_000,
            page_token,
            ..ListUsersRequest::default()
        };
        let page = client.users().list_users(request).await?.into_inner();
        for user in &page.users {
            *counts.entry(user.status()).or_default() += 1;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(counts);
        }
    }
}

async fn invitations(client: &Client, state: InvitationState, page_size: i32) -> Result<Vec<Invitation>, Failure> {
    let request = ListInvitationsRequest {
        tenant_id: client.tenant.clone(),
        states: vec![state.into()],
        page_size,
        ..ListInvitationsRequest::default()
    };
    Ok(client
        .invitations()
        .list_invitations(request)
        .await?
        .into_inner()
        .invitations)
}

/// Names people of the file, so that each line can be typed as it stands.
async fn next_steps(guide: &Guide, client: &Client) -> Result<(), Failure> {
    let open = invitations(client, InvitationState::Sent, 100).await?;
    let mut plain: Vec<&str> = open
        .iter()
        .map(|invitation| invitation.email.as_str())
        .filter(|email| is_plain(email))
        .collect();
    plain.sort_by_key(|email| email.to_lowercase());
    let mut plain = plain.into_iter();
    let mut lines = vec![String::new(), "Try in another terminal:".into()];
    if let Some(email) = plain.next() {
        lines.push(format!("  # be {email}, with the link in the mail"));
        lines.push(guide.command(&format!("accept {}", guide.mail_to(email))));
    }
    lines.push("  # four days pass: the first reminder goes to all others".into());
    lines.push(guide.local_command("clock advance 4d"));
    if let Some(email) = plain.next() {
        lines.push("  # why is somebody where they are, and what comes next?".into());
        lines.push(guide.command(&format!("explain {email}")));
    }
    if let Some(email) = plain.next() {
        lines.push("  # out and in again".into());
        lines.push(guide.command(&format!("users deactivate {email}")));
        lines.push(guide.command(&format!("users reactivate {email}")));
    }
    lines.push("  # whom would it be about? say no, and nothing happens".into());
    lines.push(guide.command("bulk deactivate --group Francophones"));
    lines.push("  # everybody".into());
    lines.push(guide.command("users list --order-by name"));
    output::lines(lines)
}

/// Whether an address can be typed into any shell.
fn is_plain(email: &str) -> bool {
    email
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"@.-_".contains(&byte))
}

/// Prints a line for each change of a status and for each reminder.
async fn show_events(client: &Client) -> Result<(), Failure> {
    let request = WatchEventsRequest {
        tenant_id: client.tenant.clone(),
        type_prefixes: vec!["user.".into(), "delivery.sent".into()],
        ..WatchEventsRequest::default()
    };
    let mut stream = client.events().watch_events(request).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        if let Some(line) = line(client, &answer).await {
            output::lines([output::printable(&line)])?;
        }
    }
    Ok(())
}

async fn line(client: &Client, answer: &WatchEventsResponse) -> Option<String> {
    let event = answer.event.as_ref()?;
    let what = if answer.event_type == "delivery.sent" {
        (event.reminder_step > 0).then(|| format!("reminder {} sent", event.reminder_step))?
    } else {
        (event.from_status != event.to_status).then(|| transition(&event.from_status, &event.to_status))?
    };
    let request = GetUserRequest {
        tenant_id: client.tenant.clone(),
        user_id: event.user_id.clone(),
    };
    let who = match client.users().get_user(request).await {
        Ok(answer) => answer.into_inner().user.map(|user| user.email).unwrap_or_default(),
        Err(_gone) => event.user_id.clone(),
    };
    let why = if event.reason.is_empty() {
        String::new()
    } else {
        format!("  ({})", event.reason)
    };
    Some(format!("{}  {what:24}  {who}{why}", time::show(answer.time.as_ref())))
}
