//! `usher audit`: who did what to whom, and whether anybody tampered with the record of it (B14).

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use usher_proto::identity::v1::{
    AuditAnchor, AuditChange, AuditEntry, AuditFault, AuditFaultKind, AuditFilter, AuditFormat,
    ExportAuditEntriesRequest, ListAuditEntriesRequest, VerifyAuditRequest, VerifyAuditResponse,
};

use super::{Limit, Session, choice};
use crate::failure::{Exit, Failure};
use crate::file::complete;
use crate::output::{self, Show, json};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries, the newest first: changes, refusals, and who read whose data.
    List {
        #[command(flatten)]
        filter: Filter,
        /// Show what changed, before and after.
        #[arg(long)]
        changes: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Write entries to a file: CSV for a spreadsheet, or one JSON object a line.
    Export {
        /// The file, for example audit.csv or audit.jsonl; `-` is standard output.
        file: PathBuf,
        /// The file's format; by the ending of its name if left out.
        #[arg(long, value_parser = choice!(AuditFormat, "AUDIT_FORMAT_", ["csv", "json-lines"]))]
        format: Option<AuditFormat>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Read the whole log, and say whether anybody tampered with it, and where. Something found: the exit code is 65.
    ///
    /// It prints where the chain ends. Keep that where nobody who administers the database can change it, and give it to a
    /// later run as --anchor: only so is it found that the end was cut off together with the record of the end.
    Verify {
        /// Where the chain ended earlier, as `usher audit verify` or the event `audit.sealed` told it.
        #[arg(long, value_name = "SEQUENCE:CHAIN", value_parser = anchor)]
        anchor: Option<AuditAnchor>,
    },
}

/// Which entries.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only by this actor: the id of a user, or the name of a service.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ACTOR")]
    by: String,
    /// Only about this user: id, address or external id.
    #[arg(long)]
    user: Option<String>,
    /// Only this method, for example UserService/UpdateUser.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    method: String,
    /// Only with this outcome: OK, or a reason such as `PERMISSION_DENIED`.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "REASON")]
    outcome: String,
    /// Only what was refused.
    #[arg(long)]
    refused: bool,
    /// Only as part of this bulk job.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    job: String,
    /// From here on: a day or an instant, in UTC.
    #[arg(long, value_parser = time::parse)]
    from: Option<Timestamp>,
    /// Before.
    #[arg(long, value_parser = time::parse)]
    to: Option<Timestamp>,
}

impl Filter {
    async fn resolve(&self, session: &Session) -> Result<AuditFilter, Failure> {
        let user_id = match &self.user {
            Some(user) => session.client.user_id(user).await?,
            None => String::new(),
        };
        Ok(AuditFilter {
            actor_id: self.by.clone(),
            user_id,
            method: self.method.clone(),
            outcome: self.outcome.clone(),
            refused: self.refused,
            job_id: self.job.clone(),
            from_time: self.from,
            to_time: self.to,
        })
    }
}

pub(super) async fn run(command: &Audit, session: &Session) -> Result<Exit, Failure> {
    match command {
        Audit::List { filter, changes, limit } => list(filter, *changes, limit, session).await,
        Audit::Export { file, format, filter } => export(file, *format, filter, session).await,
        Audit::Verify { anchor } => verify(anchor.clone(), session).await,
    }
}

async fn list(filter: &Filter, changes: bool, limit: &Limit, session: &Session) -> Result<Exit, Failure> {
    let filter = filter.resolve(session).await?;
    let page = |page_size, page_token| {
        let request = ListAuditEntriesRequest {
            tenant_id: session.client.tenant.clone(),
            filter: Some(filter.clone()),
            page_size,
            page_token,
        };
        async move {
            let answer = session.client.audit().list_audit_entries(request).await?.into_inner();
            Ok((answer.entries, answer.next_page_token))
        }
    };
    let entries = limit.gather(page).await?;
    if session.out.json || !changes {
        session.out.list(&entries)?;
        return Ok(Exit::Done);
    }
    let rows = entries.iter().flat_map(|entry| {
        let head = vec![time::show(entry.time.as_ref()), entry.method.clone()];
        entry
            .changes
            .iter()
            .map(move |change| [head.clone(), cells(change)].concat())
    });
    output::table(&["WHEN", "WHAT", "FIELD", "BEFORE", "AFTER"], rows)?;
    Ok(Exit::Done)
}

fn cells(change: &AuditChange) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![change.field.clone(), value(&change.before), value(&change.after)]
}

async fn export(file: &Path, format: Option<AuditFormat>, filter: &Filter, session: &Session) -> Result<Exit, Failure> {
    let request = ExportAuditEntriesRequest {
        tenant_id: session.client.tenant.clone(),
        filter: Some(filter.resolve(session).await?),
        format: format.unwrap_or_else(|| format_of(file)).into(),
    };
    if file == Path::new("-") {
        download(session, request, &mut std::io::stdout().lock()).await?;
        return Ok(Exit::Done);
    }
    let count = complete(file, |mut to| {
        let request = request.clone();
        async move {
            let count = download(session, request, &mut to).await?;
            Ok((to, count))
        }
    })
    .await?;
    output::note(&format!("{count} entries written to {}.", file.display()));
    Ok(Exit::Done)
}

fn format_of(file: &Path) -> AuditFormat {
    let ending = file.extension().and_then(|ending| ending.to_str());
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("jsonl" | "ndjson" | "json") => AuditFormat::JsonLines,
        _ => AuditFormat::Csv,
    }
}

async fn download(session: &Session, request: ExportAuditEntriesRequest, to: &mut impl Write) -> Result<i64, Failure> {
    let mut stream = session.client.audit().export_audit_entries(request).await?.into_inner();
    let mut count = 0;
    while let Some(piece) = stream.message().await? {
        to.write_all(&piece.data).map_err(Failure::output)?;
        count = piece.done_count;
    }
    to.flush().map_err(Failure::output)?;
    Ok(count)
}

async fn verify(anchor: Option<AuditAnchor>, session: &Session) -> Result<Exit, Failure> {
    let request = VerifyAuditRequest {
        tenant_id: session.client.tenant.clone(),
        anchor,
    };
    let mut stream = session.client.audit().verify_audit(request).await?.into_inner();
    let mut last = None;
    while let Some(answer) = stream.message().await? {
        last = Some(answer).filter(|answer| answer.done);
    }
    let verdict = last.ok_or_else(|| Failure::Unreachable("the verification broke off; run it again".into()))?;
    if session.out.json {
        output::lines([json(&verdict)])?;
    } else {
        output::table(AuditFault::COLUMNS, verdict.faults.iter().map(Show::cells))?;
        output::lines(summary(&verdict))?;
    }
    Ok(if verdict.faults.is_empty() {
        Exit::Done
    } else {
        Exit::Data
    })
}

fn summary(verdict: &VerifyAuditResponse) -> Vec<String> {
    let mut lines = Vec::new();
    let count = verdict.checked_count;
    let found = i64::try_from(verdict.faults.len()).unwrap_or(i64::MAX) + verdict.further_fault_count;
    if found == 0 {
        lines.push(format!("{count} entries verified: nobody tampered with them."));
    } else {
        lines.push(format!("{count} entries verified: {found} places were tampered with."));
    }
    if verdict.pruned_sequence > 0 {
        let pruned = verdict.pruned_sequence;
        lines.push(format!("The first {pruned} entries are no longer kept."));
    }
    if let Some(head) = &verdict.head {
        lines.push(format!("The chain ends at {}:{}", head.sequence, head.chain));
    }
    lines
}

fn anchor(text: &str) -> Result<AuditAnchor, String> {
    let parts = text.trim().split_once(':');
    let parsed = parts.and_then(|(sequence, chain)| {
        Some(AuditAnchor {
            sequence: sequence.parse().ok()?,
            chain: chain.to_owned(),
        })
    });
    parsed.ok_or_else(|| "is not SEQUENCE:CHAIN, as `usher audit verify` prints it".into())
}

impl Show for AuditEntry {
    const NAME: &'static str = "usher.identity.v1.AuditEntry";
    const COLUMNS: &'static [&'static str] = &["WHEN", "BY", "WHAT", "OUTCOME", "USER ID", "FIELDS", "REASON"];

    fn cells(&self) -> Vec<String> {
        let mut fields: Vec<&str> = self.changes.iter().map(|change| change.field.as_str()).collect();
        fields.dedup();
        vec![
            time::show(self.time.as_ref()),
            self.actor_id.clone(),
            self.method.clone(),
            self.outcome.clone(),
            self.user_id.clone(),
            if self.erasure_id.is_empty() {
                fields.join(", ")
            } else {
                "(erased)".into()
            },
            self.reason.clone(),
        ]
    }
}

impl Show for AuditFault {
    const NAME: &'static str = "usher.identity.v1.AuditFault";
    const COLUMNS: &'static [&'static str] = &["WHERE", "WHAT", "ENTRY", "WHEN"];

    fn cells(&self) -> Vec<String> {
        let place = match (self.first_sequence, self.last_sequence) {
            (0, _) => "not sealed".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        };
        vec![
            place,
            meaning(self.kind()).to_owned(),
            self.audit_id.clone(),
            time::show(self.time.as_ref()),
        ]
    }
}

impl Show for VerifyAuditResponse {
    const NAME: &'static str = "usher.identity.v1.VerifyAuditResponse";
    const COLUMNS: &'static [&'static str] = &["RESULT"];

    fn cells(&self) -> Vec<String> {
        vec![summary(self).join(" ")]
    }
}

fn meaning(kind: AuditFaultKind) -> &'static str {
    match kind {
        AuditFaultKind::Unspecified => "unknown to this program",
        AuditFaultKind::Changed => "was changed, or was not written by Usher",
        AuditFaultKind::DetailsChanged => "its reason, request id or changes were changed",
        AuditFaultKind::FalseRedaction => "its changes were taken out, and not by an erasure",
        AuditFaultKind::Missing => "missing: deleted",
        AuditFaultKind::Inserted => "was put in",
        AuditFaultKind::Moved => "does not follow on the one before: moved here, or those between are gone",
        AuditFaultKind::CutOff => "missing: the end was cut off",
        AuditFaultKind::Unsealed => "has waited for more than an hour to be sealed",
        AuditFaultKind::HeadChanged => "the record of the end is missing or was changed",
        AuditFaultKind::AnchorChanged => "is not what the anchor says",
        AuditFaultKind::UnknownKey => "was sealed with a key that is not configured (audit.former_keys)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_an_anchor_is_what_verify_prints() {
        let read = anchor(" 12:01ab ").unwrap();
        assert_eq!((read.sequence, read.chain.as_str()), (12, "01ab"));
        for text in ["", "12", "x:01", ":"] {
            assert!(anchor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn b14_every_kind_of_fault_is_explained_and_a_stretch_is_told_as_one() {
        for kind in 1..=11 {
            let kind = AuditFaultKind::try_from(kind).unwrap();
            assert_ne!(meaning(kind), meaning(AuditFaultKind::Unspecified), "{kind:?}");
        }
        let fault = |first_sequence, last_sequence| AuditFault {
            first_sequence,
            last_sequence,
            ..AuditFault::default()
        };
        assert_eq!(fault(3, 9).cells()[0], "3 to 9");
        assert_eq!(fault(3, 3).cells()[0], "3");
        assert_eq!(fault(0, 0).cells()[0], "not sealed");
    }

    #[test]
    fn b14_the_ending_of_the_name_is_the_format() {
        for (name, format) in [
            ("a.jsonl", AuditFormat::JsonLines),
            ("a.NDJSON", AuditFormat::JsonLines),
            ("a.csv", AuditFormat::Csv),
            ("-", AuditFormat::Csv),
        ] {
            assert_eq!(format_of(Path::new(name)), format, "{name}");
        }
    }
}
