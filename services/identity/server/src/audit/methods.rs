//! What calls are to the audit log.

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes something: its refusals are written down; what it did, the engine writes down.
    Change,
    /// It reads data of people: whoever reads as a person is written down, and so is every refusal.
    Read,
    /// It reads the audit log: whoever does is written down.
    ReadsAudit,
    /// Neither: only that somebody was not permitted to is written down.
    Other,
}

/// Those that read data of people.
const READS: &[&str] = &[
    "BulkService/PreviewSelection",
    "BulkService/ListJobItems",
    "BulkService/DownloadJobReport",
    "DeliveryService/ListDeliveries",
    "DeliveryService/ListSuppressions",
    "ErasureService/GetErasure",
    "ErasureService/ListErasures",
    "InactivityService/PreviewInactivity",
    "InvitationService/GetInvitation",
    "InvitationService/ListInvitations",
    "InvitationService/PreviewInvitation",
    "TransferService/ExportUsers",
    "UserService/GetUser",
    "UserService/BatchGetUsers",
    "UserService/LookupUser",
    "UserService/ListUsers",
    "UserService/ExplainUser",
];

const READS_AUDIT: &[&str] = &[
    "AuditService/ListAuditEntries",
    "AuditService/ExportAuditEntries",
    "AuditService/VerifyAudit",
];

/// Those that tell ids, numbers and settings only; that a person uses for themselves; and the work of workers, whose
/// records are the mails' own.
const OTHERS: &[&str] = &[
    "AccessService/CheckAccess",
    "AccessService/VerifyPassword",
    "BulkService/GetJob",
    "BulkService/ListJobs",
    "BulkService/WatchJob",
    "ErasureService/ListErasureSubscribers",
    "ErasureService/GetErasureCertificate",
    "EventService/WatchEvents",
    "GroupService/GetGroup",
    "GroupService/ListGroups",
    "InactivityService/ListInactivityRuns",
    "InvitationService/InspectInvitation",
    "InvitationService/RequestFreshInvitation",
    "RoleService/ListRoles",
    "RoleService/ListRoleAssignments",
    "SeatService/GetSeatUsage",
    "SeatService/ListSeatLedger",
    "SeatService/GetSeatForecast",
    "TemplateService/ListTemplates",
    "TemplateService/GetTemplate",
    "TemplateService/ListTemplateVersions",
    "TemplateService/PreviewTemplate",
    "TenantService/GetTenant",
    "WorkService/BeginDelivery",
    "WorkService/ReportTransmitting",
    "WorkService/FinishDelivery",
    "WorkService/ExpireUsers",
    "WorkService/EraseUsers",
];

/// What a method does, named as `UserService/GetUser`. One that nobody thought of is taken for a change.
pub(crate) fn kind(method: &str) -> Kind {
    if READS.contains(&method) {
        Kind::Read
    } else if READS_AUDIT.contains(&method) {
        Kind::ReadsAudit
    } else if OTHERS.contains(&method) {
        Kind::Other
    } else {
        Kind::Change
    }
}

#[cfg(test)]
mod tests {
    use usher_authorization::METHODS;

    use super::*;

    #[test]
    fn b14_every_rpc_that_reads_is_known_as_one() {
        let known: Vec<&str> = METHODS.iter().map(|(method, _)| *method).collect();
        let listed = || READS.iter().chain(READS_AUDIT).chain(OTHERS);
        let unknown: Vec<_> = listed().filter(|method| !known.contains(method)).collect();
        assert!(unknown.is_empty(), "there are no such RPCs: {unknown:?}");
        let verbs = [
            "Get", "List", "BatchGet", "Lookup", "Explain", "Preview", "Export", "Download", "Watch", "Check",
            "Inspect", "Verify",
        ];
        let reads = |method: &&str| verbs.iter().any(|verb| method.contains(&format!("/{verb}")));
        let forgotten: Vec<_> = known
            .iter()
            .filter(|method| reads(method) && kind(method) == Kind::Change)
            .collect();
        assert!(
            forgotten.is_empty(),
            "say what these read, in `audit::methods`: {forgotten:?}"
        );
    }
}
