//! `responses`: the answers to repeated requests (B1).

use sea_orm::entity::prelude::*;
use usher_core::change::StoredResponse;
use usher_core::ids::TenantId;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "responses")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: String,
    pub fingerprint: Vec<u8>,
    pub response: Vec<u8>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&StoredResponse> for Model {
    fn from(stored: &StoredResponse) -> Self {
        Self {
            tenant_id: stored.tenant.0,
            request_id: stored.request_id.clone(),
            fingerprint: stored.fingerprint.clone(),
            response: stored.response.clone(),
            created_at: stored.at,
        }
    }
}

impl From<Model> for StoredResponse {
    fn from(row: Model) -> Self {
        Self {
            tenant: TenantId(row.tenant_id),
            request_id: row.request_id,
            fingerprint: row.fingerprint,
            response: row.response,
            at: row.created_at,
        }
    }
}
