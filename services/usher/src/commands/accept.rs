//! `usher accept`: what the page behind an invitation's link does, for trying and for help desks (L1).

use std::path::Path;

use clap::Args;
use url::Url;
use usher_proto::identity::v1::{
    AcceptInvitationRequest, InspectInvitationRequest, InspectInvitationResponse, RequestFreshInvitationRequest,
};

use super::{Change, Session, users};
use crate::client::{incomplete, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Show};
use crate::password::{Password, ask};
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The link from the mail, or the token in it, or the mail itself as an .eml file.
    #[arg(value_name = "LINK")]
    link: String,
    /// First name; asked for if left out.
    #[arg(long, value_name = "NAME")]
    first_name: Option<String>,
    /// Last name; asked for if left out.
    #[arg(long, value_name = "NAME")]
    last_name: Option<String>,
    #[command(flatten)]
    password: Password,
    /// Only show what the link is good for.
    #[arg(long, conflicts_with_all = ["first_name", "last_name", "password", "password_stdin"])]
    inspect: bool,
    /// Ask for a new link to be sent, where this one has died.
    #[arg(long, conflicts_with_all = ["inspect", "first_name", "last_name", "password", "password_stdin"])]
    fresh: bool,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(command: &Accept, session: &Session) -> Result<Exit, Failure> {
    let (tenant, token) = parse(&command.link)?;
    let tenant_id = tenant.unwrap_or_else(|| session.client.tenant.clone());
    let mut client = session.client.invitations();
    if command.fresh {
        let request = RequestFreshInvitationRequest { tenant_id, token };
        client.request_fresh_invitation(request).await?;
        output::note("If a new link is due, it is on its way.");
        return Ok(Exit::Done);
    }
    let request = InspectInvitationRequest {
        tenant_id: tenant_id.clone(),
        token: token.clone(),
    };
    let found = client.inspect_invitation(request).await?.into_inner();
    if command.inspect {
        let pairs = [
            ("Organisation", found.tenant_name.clone()),
            ("Address", found.email.clone()),
            ("First name", found.first_name.clone()),
            ("Last name", found.last_name.clone()),
            ("Link dies", time::show(found.lapse_time.as_ref())),
        ];
        session.out.one(&found, &pairs)?;
        return Ok(Exit::Done);
    }
    let request = AcceptInvitationRequest {
        tenant_id,
        token,
        first_name: name("First name", command.first_name.as_ref(), &found.first_name)?,
        last_name: name("Last name", command.last_name.as_ref(), &found.last_name)?,
        password: command.password.given_or_asked()?,
        options: Some(command.change.options()),
    };
    let user = client.accept_invitation(request).await?.into_inner().user;
    users::show(session, &user.ok_or_else(|| incomplete("user"))?)?;
    Ok(Exit::Done)
}

/// The name that was given, or that is known, or that the person types.
fn name(what: &str, given: Option<&String>, known: &str) -> Result<String, Failure> {
    match given {
        Some(name) => Ok(name.clone()),
        None if !known.is_empty() => Ok(known.to_owned()),
        None => ask(&format!("{what}: "), false),
    }
}

/// The tenant, if the link says which, and the token.
fn parse(link: &str) -> Result<(Option<String>, String), Failure> {
    let link = link.trim();
    let path = Path::new(link);
    if path.extension().is_some_and(|extension| extension == "eml") {
        let mail = String::from_utf8_lossy(&read(path)?).into_owned();
        let no_link = || Failure::Data(format!("there is no link with a token in the text of {link}"));
        return parse(&link_in(&mail).ok_or_else(no_link)?);
    }
    let Ok(url) = Url::parse(link) else {
        return Ok((None, link.to_owned()));
    };
    let find = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    match find("token") {
        Some(token) => Ok((find("tenant"), token)),
        None => Err(Failure::Data(
            "there is no token in this link; copy all of it, to the last character".into(),
        )),
    }
}

/// The link in the text part of one of Usher's own mails.
fn link_in(mail: &str) -> Option<String> {
    let mail = mail.replace("\r\n", "\n");
    let (_, part) = mail.split_once("Content-Type: text/plain")?;
    let (head, body) = part.split_once("\n\n")?;
    let body = body.split("\n--").next()?;
    let body = if head.contains("quoted-printable") {
        unquoted(body)
    } else {
        body.to_owned()
    };
    body.split_whitespace()
        .find(|word| word.contains("://") && word.contains("token="))
        .map(str::to_owned)
}

/// Undoes quoted-printable (RFC 2045 section 6.7) as far as links need it: soft line breaks and octets of ASCII.
fn unquoted(text: &str) -> String {
    let mut pieces = text.split('=');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        if let Some(next_line) = piece.strip_prefix('\n') {
            plain.push_str(next_line);
            continue;
        }
        let octet = piece.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(octet.map_or('\u{FFFD}', char::from));
        plain.push_str(piece.get(2..).unwrap_or_default());
    }
    plain
}

impl Show for InspectInvitationResponse {
    const NAME: &'static str = "usher.identity.v1.InspectInvitationResponse";
    const COLUMNS: &'static [&'static str] = &["ORGANISATION", "ADDRESS", "LINK DIES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.tenant_name.clone(),
            self.email.clone(),
            time::show(self.lapse_time.as_ref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_gives_tenant_and_token_and_a_bare_token_is_taken_as_it_is() {
        let (tenant, token) = parse(" http://127.0.0.1:8080/accept?tenant=t-1&token=AbC_-1 \n").unwrap();
        assert_eq!((tenant.as_deref(), token.as_str()), (Some("t-1"), "AbC_-1"));
        assert_eq!(parse("https://join.example/?token=x").unwrap(), (None, "x".into()));
        assert_eq!(parse("AbC_-1").unwrap(), (None, "AbC_-1".into()));
    }

    #[test]
    fn the_link_is_found_in_the_mail_itself() {
        let head = "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: ";
        let plain =
            format!("{head}7bit\r\n\r\nOpen:\r\nhttp://x.example/a?tenant=t&token=AB-_1\r\n\r\nBye\r\n--=_b--\r\n");
        assert_eq!(
            link_in(&plain).as_deref(),
            Some("http://x.example/a?tenant=t&token=AB-_1")
        );
        let quoted = format!(
            "{head}quoted-printable\r\n\r\nZo=C3=AB,\r\nhttp://x.example/a?tenant=3Dt&t=\r\noken=3DAB-_1\r\n--=_b--\r\n"
        );
        assert_eq!(
            link_in(&quoted).as_deref(),
            Some("http://x.example/a?tenant=t&token=AB-_1")
        );
        assert_eq!(link_in("Subject: none\r\n\r\nhello"), None);
        assert!(matches!(parse("/no/such/mail.eml"), Err(Failure::Io { .. })));
    }

    #[test]
    fn a_link_that_was_cut_off_is_named() {
        assert!(matches!(
            parse("https://join.example/accept?tenant=t"),
            Err(Failure::Data(_))
        ));
    }
}
