//! `invitations`: one row a way in; the newest of a user is the one that counts.

use sea_orm::entity::prelude::*;
use usher_core::email::EmailAddress;
use usher_core::ids::{InvitationId, TenantId, UserId};
use usher_core::invitation::{Invitation, InvitationState};
use usher_core::ports::StoreError;

use super::{message_from, to_json};
use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invitations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub invitation_id: Uuid,
    pub user_id: Uuid,
    pub email: String,
    pub email_key: String,
    pub state: String,
    pub generation: i32,
    pub message: Option<Json>,
    pub created_at: DateTimeUtc,
    pub queued_at: DateTimeUtc,
    pub sent_at: Option<DateTimeUtc>,
    pub ladder_from: Option<DateTimeUtc>,
    pub last_step: i32,
    pub lapses_at: DateTimeUtc,
    pub accepted_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Invitation> for Model {
    fn from(invitation: &Invitation) -> Self {
        Self {
            tenant_id: invitation.tenant.0,
            invitation_id: invitation.id.0,
            user_id: invitation.user.0,
            email: invitation.email.as_str().to_owned(),
            email_key: invitation.email.key().to_owned(),
            state: invitation.state.as_str().into(),
            generation: invitation.generation,
            message: invitation.message.as_ref().map(to_json),
            created_at: invitation.created_at,
            queued_at: invitation.queued_at,
            sent_at: invitation.sent_at,
            ladder_from: invitation.ladder_from,
            last_step: invitation.last_step,
            lapses_at: invitation.lapses_at,
            accepted_at: invitation.accepted_at,
        }
    }
}

impl TryFrom<Model> for Invitation {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let state =
            InvitationState::from_name(&row.state).ok_or_else(|| unreadable("the invitation's state", &row.state))?;
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: InvitationId(row.invitation_id),
            user: UserId(row.user_id),
            email: EmailAddress::from_stored(row.email, row.email_key),
            state,
            generation: row.generation,
            message: message_from(row.message)?,
            created_at: row.created_at,
            queued_at: row.queued_at,
            sent_at: row.sent_at,
            ladder_from: row.ladder_from,
            last_step: row.last_step,
            lapses_at: row.lapses_at,
            accepted_at: row.accepted_at,
        })
    }
}
