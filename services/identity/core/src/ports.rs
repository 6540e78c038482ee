//! What the rules need from the outside: a store. One implementation serves PostgreSQL and SQLite; a contract suite holds
//! both to what stands here.

mod audit;
mod erasures;
mod queries;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

pub use self::audit::{AuditLog, AuditQuery, Sealing};
pub use self::erasures::{ErasureQuery, Erasures};
pub use self::queries::{
    Activity, After, AssignmentQuery, DeliveryQuery, DeliveryRecord, FoundMail, GroupQuery, InactivityQuery,
    InactivityStep, InvitationQuery, JobQuery, MailRef, Suppression, UserOrder, UserQuery, WarnedQuery,
};
use crate::account::{Account, Belonging, Detached};
use crate::change::{Changeset, StoredResponse};
use crate::clock::Timestamp;
use crate::delivery::DeliveryStateName;
use crate::erasure::Erasure;
use crate::event::Event;
use crate::group::Group;
use crate::ids::{DeliveryId, ErasureId, GroupId, InvitationId, JobId, RoleId, SelectionId, TenantId, UserId};
use crate::inactivity::InactivityRun;
#[cfg(doc)]
use crate::inactivity::RECENT_RUNS;
use crate::invitation::Invitation;
use crate::job::{ItemInput, ItemResult, Job, Selection};
use crate::role::{Assignment, CustomRole, RoleRef, Scope};
use crate::seats::{SeatEntry, SeatUsage, Seats};
use crate::template::{TemplateKey, TemplateVersion};
use crate::tenant::Tenant;
use crate::timer::Timer;
use crate::user::User;

/// What a store cannot do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, or not in time. Trying again later may help.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// Another transaction was first: a row that was to be new exists, or a deadlock was broken. Trying again at once
    /// sees what it wrote.
    #[error("another transaction was first: {0}")]
    Conflict(String),
    /// A row cannot be understood, or a statement is wrong: a fault of ours.
    #[error("internal fault of the store: {0}")]
    Internal(String),
}

/// What a transaction is to load and lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each asks for one more kind of rows")]
pub struct Keys {
    /// Tenants (read, not locked, unless `lock_tenants`).
    pub tenants: BTreeSet<TenantId>,
    /// Lock the tenants: they are to be changed.
    pub lock_tenants: bool,
    /// Accounts by user.
    pub users: BTreeSet<(TenantId, UserId)>,
    /// Accounts by folded address. An address without an account is answered in `Loaded::suppressed` only.
    pub emails: BTreeSet<(TenantId, String)>,
    /// Whether these external ids are taken, and by whom.
    pub external_ids: BTreeSet<(TenantId, String)>,
    /// The accounts of these external ids come too.
    pub external_accounts: bool,
    /// Accounts by their invitation (any of theirs), for links.
    pub invitations: BTreeSet<(TenantId, InvitationId)>,
    /// Deliveries that belong into their account even if they ended; test mails are answered in `Loaded::detached`.
    pub deliveries: BTreeSet<(TenantId, DeliveryId)>,
    /// Accounts come with their newest invitation and mails; where that is not needed, loading is cheaper without.
    pub with_mail: bool,
    /// Answers given before (B1).
    pub requests: BTreeSet<(TenantId, String)>,
    /// Some account may become active: the seats of the tenants that have a limit are counted, and locked. Who has expired
    /// at this instant takes none, whether that is written down or not (S5).
    pub with_seats: Option<Timestamp>,
    /// Accounts come with their groups and roles.
    pub with_belonging: bool,
    /// Accounts come with the mails that were sent to them since this instant, where that counts: see [`Account::mailed_at`].
    pub with_mailed_since: Option<Timestamp>,
    /// Groups that must not vanish meanwhile.
    pub groups: BTreeSet<(TenantId, GroupId)>,
    /// Tenants whose groups are all needed. With `lock_tenants`, none of them changes meanwhile.
    pub trees: BTreeSet<TenantId>,
    /// Tenants whose own roles are all needed, and must not vanish meanwhile. With `lock_tenants`, to be changed.
    pub roles: BTreeSet<TenantId>,
    /// Roles of which it must be known whether anybody holds them.
    pub role_holders: BTreeSet<(TenantId, RoleRef)>,
    /// Jobs, to be changed.
    pub jobs: BTreeSet<(TenantId, JobId)>,
    /// Tenants whose newest runs of deactivations for inactivity are needed, and locked.
    pub inactivity: BTreeSet<TenantId>,
    /// Erasures, to be changed; the accounts that they are about come too.
    pub erasures: BTreeSet<(TenantId, ErasureId)>,
    /// Accounts come with the erasure that runs, or was carried out.
    pub with_erasures: bool,
    /// Tenants of which it must be known which services are asked to erase their part.
    pub subscribers: BTreeSet<TenantId>,
    /// Whether these keyed hashes are those of addresses that were erased; each with the folded address.
    pub erased: BTreeMap<(TenantId, Vec<u8>), String>,
}

impl Keys {
    /// Takes in those of another command.
    pub fn extend(&mut self, other: &Self) {
        self.tenants.extend(&other.tenants);
        self.lock_tenants |= other.lock_tenants;
        self.users.extend(&other.users);
        self.emails.extend(other.emails.iter().cloned());
        self.external_ids.extend(other.external_ids.iter().cloned());
        self.external_accounts |= other.external_accounts;
        self.invitations.extend(&other.invitations);
        self.deliveries.extend(&other.deliveries);
        self.with_mail |= other.with_mail;
        self.requests.extend(other.requests.iter().cloned());
        // The earlier instant frees fewer seats: never too many.
        self.with_seats = match (self.with_seats, other.with_seats) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.with_belonging |= other.with_belonging;
        self.with_mailed_since = match (self.with_mailed_since, other.with_mailed_since) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.groups.extend(&other.groups);
        self.trees.extend(&other.trees);
        self.roles.extend(&other.roles);
        self.role_holders.extend(&other.role_holders);
        self.jobs.extend(&other.jobs);
        self.inactivity.extend(&other.inactivity);
        self.erasures.extend(&other.erasures);
        self.with_erasures |= other.with_erasures;
        self.subscribers.extend(&other.subscribers);
        self.erased
            .extend(other.erased.iter().map(|(hash, email)| (hash.clone(), email.clone())));
    }
}

/// What was loaded: the world in which the commands of one transaction decide.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// By id.
    pub tenants: HashMap<TenantId, Arc<Tenant>>,
    /// By user.
    pub accounts: HashMap<(TenantId, UserId), Account>,
    /// Folded address to user.
    pub emails: HashMap<(TenantId, String), UserId>,
    /// External id to user.
    pub external_ids: HashMap<(TenantId, String), UserId>,
    /// Invitation to user.
    pub invitations: HashMap<(TenantId, InvitationId), UserId>,
    /// Delivery to user.
    pub deliveries: HashMap<(TenantId, DeliveryId), UserId>,
    /// Test mails.
    pub detached: HashMap<(TenantId, DeliveryId), Detached>,
    /// Of the addresses asked for: those that are suppressed.
    pub suppressed: BTreeSet<(TenantId, String)>,
    /// Of the requests asked for: those that were answered before.
    pub responses: HashMap<(TenantId, String), StoredResponse>,
    /// Of the tenants whose accounts may become active: the seats that are taken.
    pub seats: HashMap<TenantId, Seats>,
    /// Of the groups asked for: those that there are; and all of the trees asked for.
    pub groups: HashMap<(TenantId, GroupId), Group>,
    /// The roles of the tenants asked for.
    pub roles: HashMap<(TenantId, RoleId), CustomRole>,
    /// Of the roles asked about: those that somebody holds.
    pub held_roles: BTreeSet<(TenantId, RoleRef)>,
    /// The jobs asked for.
    pub jobs: HashMap<(TenantId, JobId), Job>,
    /// The runs of the tenants asked for: the last [`RECENT_RUNS`], the newest first.
    pub inactivity: HashMap<TenantId, Vec<InactivityRun>>,
    /// The erasures asked for, and those of the accounts, if asked for.
    pub erasures: HashMap<(TenantId, ErasureId), Erasure>,
    /// The services that are asked, of the tenants asked for.
    pub subscribers: HashMap<TenantId, BTreeSet<String>>,
    /// Of the hashes asked for: the addresses that were erased.
    pub erased: BTreeSet<(TenantId, String)>,
}

/// A transaction. Dropped without a commit, it leaves nothing.
#[async_trait]
pub trait Transaction: Send {
    /// Loads what the keys name and locks the accounts against every other transaction.
    async fn load(&mut self, keys: &Keys) -> Result<Loaded, StoreError>;
    /// Makes ready what [`Self::apply`] will write, without a word to the database: for one that has to wait.
    fn stage(&mut self, changes: &Changeset) -> Result<(), StoreError>;
    /// Writes everything, set by set: what was staged, if anything was, else the changes.
    async fn apply(&mut self, changes: &Changeset) -> Result<(), StoreError>;
    /// Makes it last.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// Reads outside of transactions. None of them locks anything.
#[async_trait]
pub trait Directory: Send + Sync {
    /// One tenant.
    async fn tenant(&self, tenant: TenantId) -> Result<Option<Tenant>, StoreError>;
    /// Those of the users that exist, in any order, of any tenants, in one statement.
    async fn users(&self, ids: &[(TenantId, UserId)]) -> Result<Vec<User>, StoreError>;
    /// By folded address.
    async fn user_by_email(&self, tenant: TenantId, key: &str) -> Result<Option<User>, StoreError>;
    /// By external id.
    async fn user_by_external_id(&self, tenant: TenantId, id: &str) -> Result<Option<User>, StoreError>;
    /// One page of users.
    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError>;
    /// A user with what hangs on them: as `Transaction::load`, without the lock.
    async fn account(&self, tenant: TenantId, user: UserId) -> Result<Option<Account>, StoreError>;
    /// What a transaction would load at this moment, as far as that can be told without a lock: each table is read at an
    /// instant of its own.
    async fn look(&self, keys: &Keys) -> Result<Loaded, StoreError>;
    /// One invitation.
    async fn invitation(&self, tenant: TenantId, id: InvitationId) -> Result<Option<Invitation>, StoreError>;
    /// One page of invitations.
    async fn list_invitations(&self, query: &InvitationQuery) -> Result<Vec<Invitation>, StoreError>;
    /// One page of deliveries with their attempts.
    async fn list_deliveries(&self, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>, StoreError>;
    /// For each of these, the mail that is meant, if there is one.
    async fn find_mails(&self, tenant: TenantId, wanted: &[MailRef]) -> Result<Vec<Option<FoundMail>>, StoreError>;
    /// One page of suppressions, the newest first.
    async fn list_suppressions(
        &self,
        tenant: TenantId,
        after: Option<After>,
        limit: u32,
    ) -> Result<Vec<Suppression>, StoreError>;
    /// Why a folded address gets no mail; `None`: it does.
    async fn suppression(&self, tenant: TenantId, key: &str) -> Result<Option<Suppression>, StoreError>;
    /// Of these users, of any tenants: the groups and roles of those who have any, in one statement each.
    async fn belongings(
        &self,
        users: &[(TenantId, UserId)],
    ) -> Result<HashMap<(TenantId, UserId), Belonging>, StoreError>;
    /// All groups of a tenant.
    async fn groups(&self, tenant: TenantId) -> Result<Vec<Group>, StoreError>;
    /// One page of groups, by name.
    async fn list_groups(&self, query: &GroupQuery) -> Result<Vec<Group>, StoreError>;
    /// All roles of a tenant's own, by name.
    async fn roles(&self, tenant: TenantId) -> Result<Vec<CustomRole>, StoreError>;
    /// One page of assignments, by user.
    async fn list_assignments(&self, query: &AssignmentQuery) -> Result<Vec<Assignment>, StoreError>;
    /// How the seats stand at an instant; `horizon` is that of `expiring`.
    async fn seat_usage(&self, tenant: TenantId, now: Timestamp, horizon: Timestamp) -> Result<SeatUsage, StoreError>;
    /// One page of the ledger, the newest first: each line with its place, before the place `before`.
    async fn seat_ledger(
        &self,
        tenant: TenantId,
        user: Option<UserId>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<(i64, SeatEntry)>, StoreError>;
    /// Whoever waits for a seat and could take one, the longest waiting first.
    async fn seat_queue(&self, tenant: TenantId, now: Timestamp, limit: u32) -> Result<Vec<UserId>, StoreError>;
    /// Active users whose expiration lies ahead, but before the horizon of a warning that they have not had: before the first
    /// of `horizons` and not warned at all, before the second and warned once at most, and so on (B9). The soonest first.
    async fn to_be_warned(
        &self,
        tenant: TenantId,
        now: Timestamp,
        horizons: &[Timestamp],
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError>;
    /// The able administrators of a tenant, with where: who is active at an instant and whose address gets mail.
    async fn administrators(&self, tenant: TenantId, now: Timestamp) -> Result<Vec<(UserId, Scope)>, StoreError>;
    /// One page of the people whom a mail to an administrator may be about (B9): see [`crate::account`]. Each with the
    /// expiration, the soonest first.
    async fn people_warned(&self, query: &WarnedQuery) -> Result<Vec<(UserId, Timestamp)>, StoreError>;
    /// Mails to people that were due before an instant and wait still: those that a pause held (B15), the longest waiting first.
    async fn waiting_mails(
        &self,
        tenant: TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(UserId, DeliveryId)>, StoreError>;
    /// One version of a template.
    async fn template(
        &self,
        tenant: TenantId,
        key: &TemplateKey,
        version: i64,
    ) -> Result<Option<TemplateVersion>, StoreError>;
    /// One page of the versions of a template, the newest first: those before the version `before`. Their texts are
    /// left empty.
    async fn list_template_versions(
        &self,
        tenant: TenantId,
        key: &TemplateKey,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<TemplateVersion>, StoreError>;
    /// One page of inactive users.
    async fn inactive_users(&self, query: &InactivityQuery) -> Result<Vec<User>, StoreError>;
    /// How many there are: position and limit do not count.
    async fn count_inactive(&self, query: &InactivityQuery) -> Result<i64, StoreError>;
    /// One page of runs of deactivations for inactivity, the newest first.
    async fn inactivity_runs(
        &self,
        tenant: TenantId,
        after: Option<After>,
        limit: u32,
    ) -> Result<Vec<InactivityRun>, StoreError>;
    /// The changes of an account and of its invitations, the newest first. Never pruned with the outbox.
    async fn history(&self, tenant: TenantId, user: UserId, limit: u32) -> Result<Vec<Event>, StoreError>;
}

/// Where a follower of the outbox is. Opaque outside the store; `Display`ed and parsed as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// What a follower is given.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The next events, in an order that holds per user.
    pub events: Vec<(Cursor, Event)>,
    /// Where to go on; equal to the one given if nothing is new.
    pub cursor: Cursor,
    /// Whether more is there already.
    pub more: bool,
}

/// A row of the outbox that is to be published.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    /// Names the row.
    pub sequence: i64,
    /// What it says.
    pub event: Event,
}

/// The lanes that a replica owns, until when, and since which change of owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneLease {
    /// 0 to 63.
    pub lanes: Vec<i16>,
    /// Fences: marks of a former owner are refused.
    pub epochs: BTreeMap<i16, i64>,
    /// Until when, by the store's clock.
    pub until: Timestamp,
}

/// What happened, in order, until it was published and followed.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The end of the log: from here on, nothing committed later is missed.
    async fn end(&self) -> Result<Cursor, StoreError>;
    /// The oldest event that is kept: nothing kept is missed.
    async fn beginning(&self) -> Result<Cursor, StoreError>;
    /// The next events after a cursor. Never skips what commits late. `Ok(None)`: events after it are no longer kept, or
    /// it is no cursor of this store. `tenant` narrows it down.
    async fn follow(
        &self,
        after: &Cursor,
        tenant: Option<TenantId>,
        limit: u32,
    ) -> Result<Option<Followed>, StoreError>;
    /// Users who changed after a cursor, for caches: everything visible, also what `follow` still holds back for the sake
    /// of order, so the same change may be answered several times. Answers where to go on.
    async fn touched(&self, after: &Cursor) -> Result<(Vec<(TenantId, UserId)>, Cursor), StoreError>;
    /// Renews the lanes that `owner` has and takes free ones, so that live owners come to about the same number each.
    async fn lease_lanes(&self, owner: &str, now: Timestamp, until: Timestamp) -> Result<LaneLease, StoreError>;
    /// Gives all lanes of an owner back.
    async fn release_lanes(&self, owner: &str) -> Result<(), StoreError>;
    /// The oldest events of these lanes that are not published, in order, but for those in `except`.
    async fn unpublished(&self, lanes: &[i16], except: &[i64], limit: u32) -> Result<Vec<OutboxRow>, StoreError>;
    /// Marks rows published.
    async fn mark_published(&self, sequences: &[i64], now: Timestamp) -> Result<(), StoreError>;
    /// Where a queue of the in-process bus is; and remembers it.
    async fn load_position(&self, queue: &str) -> Result<Option<Cursor>, StoreError>;
    /// See `load_position`.
    async fn save_position(&self, queue: &str, cursor: &Cursor) -> Result<(), StoreError>;
}

/// How much waits: for the gauges that operators watch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Backlog {
    /// Events that are not published.
    pub outbox_depth: i64,
    /// How old the oldest of them is, in seconds.
    pub outbox_age_seconds: f64,
    /// Timers past their time.
    pub timers_overdue: i64,
    /// Deliveries that have not ended or are uncertain, by state.
    pub deliveries: BTreeMap<DeliveryStateName, i64>,
}

/// Everything that waits, and the housekeeping.
#[async_trait]
pub trait Timers: Send + Sync {
    /// Takes up to `limit` timers that are due, the most overdue first. Each is put off by [`crate::timer::refire_pause`]
    /// in the same statement, so that no other replica takes it meanwhile, and it fires again if this one dies.
    async fn take_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Timer>, StoreError>;
    /// When the next timer is due.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;
    /// What waits.
    async fn backlog(&self, now: Timestamp) -> Result<Backlog, StoreError>;
    /// Deletes published events and stored answers from before these instants, at most `limit` each; answers how many.
    async fn prune(&self, events_before: Timestamp, responses_before: Timestamp, limit: u32)
    -> Result<u64, StoreError>;
    /// The database's present instant.
    async fn now(&self) -> Result<Timestamp, StoreError>;
}

/// Bulk jobs and what they work on.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Those whom a query matches, by id, after one: its order, page and limit do not count.
    async fn matching_users(
        &self,
        query: &UserQuery,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError>;
    /// Which of these users a query matches: its order, page and limit do not count.
    async fn among(&self, query: &UserQuery, users: &[UserId]) -> Result<HashSet<UserId>, StoreError>;
    /// Keeps a chunk of a selection that is being made. Written twice, the later counts.
    async fn put_chunk(
        &self,
        tenant: TenantId,
        selection: SelectionId,
        number: i32,
        items: &[ItemInput],
    ) -> Result<(), StoreError>;
    /// Keeps a selection, once its chunks are there.
    async fn put_selection(&self, selection: &Selection) -> Result<(), StoreError>;
    /// A selection.
    async fn selection(&self, tenant: TenantId, id: SelectionId) -> Result<Option<Selection>, StoreError>;
    /// One chunk of a selection.
    async fn chunk(
        &self,
        tenant: TenantId,
        selection: SelectionId,
        number: i32,
    ) -> Result<Option<Vec<ItemInput>>, StoreError>;
    /// One job.
    async fn job(&self, tenant: TenantId, id: JobId) -> Result<Option<Job>, StoreError>;
    /// One page of jobs.
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StoreError>;
    /// What became of the items of a job: up to `limit` chunks from one on, in order.
    async fn outcomes(
        &self,
        tenant: TenantId,
        job: JobId,
        from: i32,
        limit: u32,
    ) -> Result<Vec<(i32, Vec<ItemResult>)>, StoreError>;
    /// Lends out a job that works and is not lent out: of the one that had its turn the longest ago.
    async fn claim_job(&self, owner: &str, now: Timestamp, until: Timestamp) -> Result<Option<Job>, StoreError>;
    /// Gives a job back.
    async fn release_job(&self, tenant: TenantId, id: JobId, owner: &str) -> Result<(), StoreError>;
    /// Deletes selections that can no longer be used, and the reports of jobs and the runs for inactivity that were done
    /// before an instant, some at a time; answers how many rows went.
    async fn prune_jobs(&self, now: Timestamp, ended_before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}

/// A store.
#[async_trait]
pub trait Store: Directory + Outbox + Timers + Jobs + AuditLog + Erasures {
    /// Begins a transaction.
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError>;
    /// Whether the database answers and has the schema that this program needs.
    async fn check(&self) -> Result<(), StoreError>;
    /// Whether one transaction can stay open while others begin and end: not where all share one connection.
    fn has_room_for_two(&self) -> bool;
}
