//! `suppressions`: one row an address that gets no mail (L13).

use sea_orm::entity::prelude::*;
use usher_core::ports::Suppression;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "suppressions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub email_key: String,
    pub cause: String,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for Suppression {
    fn from(row: Model) -> Self {
        Self {
            email: row.email_key,
            cause: row.cause,
            at: row.created_at,
        }
    }
}
