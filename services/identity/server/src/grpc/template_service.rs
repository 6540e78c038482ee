//! What a tenant's mails say.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use usher_content::{LANGUAGES, Sample, Template as Compiled};
use usher_core::event::{Event, EventType};
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{After, Keys};
use usher_core::refusal::{FieldViolation, Refusal};
use usher_core::role::Permission;
use usher_core::template::{
    Effective, MAX_TEMPLATES, Newest, TemplateKey, TemplateKind, TemplateText, TemplateVersion,
};
use usher_core::tenant::Tenant;
use usher_core::text;
use usher_proto::identity::v1::template_service_server::TemplateService;
use usher_proto::identity::v1::{
    GetTemplateRequest, GetTemplateResponse, ListTemplateVersionsRequest, ListTemplateVersionsResponse,
    ListTemplatesRequest, ListTemplatesResponse, PreviewTemplateRequest, PreviewTemplateResponse, ResetTemplateRequest,
    ResetTemplateResponse, Template, TemplateKey as ProtoKey, UpdateTemplateRequest, UpdateTemplateResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{finish, tenant as parse_tenant};
use crate::convert::templates as convert;
use crate::operations::engine::Failure;
use crate::operations::templates::Templates;
use crate::page::Question;
use crate::parse::Faults;
use crate::render::{filled, unsubscribe_url};
use crate::status::refused;

#[tonic::async_trait]
impl TemplateService for App {
    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let kind = convert::kind_of(body.kind);
        if kind.is_none() && body.kind != 0 {
            faults.add("kind", "is unknown");
        }
        let language = faults.take("language", text::language(&body.language));
        finish(faults)?;
        self.permit(&caller, tenant, Permission::TemplatesRead).await?;
        let tenant = self.tenant(tenant).await?;
        let own = || tenant.templates.0.keys();
        let languages: BTreeSet<&str> = if language.is_empty() {
            let default = tenant.settings.default_language.as_str();
            let known = LANGUAGES.into_iter().chain([default]);
            known.chain(own().map(|key| key.language.as_str())).collect()
        } else {
            [language.as_str()].into()
        };
        let mut templates = Vec::new();
        for kind in TemplateKind::ALL
            .into_iter()
            .filter(|it| kind.is_none_or(|kind| kind == *it))
        {
            let saved = own().filter(|key| key.kind == kind).map(|key| key.step);
            let steps: BTreeSet<i32> = saved.chain([*kind.steps().start()]).collect();
            for step in steps {
                templates.extend(languages.iter().map(|language| {
                    let key = TemplateKey {
                        kind,
                        step,
                        language: (*language).to_owned(),
                    };
                    effective(&tenant, &key).1
                }));
            }
        }
        Ok(Response::new(ListTemplatesResponse { templates }))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Result<Response<GetTemplateResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let key = parse_key(body.key.as_ref(), &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::TemplatesRead).await?;
        let tenant = self.tenant(tenant).await?;
        let template = if body.version == 0 {
            let (found, template) = effective(&tenant, &key);
            match found {
                Effective::Default(language) => Template {
                    content: Some(convert::content(self.templates.defaults.source(key.kind, language))),
                    ..template
                },
                Effective::Own { key, version } => {
                    convert::with_version(template, &self.saved(tenant.id, &key, version).await?)
                }
            }
        } else {
            let saved = self.saved(tenant.id, &key, body.version).await?;
            convert::version(&saved, tenant.templates.version(&key))
        };
        Ok(Response::new(GetTemplateResponse {
            template: Some(template),
        }))
    }

    async fn list_template_versions(
        &self,
        request: Request<ListTemplateVersionsRequest>,
    ) -> Result<Response<ListTemplateVersionsResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let key = parse_key(body.key.as_ref(), &mut faults);
        let limit = faults.page_size("page_size", body.page_size);
        let asked = ListTemplateVersionsRequest {
            page_size: 0,
            page_token: String::new(),
            ..body.clone()
        };
        let question = Question::new(&self.keys, "ListTemplateVersions", &asked);
        let after = question.after(&body.page_token, &mut faults);
        let before = after.and_then(|after| after.key.parse().ok());
        finish(faults)?;
        self.permit(&caller, tenant, Permission::TemplatesRead).await?;
        let tenant = self.tenant(tenant).await?;
        let found = self.store.list_template_versions(tenant.id, &key, before, limit).await;
        let found = found.map_err(Failure::from)?;
        let newest = tenant.templates.version(&key);
        Ok(Response::new(ListTemplateVersionsResponse {
            next_page_token: question.next(&found, limit, |saved| After {
                key: saved.version.to_string(),
                id: uuid::Uuid::nil(),
            }),
            versions: found
                .iter()
                .map(|saved| Template {
                    content: None,
                    ..convert::version(saved, newest)
                })
                .collect(),
        }))
    }

    async fn update_template(
        &self,
        request: Request<UpdateTemplateRequest>,
    ) -> Result<Response<UpdateTemplateResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("UpdateTemplate", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let key = parse_key(body.key.as_ref(), &mut faults);
        let content = convert::text_of(body.content.as_ref());
        let expected = body.expected_version;
        let permitted = self.permit(&caller, tenant, Permission::TemplatesUpdate).await;
        if permitted.is_ok() {
            let checked = checked(&key, &content).await;
            faults.extend(checked.err().map(|found| within("content", found)).unwrap_or_default());
        }
        finish(faults)?;
        permitted?;
        // What there is already is no new version.
        let present = self.tenant(tenant).await?.templates.0.get(&key).copied();
        let same = match present.filter(|newest| newest.own) {
            Some(newest) => {
                let saved = self.store.template(tenant, &key, newest.version).await;
                let saved = saved.map_err(Failure::from)?;
                saved.filter(|saved| saved.content.as_ref() == Some(&content))
            }
            None => None,
        };
        let same = same.map(|saved| saved.version);
        let command = mutation.clone().command(tenant, keys(tenant), move |world, changes| {
            let before = world.tenant(tenant)?;
            check_version(&before, &key, expected)?;
            let newest = before.templates.version(&key);
            if same != Some(newest) {
                if newest == 0 && before.templates.0.len() >= MAX_TEMPLATES {
                    let fault = format!("is one too many: a tenant has {MAX_TEMPLATES} at most");
                    return Err(Refusal::field("key", fault));
                }
                let act = mutation.act(world.now);
                save(&before, &key, Some(content.clone()), &act, world, changes);
            }
            Ok(UpdateTemplateResponse {
                template: Some(effective(&*world.tenant(tenant)?, &key).1),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn reset_template(
        &self,
        request: Request<ResetTemplateRequest>,
    ) -> Result<Response<ResetTemplateResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("ResetTemplate", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let key = parse_key(body.key.as_ref(), &mut faults);
        let expected = body.expected_version;
        finish(faults)?;
        self.permit(&caller, tenant, Permission::TemplatesUpdate).await?;
        let command = mutation.clone().command(tenant, keys(tenant), move |world, changes| {
            let before = world.tenant(tenant)?;
            check_version(&before, &key, expected)?;
            if before.templates.0.get(&key).is_some_and(|newest| newest.own) {
                let act = mutation.act(world.now);
                save(&before, &key, None, &act, world, changes);
            }
            Ok(ResetTemplateResponse {
                template: Some(effective(&*world.tenant(tenant)?, &key).1),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn preview_template(
        &self,
        request: Request<PreviewTemplateRequest>,
    ) -> Result<Response<PreviewTemplateResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let key = parse_key(body.key.as_ref(), &mut faults);
        if body.draft.is_some() && body.version != 0 {
            faults.add("version", "cannot be given with a draft");
        }
        finish(faults)?;
        self.permit(&caller, tenant, Permission::TemplatesRead).await?;
        let tenant = self.tenant(tenant).await?;
        let sample = self.sample(&tenant, &key, body)?;
        let (template, language, shown) = if let Some(draft) = &body.draft {
            let compiled = checked(&key, &convert::text_of(Some(draft))).await;
            let compiled = compiled.map_err(|found| refused(&Refusal::InvalidFields(within("draft", found))))?;
            (std::sync::Arc::new(compiled), key.language, None)
        } else if body.version != 0 {
            let saved = self.saved(tenant.id, &key, body.version).await?;
            let own = self.templates.own(tenant.id, &key, body.version).await;
            let own = own.map_err(Failure::from)?;
            let template = own.ok_or_else(|| refused(&Refusal::TemplateNotFound))?;
            let shown = convert::version(&saved, tenant.templates.version(&key));
            (template, key.language, Some(shown))
        } else {
            let chosen = self.templates.choose(&tenant, key.kind, key.step, &key.language).await;
            let chosen = chosen.map_err(Failure::from)?;
            (chosen.template, chosen.language, Some(effective(&tenant, &key).1))
        };
        let rendered = filled(template.render(&sample.mail(&language)))?;
        Ok(Response::new(PreviewTemplateResponse {
            subject: rendered.subject,
            text: rendered.text,
            html: rendered.html,
            language: rendered.language,
            template: shown.map(|shown| Template { content: None, ..shown }),
        }))
    }
}

impl App {
    async fn saved(&self, tenant: TenantId, key: &TemplateKey, version: i64) -> Result<TemplateVersion, Status> {
        let saved = self.store.template(tenant, key, version).await.map_err(Failure::from)?;
        saved.ok_or_else(|| refused(&Refusal::TemplateNotFound))
    }

    /// The contents of a preview.
    fn sample(&self, tenant: &Tenant, key: &TemplateKey, body: &PreviewTemplateRequest) -> Result<Sample, Status> {
        let link = match key.kind {
            TemplateKind::Invitation | TemplateKind::Reminder | TemplateKind::FreshLink => {
                self.sender.sample_link(tenant.id)
            }
            _ => self.sender.sign_in_url.clone(),
        };
        let stop = unsubscribe_url(tenant, key.kind, UserId(uuid::Uuid::nil()));
        let mut sample = Sample::new(key.kind, &tenant.settings.display_name, &link, &stop, self.now());
        sample.step = key.step;
        let mut faults = Faults::default();
        for (name, value) in &body.sample {
            let field = format!("sample.{name}");
            let value = match name.as_str() {
                "message" => text::message(value, text::MAX_MESSAGE),
                _ => text::line(value, MAX_SAMPLE),
            };
            let value = faults.take(&field, value);
            faults.take(&field, sample.set(name, &value));
        }
        finish(faults)?;
        Ok(sample)
    }
}

/// Characters of a made-up value.
const MAX_SAMPLE: usize = 1_000;

/// Compiles a template apart from the calls: one that is meant to be slow keeps nobody waiting.
async fn checked(key: &TemplateKey, content: &TemplateText) -> Result<Compiled, Vec<FieldViolation>> {
    let (key, content) = (key.clone(), content.clone());
    let compiled = tokio::task::spawn_blocking(move || Compiled::compile(key.kind, &key.language, &content)).await;
    compiled.unwrap_or_else(|_| Err(vec![FieldViolation::new("mjml", "cannot be compiled")]))
}

/// Faults of a message's fields, named as fields of the request.
fn within(field: &str, found: Vec<FieldViolation>) -> Vec<FieldViolation> {
    found
        .into_iter()
        .map(|fault| FieldViolation::new(format!("{field}.{}", fault.field), fault.description))
        .collect()
}

fn keys(tenant: TenantId) -> Keys {
    Keys {
        tenants: [tenant].into(),
        lock_tenants: true,
        ..Keys::default()
    }
}

fn check_version(tenant: &Tenant, key: &TemplateKey, expected: i64) -> Result<(), Refusal> {
    let actual = tenant.templates.version(key);
    if expected != 0 && expected != actual {
        return Err(Refusal::VersionMismatch { expected, actual });
    }
    Ok(())
}

/// Writes the next version of a template.
fn save(
    tenant: &Tenant,
    key: &TemplateKey,
    content: Option<TemplateText>,
    act: &usher_core::change::Act,
    world: &mut crate::operations::world::World,
    changes: &mut usher_core::change::Changeset,
) {
    let version = tenant.templates.version(key) + 1;
    let mut after = tenant.clone();
    let newest = Newest {
        version,
        own: content.is_some(),
    };
    after.templates.0.insert(key.clone(), newest);
    let after = std::sync::Arc::new(after);
    world.loaded.tenants.insert(tenant.id, std::sync::Arc::clone(&after));
    changes.tenants.insert(tenant.id, after);
    changes.templates.push(TemplateVersion {
        tenant: tenant.id,
        key: key.clone(),
        version,
        content,
        saved_at: act.now,
        saved_by: act.actor.clone(),
        reason: act.reason.clone(),
    });
    changes.events.push(Event {
        template: key.to_string(),
        ..act.event(EventType::TemplateUpdated, tenant.id, None)
    });
}

/// The template that mails are made with, without its texts.
fn effective(tenant: &Tenant, key: &TemplateKey) -> (Effective, Template) {
    let found = Templates::effective(tenant, key.kind, key.step, &key.language);
    let template = convert::effective(tenant, key, &found);
    (found, template)
}

fn parse_key(given: Option<&ProtoKey>, faults: &mut Faults) -> TemplateKey {
    let given = given.cloned().unwrap_or_default();
    let kind = convert::kind_of(given.kind).unwrap_or_else(|| {
        faults.add("key.kind", "is required: what the mail is about");
        TemplateKind::Invitation
    });
    let language = faults.take("key.language", text::language(&given.language));
    if given.language.trim().is_empty() {
        faults.add("key.language", "is required: for example fr or pt-BR");
    }
    let steps = kind.steps();
    if !steps.contains(&given.step) {
        let fault = match kind {
            TemplateKind::Reminder => format!("must be from {} to {}", steps.start(), steps.end()),
            _ => "must be 0: only reminders have steps".into(),
        };
        faults.add("key.step", fault);
    }
    TemplateKey {
        kind,
        step: given.step,
        language,
    }
}
