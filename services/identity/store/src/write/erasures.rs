//! Erasures, the services that are asked, and what is remembered of addresses.

use sea_orm::{DbBackend, Value};
use usher_core::change::Changeset;
use usher_core::ports::StoreError;

use crate::bulk::{OnConflict, delete, insert};
use crate::entity::{erased_address, erasure, erasure_subscriber};
use crate::sql::Sql;

pub(super) fn write(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) -> Result<(), StoreError> {
    let rows = changes
        .erasures
        .values()
        .map(erasure::Model::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    // A second one for the same account fails the transaction.
    all.extend(insert::<erasure::Entity>(backend, &rows, &[], OnConflict::Replace));
    let registered = changes.subscribers.iter().filter(|(_, registered)| **registered);
    let rows: Vec<_> = registered
        .map(|((tenant, service), _)| erasure_subscriber::Model {
            tenant_id: tenant.0,
            service: service.clone(),
        })
        .collect();
    all.extend(insert::<erasure_subscriber::Entity>(
        backend,
        &rows,
        &[],
        OnConflict::Keep,
    ));
    let gone = changes
        .subscribers
        .iter()
        .filter(|(_, registered)| !**registered)
        .map(|((tenant, service), _)| -> [Value; 2] { [tenant.0.into(), service.as_str().into()] });
    all.extend(delete(backend, ("erasure_subscribers", "tenant_id, service"), gone));
    let rows: Vec<_> = changes
        .erased_addresses
        .iter()
        .map(|((tenant, digest), at)| erased_address::Model {
            tenant_id: tenant.0,
            digest: digest.clone(),
            erased_at: *at,
        })
        .collect();
    all.extend(insert::<erased_address::Entity>(backend, &rows, &[], OnConflict::Keep));
    Ok(())
}
