//! The audit log (B14): listed, exported, verified.

use chrono::TimeDelta;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use usher_core::audit::{Anchor, AuditRow, DONE, Fault, FaultKind, Verifier, hex};
use usher_core::ids::{AuditId, JobId, TenantId, UserId};
use usher_core::ports::{After, AuditQuery, StoreError};
use usher_core::role::Permission;
use usher_core::text;
use usher_proto::identity::v1::audit_service_server::AuditService;
use usher_proto::identity::v1::{
    AuditAnchor, AuditChange, AuditEntry, AuditFault, AuditFaultKind, AuditFilter, AuditFormat,
    ExportAuditEntriesRequest, ExportAuditEntriesResponse, ListAuditEntriesRequest, ListAuditEntriesResponse,
    VerifyAuditRequest, VerifyAuditResponse,
};
use usher_transfer::{CSV_MARK, csv_line};
use uuid::Uuid;

use crate::app::App;
use crate::audit::{note_detail, note_filter, note_read};
use crate::authorize::Caller;
use crate::call::{finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::Failure;
use crate::page::Question;
use crate::parse::Faults;
use crate::status::failed;

/// Rows read at a time.
const PAGE: u32 = 1_000;
/// Faults that are told.
const MAX_FAULTS: usize = 100;
/// Rows that are sealed beyond the end, at most so many of which are looked at.
const MAX_BEYOND: u32 = 100;
/// A row that waits for so long is not sealed any more. Sealing takes moments, but a database may have been away.
const OVERDUE: TimeDelta = TimeDelta::hours(1);
/// The heads of an export.
const HEADS: [&str; 15] = [
    "audit_id",
    "time",
    "actor_id",
    "caller",
    "method",
    "permission",
    "outcome",
    "user_id",
    "job_id",
    "reason",
    "request_id",
    "changes",
    "erasure_id",
    "sequence",
    "chain",
];

#[tonic::async_trait]
impl AuditService for App {
    type ExportAuditEntriesStream = ReceiverStream<Result<ExportAuditEntriesResponse, Status>>;
    type VerifyAuditStream = ReceiverStream<Result<VerifyAuditResponse, Status>>;

    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let limit = faults.page_size("page_size", body.page_size);
        let query = query(tenant, body.filter.as_ref(), limit, &mut faults);
        let asked = ListAuditEntriesRequest {
            page_size: 0,
            page_token: String::new(),
            ..body.clone()
        };
        let question = Question::new(&self.keys, "ListAuditEntries", &asked);
        let after = question.after(&body.page_token, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::AuditRead).await?;
        let query = AuditQuery {
            after: after.map(|after| AuditId(after.id)),
            ..query
        };
        let rows = self.store.list_audit(&query).await.map_err(Failure::from)?;
        note_read(rows.len(), &asked, &self.keys);
        Ok(Response::new(ListAuditEntriesResponse {
            next_page_token: question.next(&rows, limit, |row| After {
                key: String::new(),
                id: row.id.0,
            }),
            entries: rows.iter().map(entry).collect(),
        }))
    }

    async fn export_audit_entries(
        &self,
        request: Request<ExportAuditEntriesRequest>,
    ) -> Result<Response<Self::ExportAuditEntriesStream>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let query = query(tenant, body.filter.as_ref(), PAGE, &mut faults);
        let format = AuditFormat::try_from(body.format).unwrap_or_else(|_| {
            faults.add("format", "is unknown");
            AuditFormat::Csv
        });
        finish(faults)?;
        self.permit(&caller, tenant, Permission::AuditExport).await?;
        note_filter(&body, &self.keys);
        note_detail("format", format.as_str_name());
        let (sender, receiver) = mpsc::channel(2);
        let app = self.clone();
        tokio::spawn(async move {
            if let Err(error) = app.export_audit(query, format, &sender).await {
                // A caller that hung up does not want to know.
                let _ = sender.send(Err(failed(error.into()))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<Self::VerifyAuditStream>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let anchor = body
            .anchor
            .as_ref()
            .and_then(|anchor| parse_anchor(anchor, &mut faults));
        finish(faults)?;
        self.permit(&caller, tenant, Permission::AuditVerify).await?;
        let (sender, receiver) = mpsc::channel(2);
        let app = self.clone();
        tokio::spawn(async move {
            let last = app.verified(tenant, anchor, &sender).await;
            let _ = sender.send(last.map_err(|error| failed(error.into()))).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl App {
    async fn export_audit(
        &self,
        mut query: AuditQuery,
        format: AuditFormat,
        sender: &mpsc::Sender<Result<ExportAuditEntriesResponse, Status>>,
    ) -> Result<(), StoreError> {
        let json = format == AuditFormat::JsonLines;
        let mut data = Vec::new();
        if !json {
            data.extend_from_slice(CSV_MARK);
            csv_line(&mut data, HEADS);
        }
        let mut done_count = 0;
        loop {
            let rows = self.store.list_audit(&query).await?;
            for row in &rows {
                write_row(&mut data, row, json);
            }
            done_count += i64::try_from(rows.len()).unwrap_or(0);
            let piece = ExportAuditEntriesResponse {
                data: std::mem::take(&mut data),
                done_count,
            };
            let is_last = rows.len() < PAGE as usize;
            query.after = rows.last().map(|row| row.id);
            if sender.send(Ok(piece)).await.is_err() || is_last {
                return Ok(());
            }
        }
    }

    /// Reads the log up to where its chain ends as it begins to read: what is sealed meanwhile is for the next time.
    async fn verified(
        &self,
        tenant: TenantId,
        anchor: Option<Anchor>,
        sender: &mpsc::Sender<Result<VerifyAuditResponse, Status>>,
    ) -> Result<VerifyAuditResponse, StoreError> {
        let begun_at = self.now();
        let store = &self.store;
        let head = store.audit_head(tenant).await?;
        let end = head.as_ref().map_or(i64::MAX, |head| head.sequence);
        let keys = &self.audit_keys;
        let mut verifier = Verifier::new(keys, tenant, head.as_ref(), MAX_FAULTS).with_anchor(anchor);
        let mut after = (i64::MIN, AuditId(Uuid::nil()));
        loop {
            let rows = store.sealed_audit(tenant, after, end, PAGE).await?;
            for row in &rows {
                verifier.push(row);
            }
            let Some((link, id)) = rows.last().and_then(|row| Some((row.link.as_ref()?, row.id))) else {
                break;
            };
            after = (link.sequence, id);
            let progress = VerifyAuditResponse {
                checked_count: verifier.rows(),
                ..VerifyAuditResponse::default()
            };
            if rows.len() < PAGE as usize || sender.send(Ok(progress)).await.is_err() {
                break;
            }
        }
        if head.is_some() {
            let beyond = store.audit_beyond_head(tenant, MAX_BEYOND).await?;
            for row in &beyond {
                verifier.push_beyond(row);
            }
        }
        let mut after = None;
        loop {
            let rows = store.unsealed_audit(tenant, after, PAGE).await?;
            for row in rows.iter().filter(|row| row.at < begun_at) {
                verifier.push_unsealed(row, Some(begun_at - OVERDUE));
            }
            after = rows.last().map(|row| row.id);
            if rows.len() < PAGE as usize {
                break;
            }
        }
        let mut verdict = verifier.finish(head.as_ref());
        // What was pruned while it was read is not missing.
        let now = store.audit_head(tenant).await?;
        let pruned = now.as_ref().map_or(0, |head| head.kept_after);
        if pruned > head.as_ref().map_or(0, |head| head.kept_after) {
            verdict
                .faults
                .retain(|fault| fault.kind != FaultKind::Missing || fault.last > pruned);
        }
        Ok(VerifyAuditResponse {
            checked_count: verdict.rows,
            done: true,
            faults: verdict.faults.iter().map(fault).collect(),
            further_fault_count: verdict.further,
            head: head.as_ref().filter(|head| head.sequence > 0).map(|head| AuditAnchor {
                sequence: head.sequence,
                chain: hex(&head.chain),
            }),
            pruned_sequence: pruned,
        })
    }
}

fn query(tenant: TenantId, filter: Option<&AuditFilter>, limit: u32, faults: &mut Faults) -> AuditQuery {
    let filter = filter.cloned().unwrap_or_default();
    let mut word = |field: &str, given: &str| {
        let text = faults.take(field, text::line(given, 200));
        (!text.is_empty()).then_some(text)
    };
    let actor = word("filter.actor_id", &filter.actor_id);
    let method = word("filter.method", &filter.method);
    let outcome = word("filter.outcome", &filter.outcome);
    if filter.refused && outcome.as_deref() == Some(DONE) {
        faults.add("filter.refused", "asks for refusals only, and outcome for none");
    }
    AuditQuery {
        actor,
        user: faults.optional_id::<UserId>("filter.user_id", &filter.user_id),
        method,
        outcome,
        refused: filter.refused,
        job: faults.optional_id::<JobId>("filter.job_id", &filter.job_id),
        from: faults.instant("filter.from_time", filter.from_time),
        to: faults.instant("filter.to_time", filter.to_time),
        ..AuditQuery::all(tenant, limit)
    }
}

fn parse_anchor(anchor: &AuditAnchor, faults: &mut Faults) -> Option<Anchor> {
    let digits = anchor.chain.as_bytes();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    };
    let chain: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    let chain = chain.filter(|_| digits.len() == 66 && anchor.sequence > 0);
    if chain.is_none() {
        faults.add(
            "anchor",
            "needs the sequence and the chain of an event audit.sealed, or of an earlier answer",
        );
    }
    Some(Anchor {
        sequence: anchor.sequence,
        chain: chain?,
    })
}

fn entry(row: &AuditRow) -> AuditEntry {
    let change = |change: usher_core::audit::FieldChange| AuditChange {
        field: change.field,
        before: change.before,
        after: change.after,
    };
    AuditEntry {
        audit_id: row.id.to_string(),
        time: Some(convert::time(row.at)),
        actor_id: row.actor.clone(),
        caller: row.caller.clone(),
        method: row.method.clone(),
        permission: row.permission.clone(),
        outcome: row.outcome.clone(),
        user_id: optional(row.subject),
        job_id: optional(row.job),
        reason: row.reason.clone(),
        request_id: row.request_id.clone(),
        changes: row.details().into_iter().map(change).collect(),
        erasure_id: optional(row.redaction.as_ref().map(|redaction| redaction.erasure)),
        sequence: row.link.as_ref().map_or(0, |link| link.sequence),
    }
}

fn optional<T: ToString>(id: Option<T>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn write_row(to: &mut Vec<u8>, row: &AuditRow, json: bool) {
    let changes = row.erasable.as_ref().map_or("", |kept| kept.details.as_str());
    let link = row.link.as_ref();
    let cells: [String; 15] = [
        row.id.to_string(),
        crate::page::instant_key(row.at),
        row.actor.clone(),
        row.caller.clone(),
        row.method.clone(),
        row.permission.clone(),
        row.outcome.clone(),
        optional(row.subject),
        optional(row.job),
        row.reason.clone(),
        row.request_id.clone(),
        changes.to_owned(),
        optional(row.redaction.as_ref().map(|redaction| redaction.erasure)),
        optional(link.map(|link| link.sequence)),
        link.map_or_else(String::new, |link| hex(&link.chain)),
    ];
    if !json {
        return csv_line(to, cells.iter().map(String::as_str));
    }
    let value = |(head, cell): (&str, String)| {
        let value = match head {
            "changes" => serde_json::to_value(row.details()).unwrap_or_default(),
            "sequence" => link.map_or(0, |link| link.sequence).into(),
            _ => cell.into(),
        };
        (head.to_owned(), value)
    };
    let object: serde_json::Map<String, serde_json::Value> = HEADS.into_iter().zip(cells).map(value).collect();
    to.extend(serde_json::Value::Object(object).to_string().into_bytes());
    to.push(b'\n');
}

fn fault(fault: &Fault) -> AuditFault {
    let kind = match fault.kind {
        FaultKind::Changed => AuditFaultKind::Changed,
        FaultKind::DetailsChanged => AuditFaultKind::DetailsChanged,
        FaultKind::FalseRedaction => AuditFaultKind::FalseRedaction,
        FaultKind::Missing => AuditFaultKind::Missing,
        FaultKind::Inserted => AuditFaultKind::Inserted,
        FaultKind::Moved => AuditFaultKind::Moved,
        FaultKind::CutOff => AuditFaultKind::CutOff,
        FaultKind::Unsealed => AuditFaultKind::Unsealed,
        FaultKind::HeadChanged => AuditFaultKind::HeadChanged,
        FaultKind::AnchorChanged => AuditFaultKind::AnchorChanged,
        FaultKind::UnknownKey => AuditFaultKind::UnknownKey,
    };
    AuditFault {
        kind: kind.into(),
        first_sequence: fault.sequence,
        last_sequence: fault.last,
        audit_id: optional(fault.id),
        time: fault.at.map(convert::time),
    }
}
