//! Users from files and into files (L10, U7).
//!
//! A file is spooled to disk, judged row by row, and kept as the selection of a job; `operations::import` deals with the rows.
//! Nothing holds a whole file in memory, on the way in or out.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use usher_authorization::Reach;
use usher_core::account::Belonging;
use usher_core::ids::{GroupId, SelectionId, TenantId, UserId};
use usher_core::job::{CHUNK, ImportHeads, ImportMode, ItemInput, JobAction};
use usher_core::ports::UserQuery;
use usher_core::refusal::Refusal;
use usher_core::role::{Permission, RoleRef, Scope};
use usher_core::status::Status as Standing;
use usher_core::user::User;
use usher_proto::identity::v1::transfer_service_server::TransferService;
use usher_proto::identity::v1::{
    self as proto, ExportUsersRequest, ExportUsersResponse, ImportSettings, ImportUsersRequest, ImportUsersResponse,
    import_users_request,
};
use usher_transfer::read::{FileFault, ReadOptions, Table};
use usher_transfer::write::{ExportColumn, ExportRow, WriteError, WriteOptions, Writer};
use usher_transfer::{Field, Format};
use uuid::Uuid;

use super::bulk_service::Items;
use super::selecting::{Chosen, SelectionWriter, narrow};
use crate::app::App;
use crate::audit::{note_detail, note_filter};
use crate::authorize::Caller;
use crate::call::{Mutation, finish, tenant as parse_tenant};
use crate::operations::engine::Failure;
use crate::operations::import::{Names, deactivating, fields, judge as judge_row, role_with_place};
use crate::parse::Faults;
use crate::status::{failed, refused};

/// Octets of a file at most.
const MAX_FILE: u64 = 512 << 20;
/// The share of active users that an import deactivates at most, unless it says otherwise. Percent.
const SAFE_SHARE: i32 = 20;
/// Users read at a time for an export.
const PAGE: usize = 1_000;
/// Octets of one piece of an export, about.
const PIECE: usize = 256 << 10;

#[tonic::async_trait]
impl TransferService for App {
    type ExportUsersStream = ReceiverStream<Result<ExportUsersResponse, Status>>;

    async fn import_users(
        &self,
        request: Request<Streaming<ImportUsersRequest>>,
    ) -> Result<Response<ImportUsersResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let (metadata, extensions, mut parts) = request.into_parts();
        let first = parts.message().await?.and_then(|part| part.part);
        let Some(import_users_request::Part::Settings(settings)) = first else {
            let mut faults = Faults::default();
            faults.add("settings", "is required: the first message of the stream");
            return Err(finish(faults)
                .err()
                .unwrap_or_else(|| Status::invalid_argument("settings")));
        };
        let mut faults = Faults::default();
        let tenant = parse_tenant(&settings.tenant_id, &mut faults);
        let mode = mode(&settings, &mut faults);
        let messages = faults.messages("settings.messages", &settings.messages);
        let share = settings.max_deactivated_percent;
        if !(0..=100).contains(&share) {
            faults.add("settings.max_deactivated_percent", "must be 1 to 100, or 0 for 20");
        }
        finish(faults)?;
        self.tenant(tenant).await?;
        self.permit_somewhere(&caller, tenant, Permission::UsersImport).await?;
        let (file, digest) = spool(&mut parts).await?;
        // A repeat is one with the same settings and the same file.
        let sealed = ImportUsersRequest {
            part: Some(import_users_request::Part::Data(sealed(&settings, digest))),
        };
        let request = Request::from_parts(metadata, extensions, sealed);
        let mut faults = Faults::default();
        let options = settings.options.as_ref();
        let mutation = Mutation::parse("ImportUsers", &request, options, &self.keys, &mut faults);
        finish(faults)?;
        let dry_run = settings.dry_run || options.is_some_and(|options| options.validate_only);
        let mut staged = self.stage(tenant, file, mode, &settings).await?;
        let limit = i64::from(if share == 0 { SAFE_SHARE } else { share });
        if let Some(stopped) = self.stopped(tenant, staged.deactivated, limit).await? {
            if !dry_run {
                // A repeat may find fewer people active than the first time.
                let mutation = mutation.in_earnest();
                return self.started_before(&mutation, tenant, refused(&stopped)).await;
            }
            staged.notes.push(format!("In earnest it would be refused: {stopped}."));
        }
        let action = JobAction::Import {
            mode,
            dry_run,
            overwrite_edited: settings.overwrite_edited,
            messages,
            heads: staged.heads,
        };
        let notes = staged.notes;
        let answer = move |job| ImportUsersResponse {
            job,
            notes: notes.clone(),
        };
        let mutation = mutation.in_earnest();
        let job = self.start(mutation, tenant, action, staged.items, None, answer);
        Ok(Response::new(job.await?))
    }

    async fn export_users(
        &self,
        request: Request<ExportUsersRequest>,
    ) -> Result<Response<Self::ExportUsersStream>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let chosen = self.chosen(body.selection.as_ref(), tenant, &mut faults);
        let format = match proto::FileFormat::try_from(body.format) {
            Ok(proto::FileFormat::Xlsx) => Format::Xlsx,
            Ok(proto::FileFormat::Csv | proto::FileFormat::Unspecified) => Format::Csv,
            Err(_) => {
                faults.add("format", "is unknown");
                Format::Csv
            }
        };
        let columns = columns(&body.columns, &mut faults);
        let language = faults.take("language", usher_core::text::language(&body.language));
        finish(faults)?;
        let settings = self.tenant(tenant).await?.settings;
        let language = if language.is_empty() {
            settings.default_language
        } else {
            language
        };
        let reach = self.permit_reach(&caller, tenant, Permission::UsersExport).await?;
        let mut query = match &chosen {
            Chosen::Matching(query) => (**query).clone(),
            Chosen::Ids(_) => UserQuery::all(tenant, self.now()),
        };
        self.with_groups_below(&mut query).await?;
        narrow(&mut query, reach.clone(), Permission::UsersExport)?;
        note_filter(&body, &self.keys);
        note_detail("format", if format == Format::Xlsx { "xlsx" } else { "csv" });
        let options = WriteOptions {
            format,
            columns,
            language,
            folder: None,
        };
        let (sender, receiver) = mpsc::channel(2);
        let export = Export {
            app: self.clone(),
            tenant,
            query,
            reach,
            ids: match chosen {
                Chosen::Ids(ids) => Some(ids),
                Chosen::Matching(_) => None,
            },
            sender,
        };
        tokio::spawn(async move {
            let sender = export.sender.clone();
            if let Err(failure) = export.run(options).await {
                // A caller that hung up does not want to know.
                let _ = sender.send(Err(failed(failure))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A file that was judged, row by row, and kept.
struct Staged {
    items: Items,
    /// People who may come in now, or soon, and may not afterwards.
    deactivated: i64,
    notes: Vec<String>,
    heads: ImportHeads,
}

impl App {
    async fn stage(
        &self,
        tenant: TenantId,
        file: File,
        mode: ImportMode,
        settings: &ImportSettings,
    ) -> Result<Staged, Status> {
        let names = self.names(tenant).await?;
        let options = ReadOptions {
            format: None,
            encoding: Some(settings.encoding.clone()).filter(|encoding| !encoding.is_empty()),
            mapping: settings.mapping.clone().into_iter().collect(),
            sheet: None,
            fields: fields(mode),
        };
        // Reading blocks: it goes on in a thread of its own, a few batches ahead.
        let (sender, mut batches) = mpsc::channel::<Vec<ItemInput>>(2);
        let reading = tokio::task::spawn_blocking(move || -> Result<(Vec<String>, ImportHeads), FileFault> {
            let mut table = Table::from_file(file, &options)?;
            let head = |field| table.head(field).unwrap_or_default();
            let heads = ImportHeads {
                email: head(Field::Email),
                external_id: head(Field::ExternalId),
                expires: head(Field::Expires),
                deletes: head(Field::Deletes),
            };
            let mut batch = Vec::with_capacity(CHUNK);
            while let Some(row) = table.next() {
                batch.push(judge_row(row?, &table, &names));
                if batch.len() == CHUNK && sender.blocking_send(std::mem::take(&mut batch)).is_err() {
                    return Ok((Vec::new(), heads));
                }
            }
            let _ = sender.blocking_send(batch);
            Ok((table.notes(), heads))
        });
        let selection = SelectionId(Uuid::new_v4());
        let mut writer = SelectionWriter::new(self, tenant, selection);
        let mut deactivated = 0;
        while let Some(batch) = batches.recv().await {
            deactivated += self.deactivated(tenant, mode, &batch).await?;
            for item in batch {
                writer.item(item).await?;
            }
        }
        let (notes, heads) = reading
            .await
            .map_err(|error| Failure::Internal(error.to_string()))?
            .map_err(|fault| refused(&Refusal::FileNotReadable(fault.to_string())))?;
        let (kept, _) = writer.finish().await?;
        Ok(Staged {
            items: Items::of(&kept),
            deactivated,
            notes,
            heads,
        })
    }

    /// What the names in a file stand for now.
    pub(super) async fn names(&self, tenant: TenantId) -> Result<Names, Status> {
        let groups = self.store.groups(tenant).await.map_err(Failure::from)?;
        let roles = self.store.roles(tenant).await.map_err(Failure::from)?;
        Ok(Names::new(&groups, &roles))
    }

    /// How many people rows deactivate who are not shut out now.
    async fn deactivated(&self, tenant: TenantId, mode: ImportMode, rows: &[ItemInput]) -> Result<i64, Failure> {
        let Some(keys) = deactivating(tenant, mode, rows) else {
            return Ok(0);
        };
        let loaded = self.store.look(&keys).await?;
        let now = self.now();
        let shut_out = loaded
            .accounts
            .values()
            .filter(|account| matches!(account.user.effective_status(now), Standing::Onboarding(_)));
        Ok(i64::try_from(shut_out.count()).unwrap_or(i64::MAX))
    }

    /// Why an import is stopped that would show out more people than anybody meant (L10).
    async fn stopped(&self, tenant: TenantId, deactivated: i64, limit: i64) -> Result<Option<Refusal>, Status> {
        if deactivated == 0 || limit >= 100 {
            return Ok(None);
        }
        let now = self.now();
        let usage = self.store.seat_usage(tenant, now, now).await.map_err(Failure::from)?;
        let active = usage.used.max(1);
        let is_too_many = deactivated * 100 > limit * active;
        Ok(is_too_many.then(|| Refusal::SafetyStop {
            share: ((deactivated * 100 + active - 1) / active).min(100),
            limit,
        }))
    }
}

/// What tells a repeat from another import: the file and the settings, in an order that does not vary.
fn sealed(settings: &ImportSettings, mut digest: Vec<u8>) -> Vec<u8> {
    let mapping: BTreeMap<&String, &String> = settings.mapping.iter().collect();
    for (head, field) in mapping {
        for text in [head, field] {
            digest.extend((text.len() as u64).to_be_bytes());
            digest.extend(text.as_bytes());
        }
    }
    let others = ImportSettings {
        mapping: HashMap::new(),
        ..settings.clone()
    };
    digest.extend(prost::Message::encode_to_vec(&others));
    digest
}

/// Takes the file of a stream to disk; answers its digest too. It has no name there: nothing of it is left behind, however
/// the process ends.
async fn spool(parts: &mut Streaming<ImportUsersRequest>) -> Result<(File, Vec<u8>), Status> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "a file cannot be taken to disk");
        Status::internal("the file cannot be taken to disk; the fault was logged")
    };
    let mut file = tempfile::tempfile().map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut size = 0_u64;
    while let Some(part) = parts.message().await? {
        let Some(import_users_request::Part::Data(data)) = part.part else {
            return Err(Status::invalid_argument("settings come once, before the file"));
        };
        size += data.len() as u64;
        if size > MAX_FILE {
            let most = format!("it has more than {} MiB; cut it into several", MAX_FILE >> 20);
            return Err(refused(&Refusal::FileNotReadable(most)));
        }
        hasher.update(&data);
        // A piece is small, and the system's cache takes it at once.
        file.write_all(&data).map_err(failed)?;
    }
    file.rewind().map_err(failed)?;
    Ok((file, hasher.finalize().to_vec()))
}

fn mode(settings: &ImportSettings, faults: &mut Faults) -> ImportMode {
    match proto::ImportMode::try_from(settings.mode) {
        Ok(proto::ImportMode::Create) => ImportMode::Create,
        Ok(proto::ImportMode::Invite) => ImportMode::Invite,
        Ok(proto::ImportMode::Update) => ImportMode::Update,
        Ok(proto::ImportMode::Activate) => ImportMode::Activate,
        Ok(proto::ImportMode::Deactivate) => ImportMode::Deactivate,
        Ok(proto::ImportMode::Unspecified) | Err(_) => {
            faults.add(
                "settings.mode",
                "is required: CREATE, INVITE, UPDATE, ACTIVATE or DEACTIVATE",
            );
            ImportMode::Create
        }
    }
}

fn columns(names: &[String], faults: &mut Faults) -> Vec<ExportColumn> {
    if names.is_empty() {
        return ExportColumn::ALL.to_vec();
    }
    let mut columns = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match ExportColumn::from_name(name) {
            Some(column) if columns.contains(&column) => {
                faults.add(format!("columns[{index}]"), "stands in the list twice");
            }
            Some(column) => columns.push(column),
            None => {
                let known: Vec<&str> = ExportColumn::ALL.iter().map(|column| column.as_str()).collect();
                faults.add(
                    format!("columns[{index}]"),
                    format!("is unknown; there are {}", known.join(", ")),
                );
            }
        }
    }
    columns
}

/// Writes an export, page by page.
struct Export {
    app: App,
    tenant: TenantId,
    query: UserQuery,
    /// Groups and roles elsewhere are not told (U2).
    reach: Reach,
    ids: Option<Vec<UserId>>,
    sender: mpsc::Sender<Result<ExportUsersResponse, Status>>,
}

impl Export {
    async fn run(self, options: WriteOptions) -> Result<(), Failure> {
        let labels = Arc::new(self.labels().await?);
        let mut writer = Writer::new(options).map_err(disk)?;
        let mut after = None;
        let mut taken = 0;
        let mut rows = 0;
        loop {
            let page = self.page(after, &mut taken).await?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            let users = self.rows(&page).await?;
            rows += i64::try_from(users.len()).unwrap_or(0);
            let labels = Arc::clone(&labels);
            // Spreadsheets are put together on disk, and CSV costs a while too.
            let written = tokio::task::spawn_blocking(move || {
                let mut writer = writer;
                let done = users
                    .iter()
                    .try_for_each(|(user, belonging)| writer.push(&labels.row(user, belonging)));
                done.map(|()| writer)
            });
            writer = written
                .await
                .map_err(|error| Failure::Internal(error.to_string()))?
                .map_err(disk)?;
            let data = writer.take();
            if !self.tell(data, rows).await {
                return Ok(());
            }
        }
        let mut finished = tokio::task::spawn_blocking(move || writer.finish())
            .await
            .map_err(|error| Failure::Internal(error.to_string()))?
            .map_err(disk)?;
        loop {
            let data = finished
                .chunk(PIECE)
                .map_err(|error| Failure::Internal(error.to_string()))?;
            if data.is_empty() || !self.tell(data, rows).await {
                return Ok(());
            }
        }
    }

    /// Sends a piece. `false`: the caller is gone.
    async fn tell(&self, mut data: Vec<u8>, done_count: i64) -> bool {
        loop {
            let rest = if data.len() > PIECE {
                data.split_off(PIECE)
            } else {
                Vec::new()
            };
            let answer = ExportUsersResponse { data, done_count };
            if self.sender.send(Ok(answer)).await.is_err() {
                return false;
            }
            if rest.is_empty() {
                return true;
            }
            data = rest;
        }
    }

    async fn page(&self, after: Option<UserId>, taken: &mut usize) -> Result<Vec<UserId>, Failure> {
        let Some(ids) = &self.ids else {
            let limit = u32::try_from(PAGE).unwrap_or(u32::MAX);
            return Ok(self.app.store.matching_users(&self.query, after, limit).await?);
        };
        while let Some(chunk) = ids.get(*taken..).map(|rest| &rest[..rest.len().min(PAGE)])
            && !chunk.is_empty()
        {
            *taken += chunk.len();
            let there = self.app.store.among(&self.query, chunk).await?;
            let page: Vec<UserId> = chunk.iter().copied().filter(|id| there.contains(id)).collect();
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    async fn rows(&self, page: &[UserId]) -> Result<Vec<(User, Belonging)>, Failure> {
        let keys: Vec<_> = page.iter().map(|user| (self.tenant, *user)).collect();
        let mut users = self.app.store.users(&keys).await?;
        users.sort_by_key(|user| user.id);
        let mut belongings = self.app.store.belongings(&keys).await?;
        Ok(users
            .into_iter()
            .map(|user| {
                let belonging = belongings.remove(&(user.tenant, user.id)).unwrap_or_default();
                (user, belonging)
            })
            .collect())
    }

    async fn labels(&self) -> Result<Labels, Failure> {
        let groups = self.app.store.groups(self.tenant).await?;
        let by_id: HashMap<GroupId, _> = groups.iter().map(|group| (group.id, group)).collect();
        let path = |group: GroupId| {
            let mut names = Vec::new();
            let mut next = by_id.get(&group);
            while let Some(group) = next
                && names.len() < usher_core::group::MAX_DEPTH
            {
                names.push(group.name.as_str());
                next = group.parent.and_then(|parent| by_id.get(&parent));
            }
            names.reverse();
            names.join("/")
        };
        let roles = self.app.store.roles(self.tenant).await?;
        Ok(Labels {
            now: self.app.now(),
            reach: self.reach.clone(),
            groups: groups.iter().map(|group| (group.id, path(group.id))).collect(),
            roles: roles
                .into_iter()
                .map(|role| (RoleRef::Custom(role.id), role.name))
                .collect(),
        })
    }
}

/// What ids are called in an export.
struct Labels {
    now: usher_core::clock::Timestamp,
    reach: Reach,
    groups: HashMap<GroupId, String>,
    roles: HashMap<RoleRef, String>,
}

impl Labels {
    fn row(&self, user: &User, belonging: &Belonging) -> ExportRow {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let held = belonging.roles.iter().filter(|(_, scope)| self.tells(scope));
        let roles = held.filter_map(|(role, scope)| {
            role_with_place(&self.role(*role), scope, |group| self.groups.get(&group).cloned())
        });
        let groups = belonging
            .groups
            .iter()
            .filter(|group| self.tells(&Scope::Group(**group)));
        ExportRow {
            user_id: Some(user.id.to_string()),
            email: Some(user.profile.email.as_str().to_owned()),
            external_id: user.profile.external_id.clone(),
            first_name: some(&user.profile.first_name),
            last_name: some(&user.profile.last_name),
            language: some(&user.profile.language),
            time_zone: some(&user.profile.time_zone),
            labels: user.profile.labels.clone(),
            status: Some(user.effective_status(self.now).name().as_str().to_owned()),
            status_since: Some(user.effective_since(self.now)),
            groups: groups.filter_map(|id| self.groups.get(id).cloned()).collect(),
            roles: roles.collect(),
            expires: user.expires_at,
            deletes: user.deletes_at,
            created: Some(user.created_at),
            activated: user.activated_at,
            last_login: user.last_login_at,
        }
    }

    fn tells(&self, scope: &Scope) -> bool {
        match (&self.reach, scope) {
            (Reach::Everything, _) => true,
            (Reach::Groups(groups), Scope::Group(group)) => groups.contains(group),
            (Reach::Groups(_) | Reach::Nothing, _) => false,
        }
    }

    fn role(&self, role: RoleRef) -> String {
        self.roles.get(&role).cloned().unwrap_or_else(|| role.to_string())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err asks for")]
fn disk(error: WriteError) -> Failure {
    Failure::Internal(error.to_string())
}
