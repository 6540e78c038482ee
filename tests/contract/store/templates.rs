//! Mail templates: versions that never change, and in the tenant's row the newest of each.

use std::sync::Arc;

use anyhow::Result;
use usher_core::change::Changeset;
use usher_core::ids::TenantId;
use usher_core::ports::{Directory as _, Keys, StoreError};
use usher_core::template::{Newest, OwnTemplates, TemplateKey, TemplateText, TemplateVersion};

use super::on_both;
use super::stage::Stage;

on_both! {
    versions_of_a_template_come_back_and_are_listed_the_newest_first,
    a_version_that_was_to_be_new_and_exists_is_a_conflict,
    a_tenants_row_says_which_versions_are_the_newest,
}

fn version(stage: &Stage, key: &str, version: i64, content: bool) -> TemplateVersion {
    TemplateVersion {
        tenant: stage.tenant,
        key: key.parse().expect("a key"),
        version,
        content: content.then(|| TemplateText {
            subject: format!("Subject {version}"),
            text: "{{ link }}\n\u{1F600} \\ '".into(),
            mjml: "<mjml>é</mjml>".into(),
        }),
        saved_at: stage.after(version),
        saved_by: "admin-7".into(),
        reason: "new words".into(),
    }
}

fn saving(versions: &[TemplateVersion]) -> Changeset {
    Changeset {
        templates: versions.to_vec(),
        ..Changeset::default()
    }
}

async fn versions_of_a_template_come_back_and_are_listed_the_newest_first(stage: Stage) -> Result<()> {
    let key: TemplateKey = "REMINDER/2/fr-CA".parse()?;
    let saved: Vec<_> = (1..=4)
        .map(|number| version(&stage, "REMINDER/2/fr-CA", number, number != 3))
        .collect();
    let other = version(&stage, "REMINDER/1/fr-CA", 9, true);
    stage.write(saving(&[saved.as_slice(), &[other]].concat())).await?;
    for one in &saved {
        let found = stage.store.template(stage.tenant, &key, one.version).await?;
        assert_eq!(found.as_ref(), Some(one));
    }
    assert_eq!(stage.store.template(stage.tenant, &key, 5).await?, None);
    let elsewhere = TenantId::mint(stage.now);
    assert_eq!(stage.store.template(elsewhere, &key, 1).await?, None);

    let list = async |before, limit| -> Result<Vec<(i64, bool)>> {
        let found = stage
            .store
            .list_template_versions(stage.tenant, &key, before, limit)
            .await?;
        let without_texts = |found: &TemplateVersion| {
            let empty = found
                .content
                .as_ref()
                .is_none_or(|content| *content == TemplateText::default());
            assert!(empty, "{found:?}");
            assert_eq!(
                (found.saved_by.as_str(), found.saved_at),
                ("admin-7", stage.after(found.version))
            );
            (found.version, found.content.is_some())
        };
        Ok(found.iter().map(without_texts).collect())
    };
    assert_eq!(list(None, 3).await?, [(4, true), (3, false), (2, true)]);
    assert_eq!(list(Some(2), 3).await?, [(1, true)]);
    Ok(())
}

async fn a_version_that_was_to_be_new_and_exists_is_a_conflict(stage: Stage) -> Result<()> {
    let first = version(&stage, "INVITATION/0/en", 1, true);
    stage.write(saving(std::slice::from_ref(&first))).await?;
    let second = TemplateVersion {
        reason: "another".into(),
        ..first.clone()
    };
    let written = stage.write(saving(&[second])).await;
    assert!(matches!(written, Err(StoreError::Conflict(_))), "{written:?}");
    let found = stage.store.template(stage.tenant, &first.key, 1).await?;
    assert_eq!(found, Some(first));
    Ok(())
}

async fn a_tenants_row_says_which_versions_are_the_newest(stage: Stage) -> Result<()> {
    let keys = Keys {
        tenants: [stage.tenant].into(),
        lock_tenants: true,
        ..Keys::default()
    };
    let mut tenant = (*stage.load(&keys).await?.tenants[&stage.tenant]).clone();
    assert_eq!(tenant.templates, OwnTemplates::default());
    for (key, version, own) in [("INVITATION/0/en", 3, true), ("REMINDER/10/zh-Hant", 1, false)] {
        tenant.templates.0.insert(key.parse()?, Newest { version, own });
    }
    let mut changes = Changeset::default();
    changes.tenants.insert(tenant.id, Arc::new(tenant.clone()));
    stage.write(changes).await?;
    assert_eq!(stage.store.tenant(tenant.id).await?.as_ref(), Some(&tenant));
    assert_eq!(*stage.load(&keys).await?.tenants[&tenant.id], tenant);
    Ok(())
}
