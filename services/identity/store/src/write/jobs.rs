//! Jobs, and the outcomes of their chunks.

use sea_orm::DbBackend;
use usher_core::change::Changeset;
use usher_core::ports::StoreError;

use crate::bulk::{OnConflict, insert};
use crate::entity::{job, job_chunk};
use crate::error::unreadable;
use crate::sql::Sql;

pub(super) fn write(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) -> Result<(), StoreError> {
    let rows = changes
        .jobs
        .values()
        .map(job::Model::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    all.extend(insert::<job::Entity>(backend, &rows, &[], OnConflict::Replace));
    let rows = changes
        .chunks
        .iter()
        .map(|(key, outcomes)| {
            Ok(job_chunk::Model {
                tenant_id: key.tenant.0,
                job_id: key.job.0,
                number: key.number,
                outcomes: serde_json::to_string(outcomes).map_err(|error| unreadable("an outcome", error))?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    // A chunk is dealt with once: a second outcome fails the transaction.
    all.extend(insert::<job_chunk::Entity>(backend, &rows, &[], OnConflict::Fail));
    Ok(())
}
