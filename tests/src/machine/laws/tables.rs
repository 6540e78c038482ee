//! The tables: every change that is allowed. What is not here must never happen.

use usher_core::delivery::DeliveryStateName::{
    self, Cancelled, Claimed, Deferred, Failed, Queued, Sent, Suppressed, Transmitting, Uncertain,
};
use usher_core::event::EventType::{
    self, UserActivated, UserCreated, UserDeactivated, UserExpired, UserInvited, UserReactivated, UserRestored,
    UserUpdated,
};
use usher_core::invitation::InvitationState;
use usher_core::status::StatusName::{self, Active, Deactivated, Expired, Invited, Pending};

/// An event about a person, and the statuses before and after that it tells.
pub type Transition = (EventType, Option<StatusName>, Option<StatusName>);

/// The status machine of REQUIREMENTS.md, rows S1 to S11.
pub const USERS: &[Transition] = &[
    (UserCreated, None, Some(Pending)),
    (UserCreated, None, Some(Active)),
    (UserActivated, None, Some(Active)),
    (UserActivated, Some(Pending), Some(Active)),
    (UserActivated, Some(Invited), Some(Active)),
    (UserInvited, Some(Pending), Some(Invited)),
    (UserInvited, Some(Deactivated), Some(Deactivated)),
    (UserInvited, Some(Expired), Some(Expired)),
    (UserDeactivated, Some(Pending), Some(Deactivated)),
    (UserDeactivated, Some(Invited), Some(Deactivated)),
    (UserDeactivated, Some(Active), Some(Deactivated)),
    (UserReactivated, Some(Deactivated), Some(Pending)),
    (UserReactivated, Some(Deactivated), Some(Invited)),
    (UserReactivated, Some(Deactivated), Some(Active)),
    (UserExpired, Some(Pending), Some(Expired)),
    (UserExpired, Some(Invited), Some(Expired)),
    (UserExpired, Some(Active), Some(Expired)),
    (UserExpired, Some(Deactivated), Some(Expired)),
    (UserRestored, Some(Expired), Some(Pending)),
    (UserRestored, Some(Expired), Some(Invited)),
    (UserRestored, Some(Expired), Some(Active)),
    (UserRestored, Some(Expired), Some(Deactivated)),
    (UserUpdated, None, None),
];

/// A mail's way from its creation (`None`) on.
pub const DELIVERIES: &[(Option<DeliveryStateName>, DeliveryStateName)] = &[
    (None, Queued),
    (Some(Queued), Claimed),
    (Some(Queued), Cancelled),
    (Some(Queued), Suppressed),
    // Late, after an operator had asked to send it again.
    (Some(Queued), Sent),
    (Some(Claimed), Queued),
    (Some(Claimed), Transmitting),
    (Some(Claimed), Deferred),
    (Some(Claimed), Sent),
    (Some(Claimed), Failed),
    (Some(Claimed), Uncertain),
    (Some(Claimed), Cancelled),
    (Some(Claimed), Suppressed),
    (Some(Transmitting), Queued),
    (Some(Transmitting), Deferred),
    (Some(Transmitting), Sent),
    (Some(Transmitting), Failed),
    (Some(Transmitting), Uncertain),
    (Some(Deferred), Claimed),
    (Some(Deferred), Cancelled),
    (Some(Deferred), Suppressed),
    // By a worker that takes its word back.
    (Some(Deferred), Sent),
    (Some(Uncertain), Sent),
    (Some(Uncertain), Queued),
];

/// An invitation's way from its creation (`None`) on, as it is written down. Written down again without a change where
/// something else of it changed.
pub const INVITATIONS: &[(Option<InvitationState>, InvitationState)] = &[
    (None, InvitationState::Queued),
    (Some(InvitationState::Queued), InvitationState::Queued),
    (Some(InvitationState::Queued), InvitationState::Sent),
    (Some(InvitationState::Queued), InvitationState::Accepted),
    (Some(InvitationState::Queued), InvitationState::Cancelled),
    (Some(InvitationState::Queued), InvitationState::Superseded),
    (Some(InvitationState::Queued), InvitationState::Lapsed),
    (Some(InvitationState::Queued), InvitationState::Undeliverable),
    (Some(InvitationState::Sent), InvitationState::Sent),
    (Some(InvitationState::Sent), InvitationState::Queued),
    (Some(InvitationState::Sent), InvitationState::Accepted),
    (Some(InvitationState::Sent), InvitationState::Cancelled),
    (Some(InvitationState::Sent), InvitationState::Superseded),
    (Some(InvitationState::Sent), InvitationState::Lapsed),
    (Some(InvitationState::Sent), InvitationState::Undeliverable),
    (Some(InvitationState::Lapsed), InvitationState::Queued),
    (Some(InvitationState::Undeliverable), InvitationState::Queued),
    // A mail that was in mid-send when its link died: the ladder's beginning is noted, nothing comes of it.
    (Some(InvitationState::Accepted), InvitationState::Accepted),
    (Some(InvitationState::Cancelled), InvitationState::Cancelled),
    (Some(InvitationState::Lapsed), InvitationState::Lapsed),
];
