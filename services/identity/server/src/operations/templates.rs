//! The templates that mails are made with, compiled and kept.
//!
//! A version of a template never changes, so what was compiled is never stale; which version counts stands in the
//! tenant's row, which every mail is begun with. So a mail costs no query of its own, and every replica uses a new version
//! from the next mail on.

use std::sync::Arc;

use moka::sync::Cache;
use usher_content::{Defaults, LANGUAGES, Template};
use usher_core::ids::TenantId;
use usher_core::ports::{Store, StoreError};
use usher_core::template::{Effective, TemplateKey, TemplateKind};
use usher_core::tenant::Tenant;

/// Octets of sources whose compiled templates are kept: about 5,000 of common size.
const CAPACITY: u64 = 64 << 20;

type Key = (TenantId, TemplateKey, i64);

/// Finds templates.
pub(crate) struct Templates {
    store: Arc<dyn Store>,
    /// Usher's own.
    pub defaults: Defaults,
    /// With the octets of the source, which the weight is.
    own: Cache<Key, (Arc<Template>, u32)>,
}

/// A template for a mail.
pub(crate) struct Chosen {
    /// Ready to be filled.
    pub template: Arc<Template>,
    /// The language that it is written in.
    pub language: String,
}

impl Templates {
    /// With nothing compiled yet.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            defaults: Defaults::new(),
            own: Cache::builder()
                .max_capacity(CAPACITY)
                .weigher(|_, (_, octets): &(Arc<Template>, u32)| *octets)
                .build(),
        }
    }

    /// Which template a tenant's mail is made with.
    pub(crate) fn effective(tenant: &Tenant, kind: TemplateKind, step: i32, language: &str) -> Effective {
        tenant
            .templates
            .effective(kind, step, language, &tenant.settings.default_language, &LANGUAGES)
    }

    /// The template for a mail.
    pub(crate) async fn choose(
        &self,
        tenant: &Tenant,
        kind: TemplateKind,
        step: i32,
        language: &str,
    ) -> Result<Chosen, StoreError> {
        let effective = Self::effective(tenant, kind, step, language);
        if let Effective::Own { key, version } = &effective {
            if let Some(template) = self.own(tenant.id, key, *version).await? {
                return Ok(Chosen {
                    template,
                    language: key.language.clone(),
                });
            }
            // It compiled when it was saved. A person waits for this mail, so they get Usher's own.
            tracing::error!(tenant = %tenant.id, template = %key, version, "a template of a tenant's own cannot be used");
        }
        let language = LANGUAGES.into_iter().find(|known| *known == effective.language());
        let language = language.unwrap_or("en");
        Ok(Chosen {
            template: self.defaults.template(kind, language),
            language: language.to_owned(),
        })
    }

    /// A version that was saved; `None`: it is a reset, or cannot be used.
    pub(crate) async fn own(
        &self,
        tenant: TenantId,
        key: &TemplateKey,
        version: i64,
    ) -> Result<Option<Arc<Template>>, StoreError> {
        let cached = (tenant, key.clone(), version);
        if let Some((template, _)) = self.own.get(&cached) {
            return Ok(Some(template));
        }
        let saved = self.store.template(tenant, key, version).await?;
        let Some(content) = saved.and_then(|saved| saved.content) else {
            return Ok(None);
        };
        let Ok(template) = Template::load(key.kind, &content) else {
            return Ok(None);
        };
        let template = Arc::new(template);
        let octets = content.subject.len() + content.text.len() + content.mjml.len();
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        self.own.insert(cached, (Arc::clone(&template), octets));
        Ok(Some(template))
    }
}
