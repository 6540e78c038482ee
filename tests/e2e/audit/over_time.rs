//! What is decided over time leaves entries too: which templates hold, who asks for erasures, and who erases.

use super::*;

const WORDS: &str = "<mjml><mj-body><mj-section><mj-column><mj-text>{{ message }}</mj-text>\
                     <mj-button href=\"{{ link }}\">Go</mj-button></mj-column></mj-section></mj-body></mjml>";

/// B14, S12, L11
#[test]
fn b14_templates_erasures_and_who_is_asked_to_erase_leave_entries() -> Result<()> {
    apart(async {
        for sqlite in [false, true] {
            let office = Office::open(sqlite).await?;
            templates(&office).await?;
            erasures(&office).await?;
            asked_on_the_command_line(&office).await?;
        }
        Ok(())
    })
}

async fn templates(office: &Office) -> Result<()> {
    let key = Some(api::TemplateKey {
        kind: api::TemplateKind::Invitation.into(),
        step: 0,
        language: "fr".into(),
    });
    let saving = |subject: &str| api::UpdateTemplateRequest {
        tenant_id: office.tenant.clone(),
        key: key.clone(),
        content: Some(api::TemplateContent {
            subject: subject.into(),
            text: "{{ message }}\n\n{{ link }}\n".into(),
            mjml: WORDS.into(),
        }),
        ..api::UpdateTemplateRequest::default()
    };
    let mut service = office.admin()?.templates();
    service.update_template(saving("Bienvenue")).await?;
    let saved = fields(&office.newest("TemplateService/UpdateTemplate").await?);
    assert_eq!(saved["template"], change("INVITATION/0/fr", "INVITATION/0/fr"));
    assert_eq!(
        (&saved["version"], &saved["content"]),
        (&change("", "1"), &change("default", "own"))
    );
    service.update_template(saving("Bonjour")).await?;
    let saved = fields(&office.newest("TemplateService/UpdateTemplate").await?);
    assert_eq!(saved["version"], change("1", "2"));
    assert!(!saved.contains_key("content"), "{saved:?}");
    service
        .reset_template(api::ResetTemplateRequest {
            tenant_id: office.tenant.clone(),
            key: key.clone(),
            ..api::ResetTemplateRequest::default()
        })
        .await?;
    let reset = office.newest("TemplateService/ResetTemplate").await?;
    assert_eq!((&reset.actor_id, reset.outcome.as_str()), (&office.admin, "OK"));
    assert_eq!(fields(&reset)["content"], change("own", "default"));
    Ok(())
}

async fn erasures(office: &Office) -> Result<()> {
    let mut service = office.admin()?.erasures();
    let registering = api::RegisterErasureSubscriberRequest {
        tenant_id: office.tenant.clone(),
        service: "course-catalogue".into(),
        ..api::RegisterErasureSubscriberRequest::default()
    };
    // The second time nothing changes.
    for _ in 0..2 {
        service.register_erasure_subscriber(registering.clone()).await?;
    }
    let of_method = api::AuditFilter {
        method: "ErasureService/RegisterErasureSubscriber".into(),
        ..api::AuditFilter::default()
    };
    let registered = office.entries(of_method).await?;
    assert_eq!(registered.len(), 1, "{registered:?}");
    assert_eq!(
        fields(&registered[0])["erasure_subscriber"],
        change("", "course-catalogue")
    );

    let asked = service
        .request_erasure(api::RequestErasureRequest {
            tenant_id: office.tenant.clone(),
            user_ids: vec![office.ana.clone()],
            reason: api::ErasureReason::RightToErasure.into(),
            ..api::RequestErasureRequest::default()
        })
        .await?
        .into_inner();
    let erasure = asked.erasures.first().context("an erasure")?.erasure_id.clone();
    let entry = office.newest("ErasureService/RequestErasure").await?;
    assert_eq!((&entry.actor_id, &entry.user_id), (&office.admin, &office.ana));
    assert_eq!(fields(&entry)["erasure"], change("", &format!("COOLING_OFF {erasure}")));
    service
        .cancel_erasure(api::CancelErasureRequest {
            tenant_id: office.tenant.clone(),
            erasure_ids: vec![erasure.clone()],
            ..api::CancelErasureRequest::default()
        })
        .await?;
    let told = fields(&office.newest("ErasureService/CancelErasure").await?);
    let (before, after) = (format!("COOLING_OFF {erasure}"), format!("CANCELLED {erasure}"));
    assert_eq!(told["erasure"], change(&before, &after));
    Ok(())
}

async fn asked_on_the_command_line(office: &Office) -> Result<()> {
    let server = format!("http://127.0.0.1:{}", office.system.port);
    let common = ["--server", &server, "--tenant", &office.tenant];
    let list = [
        "audit",
        "list",
        "--by",
        &office.admin,
        "--method",
        "TemplateService/ResetTemplate",
    ];
    let output = usher(&[&common[..], &list[..]].concat()).await?;
    let text = printed(&output);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("TemplateService/ResetTemplate").count(), 1, "{text}");
    let list = [
        "audit",
        "list",
        "--by",
        &office.ana,
        "--method",
        "TemplateService/ResetTemplate",
    ];
    let output = usher(&[&common[..], &list[..]].concat()).await?;
    assert!(!printed(&output).contains("TemplateService/ResetTemplate"));

    // What is refused leaves nothing behind, half a file least of all.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("audit.csv");
    let path = file.to_str().context("a path")?;
    let refused = ["--actor", &office.ana, "audit", "export", path];
    let output = usher(&[&common[..], &refused[..]].concat()).await?;
    assert!(!output.status.success());
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}
