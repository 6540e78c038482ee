//! `mail_templates`: one row for each version of a template that a tenant saved.

use sea_orm::entity::prelude::*;
use usher_core::ids::TenantId;
use usher_core::ports::StoreError;
use usher_core::template::{TemplateKey, TemplateKind, TemplateText, TemplateVersion};

use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mail_templates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub step: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub language: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    pub has_content: i16,
    pub subject: String,
    pub body: String,
    pub mjml: String,
    pub saved_at: DateTimeUtc,
    pub saved_by: String,
    pub reason: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&TemplateVersion> for Model {
    fn from(saved: &TemplateVersion) -> Self {
        let content = saved.content.clone().unwrap_or_default();
        Self {
            tenant_id: saved.tenant.0,
            kind: saved.key.kind.as_str().into(),
            step: saved.key.step,
            language: saved.key.language.clone(),
            version: saved.version,
            has_content: saved.content.is_some().into(),
            subject: content.subject,
            body: content.text,
            mjml: content.mjml,
            saved_at: saved.saved_at,
            saved_by: saved.saved_by.clone(),
            reason: saved.reason.clone(),
        }
    }
}

impl TryFrom<Model> for TemplateVersion {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let kind = TemplateKind::from_name(&row.kind).ok_or_else(|| unreadable("the template's kind", &row.kind))?;
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            key: TemplateKey {
                kind,
                step: row.step,
                language: row.language,
            },
            version: row.version,
            content: (row.has_content != 0).then_some(TemplateText {
                subject: row.subject,
                text: row.body,
                mjml: row.mjml,
            }),
            saved_at: row.saved_at,
            saved_by: row.saved_by,
            reason: row.reason,
        })
    }
}
