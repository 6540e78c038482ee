//! Bulk jobs (B7): one act over many items. A job is cut into chunks; each chunk is one transaction that writes what it did
//! together with the outcome of each of its items, so that no item is ever dealt with twice and nothing is half done.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{GroupId, JobId, SelectionId, TenantId, UserId};
use crate::invitation::Message;
use crate::role::{RoleRef, Scope};

/// Items of one chunk: what is locked at a time.
pub const CHUNK: usize = 500;
/// How long a previewed selection can be used, in seconds.
pub const SELECTION_SECONDS: i64 = 3_600;

/// A role in a scope, as jobs keep it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeldRole {
    /// As `RoleRef` is written.
    pub role: String,
    /// As `Scope::parts`.
    pub scope_kind: String,
    /// As `Scope::parts`.
    pub scope_id: String,
}

impl HeldRole {
    /// As it is kept.
    pub fn of(role: RoleRef, scope: &Scope) -> Self {
        let (scope_kind, scope_id) = scope.parts();
        Self {
            role: role.to_string(),
            scope_kind: scope_kind.into(),
            scope_id,
        }
    }

    /// The reverse of `of`; `None` if a later version kept it.
    pub fn read(&self) -> Option<(RoleRef, Scope)> {
        let role = RoleRef::from_name(&self.role)?;
        Some((role, Scope::from_parts(&self.scope_kind, &self.scope_id)?))
    }
}

/// What an import does with each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// Accounts that there are not.
    Create,
    /// The same, and whoever has not registered is invited.
    Invite,
    /// Accounts that there are get the fields of the file.
    Update,
    /// They are reactivated.
    Activate,
    /// They are deactivated.
    Deactivate,
}

impl ImportMode {
    /// As in the API: `create`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Invite => "invite",
            Self::Update => "update",
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
        }
    }
}

/// How an import's file calls the columns that may turn out to be at fault only when the turn of a row comes (L10).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportHeads {
    /// Of the addresses.
    pub email: String,
    /// Of the ids in the caller's system; empty where there are none.
    pub external_id: String,
    /// Of the ends of access; empty where there are none.
    pub expires: String,
    /// Of the deletion dates; empty where there are none.
    pub deletes: String,
}

/// What is done to each item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields of the actions in bulk_service.proto")]
pub enum JobAction {
    Invite {
        messages: Vec<Message>,
    },
    Deactivate,
    Reactivate,
    SetExpiration {
        at: Option<Timestamp>,
    },
    EditGroups {
        add: Vec<GroupId>,
        remove: Vec<GroupId>,
    },
    EditRoles {
        assign: Vec<HeldRole>,
        revoke: Vec<HeldRole>,
    },
    EditLabels {
        add: Vec<String>,
        remove: Vec<String>,
    },
    Resend {
        sent_days_ago: i32,
        messages: Vec<Message>,
    },
    Import {
        mode: ImportMode,
        dry_run: bool,
        overwrite_edited: bool,
        messages: Vec<Message>,
        #[serde(default)]
        heads: ImportHeads,
    },
    Undo,
}

impl JobAction {
    /// As in the API: `deactivate`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invite { .. } => "invite",
            Self::Deactivate => "deactivate",
            Self::Reactivate => "reactivate",
            Self::SetExpiration { .. } => "set_expiration",
            Self::EditGroups { .. } => "edit_groups",
            Self::EditRoles { .. } => "edit_roles",
            Self::EditLabels { .. } => "edit_labels",
            Self::Resend { .. } => "resend",
            Self::Import { .. } => "import",
            Self::Undo => "undo",
        }
    }

    /// Drops its free texts, the messages of mails and labels; answers whether there were any.
    pub fn drop_texts(&mut self) -> bool {
        match self {
            Self::Invite { messages } | Self::Resend { messages, .. } | Self::Import { messages, .. } => {
                !std::mem::take(messages).is_empty()
            }
            Self::EditLabels { add, remove } => {
                let had = !add.is_empty() || !remove.is_empty();
                add.clear();
                remove.clear();
                had
            }
            _ => false,
        }
    }

    /// Whether it can be taken back: mails do not come back, accounts do not cease to be, and of fields nobody knows what
    /// they were.
    pub fn can_be_undone(&self) -> bool {
        match self {
            Self::Invite { .. } | Self::Resend { .. } | Self::Undo => false,
            Self::Import { mode, dry_run, .. } => {
                matches!(mode, ImportMode::Activate | ImportMode::Deactivate) && !dry_run
            }
            Self::Deactivate
            | Self::Reactivate
            | Self::SetExpiration { .. }
            | Self::EditGroups { .. }
            | Self::EditRoles { .. }
            | Self::EditLabels { .. } => true,
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// It works.
    Running,
    /// Every item was dealt with.
    Done,
    /// Somebody stopped it.
    Cancelled,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Cancelled];

    /// As in columns: `RUNNING`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Done => "DONE",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will be done.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

/// How many items ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the outcomes")]
pub struct Counts {
    pub changed: i64,
    pub unchanged: i64,
    pub skipped: i64,
    pub failed: i64,
}

impl Counts {
    /// All of them.
    pub fn done(&self) -> i64 {
        self.changed + self.unchanged + self.skipped + self.failed
    }

    /// Takes in one more.
    pub fn add(&mut self, outcome: ItemOutcome) {
        match outcome {
            ItemOutcome::Changed => self.changed += 1,
            ItemOutcome::Unchanged => self.unchanged += 1,
            ItemOutcome::Skipped => self.skipped += 1,
            ItemOutcome::Failed => self.failed += 1,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: JobId,
    /// What it does.
    pub action: JobAction,
    /// How far it is.
    pub state: JobState,
    /// Its items.
    pub selection: SelectionId,
    /// As in the selection: whoever no longer matches when their turn comes is skipped (U6).
    pub filter: String,
    /// How many there are.
    pub total: i64,
    /// The chunk that comes next. Chunks are dealt with in order; those before it were.
    pub next_chunk: i32,
    /// What became of those dealt with.
    pub counts: Counts,
    /// The job that it repeats or undoes.
    pub origin: Option<JobId>,
    /// On whose behalf.
    pub actor: String,
    /// As the caller gave it.
    pub reason: String,
    /// The caller's.
    pub request_id: String,
    /// Counts how often items that wait were rewritten, since somebody was erased: what was read before is out of date.
    pub revision: i32,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Job {
    /// Takes in the outcomes of the next chunk; ends with the last.
    pub fn advance(&mut self, outcomes: &[ItemResult], now: Timestamp) {
        for item in outcomes {
            self.counts.add(item.outcome);
        }
        self.next_chunk += 1;
        if self.counts.done() >= self.total {
            self.state = JobState::Done;
            self.ended_at = Some(now);
        }
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemOutcome {
    /// It was done.
    Changed,
    /// It was so before.
    Unchanged,
    /// It no longer fits.
    Skipped,
    /// It could not be done.
    Failed,
}

/// How to take back what was done to one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "what each takes back")]
pub enum Undo {
    /// Of a deactivation; only if the status has not changed since this instant.
    Reactivate { since: Timestamp },
    /// Of a reactivation; as above.
    Deactivate { since: Timestamp },
    /// The expiration before; only if the one that was set still stands.
    SetExpiration {
        at: Option<Timestamp>,
        set: Option<Timestamp>,
    },
    /// The groups that were added and removed.
    EditGroups { added: Vec<GroupId>, removed: Vec<GroupId> },
    /// The roles that were given and taken.
    EditRoles {
        assigned: Vec<HeldRole>,
        revoked: Vec<HeldRole>,
    },
    /// The labels that were added and removed.
    EditLabels { added: Vec<String>, removed: Vec<String> },
}

impl Undo {
    /// The groups that they come back into.
    pub fn groups_back(&self) -> Vec<GroupId> {
        match self {
            Self::EditGroups { removed, .. } => removed.clone(),
            _ => Vec::new(),
        }
    }

    /// The roles that they are given again.
    pub fn roles_back(&self) -> Vec<HeldRole> {
        match self {
            Self::EditRoles { revoked, .. } => revoked.clone(),
            _ => Vec::new(),
        }
    }
}

/// One item of a chunk, before it is dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemInput {
    /// Its place in the job, from 1; in an import the row of the file.
    #[serde(rename = "p")]
    pub position: i64,
    /// Which user; `None` for a row of a file.
    #[serde(rename = "u", skip_serializing_if = "Option::is_none", default)]
    pub user: Option<UserId>,
    /// What is to be taken back.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none", default)]
    pub undo: Option<Undo>,
    /// A row of a file, as the import reads it.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none", default)]
    pub row: Option<serde_json::Value>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemResult {
    /// Its place in the job, from 1; in an import the row of the file.
    #[serde(rename = "p")]
    pub position: i64,
    /// Whom it is about.
    #[serde(rename = "u", skip_serializing_if = "Option::is_none", default)]
    pub user: Option<UserId>,
    /// How it ended.
    #[serde(rename = "o")]
    pub outcome: ItemOutcome,
    /// A reason of the API.
    #[serde(rename = "r", skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
    /// The fault and the way out.
    #[serde(rename = "m", skip_serializing_if = "String::is_empty", default)]
    pub message: String,
    /// In an import: the head of the column at fault.
    #[serde(rename = "c", skip_serializing_if = "String::is_empty", default)]
    pub column: String,
    /// In an import: what was done.
    #[serde(rename = "d", skip_serializing_if = "String::is_empty", default)]
    pub detail: String,
    /// In an import: the address of a row without an account, as far as it can be told.
    #[serde(rename = "a", skip_serializing_if = "String::is_empty", default)]
    pub address: String,
    /// In an import: the further faults of the row, each with its column.
    #[serde(rename = "f", skip_serializing_if = "Vec::is_empty", default)]
    pub further: Vec<(String, String)>,
    /// How to take it back.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none", default)]
    pub undo: Option<Undo>,
}

impl ItemResult {
    /// An item that ended in some way, without a word.
    pub fn new(input: &ItemInput, outcome: ItemOutcome) -> Self {
        Self {
            position: input.position,
            user: input.user,
            outcome,
            reason: String::new(),
            message: String::new(),
            column: String::new(),
            detail: String::new(),
            address: String::new(),
            further: Vec::new(),
            undo: None,
        }
    }
}

/// Which chunk of a job: they are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkKey {
    /// Whose.
    pub tenant: TenantId,
    /// Of which job.
    pub job: JobId,
    /// Which.
    pub number: i32,
}

/// The items of jobs: users that were previewed (U6), or the rows of a file. Kept in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: SelectionId,
    /// SHA-256 over its users: what the caller names it by. Empty for the rows of a file.
    pub digest: Vec<u8>,
    /// The filter that named them, as `UserQuery` is written, without its text; empty if they were named one by one.
    pub filter: String,
    /// How many.
    pub count: i64,
    /// Until when it can be used.
    pub until: Timestamp,
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn result(outcome: ItemOutcome) -> ItemResult {
        ItemResult::new(
            &ItemInput {
                position: 1,
                user: None,
                undo: None,
                row: None,
            },
            outcome,
        )
    }

    #[test]
    fn a_job_ends_with_its_last_item_and_not_before_b7() {
        let now = DateTime::from_timestamp(1_772_442_000, 0).unwrap();
        let mut job = Job {
            tenant: TenantId(Uuid::nil()),
            id: JobId(Uuid::nil()),
            action: JobAction::Deactivate,
            state: JobState::Running,
            selection: SelectionId(Uuid::nil()),
            filter: String::new(),
            total: 3,
            next_chunk: 0,
            counts: Counts::default(),
            origin: None,
            actor: "head-office".into(),
            reason: String::new(),
            request_id: String::new(),
            revision: 0,
            created_at: now,
            ended_at: None,
        };
        job.advance(&[result(ItemOutcome::Changed), result(ItemOutcome::Failed)], now);
        assert_eq!((job.state, job.ended_at), (JobState::Running, None));
        job.advance(&[result(ItemOutcome::Skipped)], now);
        assert_eq!((job.state, job.ended_at), (JobState::Done, Some(now)));
        assert_eq!(job.counts.done(), 3);
    }

    #[test]
    fn an_action_comes_back_from_how_it_is_kept() {
        let group = GroupId(Uuid::from_u128(1));
        for action in [
            JobAction::Deactivate,
            JobAction::SetExpiration { at: None },
            JobAction::EditGroups {
                add: vec![group],
                remove: vec![],
            },
            JobAction::Undo,
        ] {
            let kept = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<JobAction>(&kept).unwrap(), action);
        }
        assert!(JobAction::Deactivate.can_be_undone());
        assert!(
            !JobAction::Resend {
                sent_days_ago: 7,
                messages: vec![]
            }
            .can_be_undone()
        );
    }
}
