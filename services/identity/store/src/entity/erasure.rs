//! `erasures`: one row an erasure, what it says as one document.

use sea_orm::entity::prelude::*;
use usher_core::erasure::Erasure;
use usher_core::ports::StoreError;

use crate::error::unreadable;

#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "erasures")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub erasure_id: Uuid,
    pub user_id: Uuid,
    pub state: String,
    pub created_at: DateTimeUtc,
    pub body: String,
}

impl std::fmt::Debug for Model {
    /// Ids only: traces are personal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("tenant_id", &self.tenant_id)
            .field("erasure_id", &self.erasure_id)
            .finish_non_exhaustive()
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<&Erasure> for Model {
    type Error = StoreError;

    fn try_from(erasure: &Erasure) -> Result<Self, StoreError> {
        Ok(Self {
            tenant_id: erasure.tenant.0,
            erasure_id: erasure.id.0,
            user_id: erasure.user.0,
            state: erasure.state.as_str().into(),
            created_at: erasure.created_at,
            body: serde_json::to_string(erasure).map_err(|error| unreadable("the erasure", error))?,
        })
    }
}

impl TryFrom<Model> for Erasure {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        serde_json::from_str(&row.body).map_err(|error| unreadable("the erasure", error))
    }
}
