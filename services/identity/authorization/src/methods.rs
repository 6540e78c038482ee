//! Which permission each RPC asks for. What it is asked about (the platform, a place, an account) is in
//! `policies/MATRIX.md`.

use usher_core::role::Permission;

/// Each RPC, as `Service/Method` of the package `usher.identity.v1`, with its permission.
pub const METHODS: &[(&str, Permission)] = &[
    ("AccessService/CheckAccess", Permission::AccessCheck),
    ("AccessService/VerifyPassword", Permission::AccessSignIn),
    ("AccessService/ChangePassword", Permission::AccessSignIn),
    ("BulkService/PreviewSelection", Permission::JobsRun),
    ("BulkService/StartBulk", Permission::JobsRun),
    ("BulkService/CancelJob", Permission::JobsRun),
    ("BulkService/RetryFailed", Permission::JobsRun),
    ("BulkService/UndoJob", Permission::JobsRun),
    ("BulkService/GetJob", Permission::JobsRead),
    ("BulkService/ListJobs", Permission::JobsRead),
    ("BulkService/WatchJob", Permission::JobsRead),
    ("BulkService/ListJobItems", Permission::JobsRead),
    ("BulkService/DownloadJobReport", Permission::JobsRead),
    ("DeliveryService/ListDeliveries", Permission::DeliveriesRead),
    ("DeliveryService/ResolveDelivery", Permission::DeliveriesResolve),
    ("DeliveryService/ReportBounce", Permission::DeliveriesReport),
    ("DeliveryService/ListSuppressions", Permission::SuppressionsRead),
    ("DeliveryService/RemoveSuppression", Permission::SuppressionsRemove),
    ("EventService/WatchEvents", Permission::EventsWatch),
    ("GroupService/CreateGroup", Permission::GroupsCreate),
    ("GroupService/GetGroup", Permission::GroupsRead),
    ("GroupService/ListGroups", Permission::GroupsRead),
    ("GroupService/UpdateGroup", Permission::GroupsUpdate),
    ("GroupService/DeleteGroup", Permission::GroupsDelete),
    ("GroupService/AddGroupMembers", Permission::GroupsEditMembers),
    ("GroupService/RemoveGroupMembers", Permission::GroupsEditMembers),
    ("InvitationService/InviteUsers", Permission::InvitationsSend),
    ("InvitationService/SendInvitation", Permission::InvitationsSend),
    ("InvitationService/GetInvitation", Permission::InvitationsRead),
    ("InvitationService/ListInvitations", Permission::InvitationsRead),
    ("InvitationService/CancelInvitation", Permission::InvitationsSend),
    ("InvitationService/ResendInvitation", Permission::InvitationsSend),
    ("InvitationService/PreviewInvitation", Permission::InvitationsPreview),
    ("InvitationService/SendTestInvitation", Permission::InvitationsPreview),
    ("InvitationService/InspectInvitation", Permission::InvitationsAccept),
    ("InvitationService/AcceptInvitation", Permission::InvitationsAccept),
    (
        "InvitationService/RequestFreshInvitation",
        Permission::InvitationsAccept,
    ),
    ("RoleService/ListRoles", Permission::RolesRead),
    ("RoleService/ListRoleAssignments", Permission::RolesRead),
    ("RoleService/AssignRoles", Permission::RolesAssign),
    ("RoleService/RevokeRoles", Permission::RolesAssign),
    ("RoleService/CreateRole", Permission::RolesDefine),
    ("RoleService/UpdateRole", Permission::RolesDefine),
    ("RoleService/DeleteRole", Permission::RolesDefine),
    ("SeatService/GetSeatUsage", Permission::SeatsRead),
    ("SeatService/ListSeatLedger", Permission::SeatsRead),
    ("SeatService/GetSeatForecast", Permission::SeatsRead),
    ("TenantService/CreateTenant", Permission::TenantsCreate),
    ("TenantService/GetTenant", Permission::TenantsRead),
    ("TenantService/UpdateTenant", Permission::TenantsUpdate),
    ("TransferService/ImportUsers", Permission::UsersImport),
    ("TransferService/ExportUsers", Permission::UsersExport),
    ("UserService/CreateUser", Permission::UsersCreate),
    ("UserService/GetUser", Permission::UsersRead),
    ("UserService/BatchGetUsers", Permission::UsersRead),
    ("UserService/LookupUser", Permission::UsersRead),
    ("UserService/ListUsers", Permission::UsersRead),
    ("UserService/UpdateUser", Permission::UsersUpdate),
    ("UserService/DeactivateUser", Permission::UsersChangeStatus),
    ("UserService/ReactivateUser", Permission::UsersChangeStatus),
    ("UserService/SetUserExpiration", Permission::UsersSetExpiration),
    ("UserService/ExplainUser", Permission::UsersExplain),
    ("WorkService/BeginDelivery", Permission::WorkPerform),
    ("WorkService/ReportTransmitting", Permission::WorkPerform),
    ("WorkService/FinishDelivery", Permission::WorkPerform),
    ("WorkService/ExpireUsers", Permission::WorkPerform),
];

/// The permission of an RPC, named as `UserService/DeactivateUser`. `None`: there is no such RPC, so nobody may call it.
pub fn permission_of(method: &str) -> Option<Permission> {
    METHODS
        .iter()
        .find(|(known, _)| *known == method)
        .map(|(_, permission)| *permission)
}
