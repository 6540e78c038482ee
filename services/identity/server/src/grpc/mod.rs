//! The gRPC services, a file each. A handler parses, gathering every fault; asks the engine or the store; and converts.
//!
//! To add an RPC: write it in the `.proto`, implement it in the service's file here (the smallest is `get_tenant`), give
//! each new refusal a row in `status::classify`, and add its test to the end-to-end suite.

mod access_service;
mod activity_service;
mod audit_service;
mod bounces;
pub(crate) mod bulk_service;
mod delivery_service;
mod erasure_service;
pub(crate) mod event_service;
mod explaining;
mod group_service;
pub(crate) mod inactivity_service;
mod invitation_service;
mod job_items;
mod link;
mod profiles;
pub(crate) mod role_service;
mod seat_service;
mod selecting;
mod template_service;
mod tenant_service;
mod transfer_service;
mod user_service;
mod work_service;
