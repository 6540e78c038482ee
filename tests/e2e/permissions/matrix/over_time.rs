//! One call of each RPC about what goes on over time: activity, inactivity, templates, erasures and the audit log. All of them
//! are about the tenant as a whole.

use super::calls::{Answer, done, planned};
use super::cast::{Cast, Holder};
use super::*;

pub(super) async fn audit(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.audit();
    match name {
        "ListAuditEntries" => {
            let request = api::ListAuditEntriesRequest {
                tenant_id,
                ..api::ListAuditEntriesRequest::default()
            };
            done(clients.list_audit_entries(request).await)
        }
        "ExportAuditEntries" => {
            let request = api::ExportAuditEntriesRequest {
                tenant_id,
                ..api::ExportAuditEntriesRequest::default()
            };
            done(clients.export_audit_entries(request).await)
        }
        "VerifyAudit" => {
            let request = api::VerifyAuditRequest {
                tenant_id,
                ..api::VerifyAuditRequest::default()
            };
            done(clients.verify_audit(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

pub(super) async fn activity(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.activity();
    // Nobody's, so that nothing changes.
    let reports = vec![api::ActivityReport {
        user: Some(api::activity_report::User::UserId(NOBODY.into())),
        kind: api::ActivityKind::SignIn.into(),
        time: Some(cast.stage.after(std::time::Duration::ZERO)),
    }];
    match name {
        "RecordActivity" => {
            let request = api::RecordActivityRequest { tenant_id, reports };
            done(clients.record_activity(request).await)
        }
        "StreamActivity" => {
            let batch = api::StreamActivityRequest { tenant_id, reports };
            done(clients.stream_activity(futures::stream::iter([batch])).await)
        }
        other => panic!("write a call of {other}"),
    }
}

pub(super) async fn inactivity(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let (tenant_id, run_id) = (cast.stage.tenant.clone(), NOBODY.to_owned());
    let mut clients = me.clients.inactivity();
    match name {
        "PreviewInactivity" => {
            let request = api::PreviewInactivityRequest {
                tenant_id,
                step: api::InactivityStep::Warn.into(),
                policy: Some(api::InactivityPolicy {
                    warn_after_days: 90,
                    deactivate_after_days: 120,
                    ..api::InactivityPolicy::default()
                }),
                ..api::PreviewInactivityRequest::default()
            };
            done(clients.preview_inactivity(request).await)
        }
        "ListInactivityRuns" => {
            let request = api::ListInactivityRunsRequest {
                tenant_id,
                ..api::ListInactivityRunsRequest::default()
            };
            done(clients.list_inactivity_runs(request).await)
        }
        "ApproveInactivityRun" => {
            let request = api::ApproveInactivityRunRequest {
                tenant_id,
                run_id,
                options: planned(),
            };
            done(clients.approve_inactivity_run(request).await)
        }
        "DismissInactivityRun" => {
            let request = api::DismissInactivityRunRequest {
                tenant_id,
                run_id,
                options: planned(),
            };
            done(clients.dismiss_inactivity_run(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

pub(super) async fn templates(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.templates();
    let key = Some(api::TemplateKey {
        kind: api::TemplateKind::Invitation.into(),
        language: "en".into(),
        ..api::TemplateKey::default()
    });
    match name {
        "ListTemplates" => {
            let request = api::ListTemplatesRequest {
                tenant_id,
                ..api::ListTemplatesRequest::default()
            };
            done(clients.list_templates(request).await)
        }
        "GetTemplate" => {
            let request = api::GetTemplateRequest {
                tenant_id,
                key,
                version: 0,
            };
            done(clients.get_template(request).await)
        }
        "ListTemplateVersions" => {
            let request = api::ListTemplateVersionsRequest {
                tenant_id,
                key,
                ..api::ListTemplateVersionsRequest::default()
            };
            done(clients.list_template_versions(request).await)
        }
        "UpdateTemplate" => {
            let given = api::GetTemplateRequest {
                tenant_id: tenant_id.clone(),
                key: key.clone(),
                version: 0,
            };
            let given = cast.stage.clients.templates().get_template(given).await;
            let request = api::UpdateTemplateRequest {
                tenant_id,
                key,
                content: given.ok()?.into_inner().template.and_then(|template| template.content),
                options: planned(),
                ..api::UpdateTemplateRequest::default()
            };
            done(clients.update_template(request).await)
        }
        "ResetTemplate" => {
            let request = api::ResetTemplateRequest {
                tenant_id,
                key,
                options: planned(),
                ..api::ResetTemplateRequest::default()
            };
            done(clients.reset_template(request).await)
        }
        "PreviewTemplate" => {
            let request = api::PreviewTemplateRequest {
                tenant_id,
                key,
                ..api::PreviewTemplateRequest::default()
            };
            done(clients.preview_template(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

pub(super) async fn erasures(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let (tenant_id, erasure_id) = (cast.stage.tenant.clone(), NOBODY.to_owned());
    let service = "matrix".to_owned();
    let mut clients = me.clients.erasures();
    match name {
        "RequestErasure" => {
            let request = api::RequestErasureRequest {
                tenant_id,
                user_ids: vec![cast.north.person.id.clone()],
                reason: api::ErasureReason::PersonRequest.into(),
                options: planned(),
                ..api::RequestErasureRequest::default()
            };
            done(clients.request_erasure(request).await)
        }
        "ApproveErasure" => {
            let request = api::ApproveErasureRequest {
                tenant_id,
                erasure_ids: vec![erasure_id],
                options: planned(),
            };
            done(clients.approve_erasure(request).await)
        }
        "CancelErasure" => {
            let request = api::CancelErasureRequest {
                tenant_id,
                erasure_ids: vec![erasure_id],
                options: planned(),
            };
            done(clients.cancel_erasure(request).await)
        }
        "GetErasure" => done(
            clients
                .get_erasure(api::GetErasureRequest { tenant_id, erasure_id })
                .await,
        ),
        "ListErasures" => {
            let request = api::ListErasuresRequest {
                tenant_id,
                ..api::ListErasuresRequest::default()
            };
            done(clients.list_erasures(request).await)
        }
        "AcknowledgeErasure" => {
            let request = api::AcknowledgeErasureRequest {
                tenant_id,
                erasure_id,
                service,
                options: planned(),
            };
            done(clients.acknowledge_erasure(request).await)
        }
        "RegisterErasureSubscriber" => {
            let request = api::RegisterErasureSubscriberRequest {
                tenant_id,
                service,
                options: planned(),
            };
            done(clients.register_erasure_subscriber(request).await)
        }
        "UnregisterErasureSubscriber" => {
            let request = api::UnregisterErasureSubscriberRequest {
                tenant_id,
                service,
                options: planned(),
            };
            done(clients.unregister_erasure_subscriber(request).await)
        }
        "ListErasureSubscribers" => {
            let request = api::ListErasureSubscribersRequest { tenant_id };
            done(clients.list_erasure_subscribers(request).await)
        }
        "GetErasureCertificate" => {
            let request = api::GetErasureCertificateRequest { tenant_id, erasure_id };
            done(clients.get_erasure_certificate(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}
