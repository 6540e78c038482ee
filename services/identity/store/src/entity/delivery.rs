//! `deliveries`: one row a mail. The claim stands in columns of its own, NULL while there is none.

use sea_orm::entity::prelude::*;
use usher_core::bounce::BounceKind;
use usher_core::delivery::{Claim, Delivery, DeliveryKind, DeliveryState, DeliveryStateName};
use usher_core::email::EmailAddress;
use usher_core::ids::{ClaimId, DeliveryId, InvitationId, TenantId, UserId};
use usher_core::ports::StoreError;

use super::{from_json, to_json};
use crate::error::unreadable;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: Uuid,
    pub user_id: Option<Uuid>,
    pub invitation_id: Option<Uuid>,
    pub kind: String,
    pub generation: i32,
    pub reminder_step: i32,
    pub email: String,
    pub email_key: String,
    pub state: String,
    pub claim_id: Option<Uuid>,
    pub lease_until: Option<DateTimeUtc>,
    pub attempts: i32,
    pub created_at: DateTimeUtc,
    pub due_at: DateTimeUtc,
    pub give_up_at: DateTimeUtc,
    pub ended_at: Option<DateTimeUtc>,
    pub last_claim: Option<Uuid>,
    pub test: Option<Json>,
    pub bounce: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Delivery> for Model {
    fn from(delivery: &Delivery) -> Self {
        let claim = delivery.state.claim();
        Self {
            tenant_id: delivery.tenant.0,
            delivery_id: delivery.id.0,
            user_id: delivery.user.map(|user| user.0),
            invitation_id: delivery.invitation.map(|invitation| invitation.0),
            kind: delivery.kind.as_str().into(),
            generation: delivery.generation,
            reminder_step: delivery.reminder_step,
            email: delivery.email.as_str().to_owned(),
            email_key: delivery.email.key().to_owned(),
            state: delivery.state.name().as_str().into(),
            claim_id: claim.map(|claim| claim.id.0),
            lease_until: claim.map(|claim| claim.lease_until),
            attempts: delivery.attempts,
            created_at: delivery.created_at,
            due_at: delivery.due_at,
            give_up_at: delivery.give_up_at,
            ended_at: delivery.ended_at,
            last_claim: delivery.last_claim.map(|claim| claim.0),
            test: delivery.test.as_ref().map(to_json),
            bounce: delivery.bounce.map(|kind| kind.as_str().into()),
        }
    }
}

impl TryFrom<Model> for Delivery {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let kind = DeliveryKind::from_name(&row.kind).ok_or_else(|| unreadable("the delivery's kind", &row.kind))?;
        let bounce = row
            .bounce
            .as_deref()
            .map(|name| BounceKind::from_name(name).ok_or_else(|| unreadable("the delivery's bounce", name)));
        Ok(Self {
            tenant: TenantId(row.tenant_id),
            id: DeliveryId(row.delivery_id),
            user: row.user_id.map(UserId),
            invitation: row.invitation_id.map(InvitationId),
            kind,
            generation: row.generation,
            reminder_step: row.reminder_step,
            state: state_of(&row)?,
            email: EmailAddress::from_stored(row.email, row.email_key),
            attempts: row.attempts,
            created_at: row.created_at,
            due_at: row.due_at,
            give_up_at: row.give_up_at,
            ended_at: row.ended_at,
            last_claim: row.last_claim.map(ClaimId),
            bounce: bounce.transpose()?,
            test: row.test.map(|test| from_json("the test mail", test)).transpose()?,
        })
    }
}

fn state_of(row: &Model) -> Result<DeliveryState, StoreError> {
    let claim = || match (row.claim_id, row.lease_until) {
        (Some(id), Some(lease_until)) => Ok(Claim {
            id: ClaimId(id),
            lease_until,
        }),
        _ => Err(unreadable("a claim without lease in the state", &row.state)),
    };
    Ok(match DeliveryStateName::from_name(&row.state) {
        Some(DeliveryStateName::Queued) => DeliveryState::Queued,
        Some(DeliveryStateName::Claimed) => DeliveryState::Claimed(claim()?),
        Some(DeliveryStateName::Transmitting) => DeliveryState::Transmitting(claim()?),
        Some(DeliveryStateName::Deferred) => DeliveryState::Deferred,
        Some(DeliveryStateName::Sent) => DeliveryState::Sent,
        Some(DeliveryStateName::Failed) => DeliveryState::Failed,
        Some(DeliveryStateName::Uncertain) => DeliveryState::Uncertain,
        Some(DeliveryStateName::Suppressed) => DeliveryState::Suppressed,
        Some(DeliveryStateName::Cancelled) => DeliveryState::Cancelled,
        None => return Err(unreadable("the delivery's state", &row.state)),
    })
}
