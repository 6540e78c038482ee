//! Which users a call over many is about, as far as whoever acts reaches (U2, U6).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tonic::Status;
use usher_authorization::{Intent, Reach};
use usher_core::ids::{GroupId, SelectionId, TenantId, UserId};
use usher_core::job::{CHUNK, ItemInput, SELECTION_SECONDS, Selection};
use usher_core::ports::UserQuery;
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_proto::identity::v1::{self as proto, selection};

use crate::app::App;
use crate::authorize::Caller;
use crate::judge::Judge;
use crate::operations::engine::Failure;
use crate::parse::Faults;
use crate::status::refused;

/// Ids of one selection at most; a filter has no limit.
const MAX_IDS: usize = 50_000;
/// Users read at a time.
const READ: u32 = 10_000;
/// Users of a sample, and ids told that name nobody.
const SAMPLE: usize = 20;
const MAX_MISSING: usize = 100;

/// Which users a call is about.
pub(crate) enum Chosen {
    /// These.
    Ids(Vec<UserId>),
    /// Whom this matches.
    Matching(Box<UserQuery>),
}

/// Writes a selection down, chunk by chunk.
pub(crate) struct SelectionWriter<'a> {
    app: &'a App,
    tenant: TenantId,
    id: SelectionId,
    hasher: Sha256,
    waiting: Vec<ItemInput>,
    chunks: i32,
    count: i64,
    pub(super) sample: Vec<UserId>,
    /// As `Selection::filter`.
    pub(super) filter: String,
}

impl<'a> SelectionWriter<'a> {
    pub(crate) fn new(app: &'a App, tenant: TenantId, id: SelectionId) -> Self {
        Self {
            app,
            tenant,
            id,
            hasher: Sha256::new(),
            waiting: Vec::with_capacity(CHUNK),
            chunks: 0,
            count: 0,
            sample: Vec::new(),
            filter: String::new(),
        }
    }

    /// One more user.
    pub(crate) async fn user(&mut self, user: UserId) -> Result<(), Failure> {
        self.hasher.update(user.0.as_bytes());
        if self.sample.len() < SAMPLE {
            self.sample.push(user);
        }
        self.item(ItemInput {
            position: self.count + 1,
            user: Some(user),
            undo: None,
            row: None,
        })
        .await
    }

    /// One more item.
    pub(crate) async fn item(&mut self, item: ItemInput) -> Result<(), Failure> {
        self.count += 1;
        self.waiting.push(item);
        if self.waiting.len() == CHUNK {
            self.put().await
        } else {
            Ok(())
        }
    }

    async fn put(&mut self) -> Result<(), Failure> {
        if self.chunks == 0 {
            // Whatever ends the process or the call from here on: the chunks are found, and go when the hour is over.
            self.app.store.put_selection(&self.as_it_is(Vec::new())).await?;
        }
        let items = std::mem::take(&mut self.waiting);
        self.app
            .store
            .put_chunk(self.tenant, self.id, self.chunks, &items)
            .await?;
        self.chunks += 1;
        Ok(())
    }

    fn as_it_is(&self, digest: Vec<u8>) -> Selection {
        Selection {
            tenant: self.tenant,
            id: self.id,
            filter: self.filter.clone(),
            count: self.count,
            until: self.app.now() + chrono::TimeDelta::seconds(SELECTION_SECONDS),
            digest,
        }
    }

    /// The selection, and what callers name it by.
    pub(crate) async fn finish(mut self) -> Result<(Selection, String), Failure> {
        if !self.waiting.is_empty() {
            self.put().await?;
        }
        let digest = std::mem::take(&mut self.hasher).finalize().to_vec();
        let selection = self.as_it_is(digest);
        self.app.store.put_selection(&selection).await?;
        let mut named = self.id.0.as_bytes().to_vec();
        named.extend_from_slice(&selection.digest);
        Ok((selection, URL_SAFE_NO_PAD.encode(named)))
    }
}

impl App {
    /// What a selection of the API says.
    pub(crate) fn chosen(&self, selection: Option<&proto::Selection>, tenant: TenantId, faults: &mut Faults) -> Chosen {
        match selection.and_then(|selection| selection.by.as_ref()) {
            Some(selection::By::UserIds(ids)) => {
                if ids.user_ids.is_empty() {
                    faults.add("selection.user_ids", "is empty; give at least one id, or a filter");
                }
                let ids = faults.some_ids("selection.user_ids", &ids.user_ids, MAX_IDS);
                Chosen::Ids(ids.into_iter().collect())
            }
            Some(selection::By::Filter(filter)) => Chosen::Matching(Box::new(faults.user_filter(
                "selection.filter",
                Some(filter),
                tenant,
                self.now(),
            ))),
            None => {
                faults.add(
                    "selection",
                    "is required: user_ids or a filter; an empty filter matches everybody",
                );
                Chosen::Ids(Vec::new())
            }
        }
    }

    /// Writes down whoever is chosen, as far as whoever acts reaches; tells ids that name nobody within reach.
    pub(crate) async fn each_chosen(
        &self,
        judge: &Judge,
        chosen: Chosen,
        permission: Permission,
        writer: &mut SelectionWriter<'_>,
        missing: &mut Vec<String>,
    ) -> Result<(), Status> {
        let mut query = match &chosen {
            Chosen::Ids(_) => UserQuery::all(writer.tenant, self.now()),
            Chosen::Matching(query) => (**query).clone(),
        };
        self.with_groups_below(&mut query).await?;
        writer.filter = kept(&query)?;
        if judge.is_user() {
            narrow(&mut query, judge.reach_somewhere(permission)?, permission)?;
        }
        match chosen {
            Chosen::Ids(ids) => {
                for ids in ids.chunks(READ as usize) {
                    let there = self.store.among(&query, ids).await.map_err(Failure::from)?;
                    for id in ids {
                        if there.contains(id) {
                            writer.user(*id).await?;
                        } else if missing.len() < MAX_MISSING {
                            missing.push(id.to_string());
                        }
                    }
                }
            }
            Chosen::Matching(_) => {
                let mut after = None;
                loop {
                    let page = self.store.matching_users(&query, after, READ).await;
                    let page = page.map_err(Failure::from)?;
                    let full = page.len() >= READ as usize;
                    after = page.last().copied();
                    for user in page {
                        writer.user(user).await?;
                    }
                    if !full {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Of these users, those whom whoever acts reaches with a permission (U2); none, if they have it nowhere.
    pub(crate) async fn reached(
        &self,
        judge: &Judge,
        tenant: TenantId,
        permission: Permission,
        users: Vec<UserId>,
    ) -> Result<Vec<UserId>, Failure> {
        let groups = match judge.reach(permission) {
            Reach::Groups(groups) if judge.is_user() => groups.into_iter().collect(),
            Reach::Nothing if judge.is_user() => return Ok(Vec::new()),
            Reach::Everything | Reach::Groups(_) | Reach::Nothing => return Ok(users),
        };
        let query = UserQuery {
            groups,
            ..UserQuery::all(tenant, self.now())
        };
        let there = self.store.among(&query, &users).await?;
        Ok(users.into_iter().filter(|user| there.contains(user)).collect())
    }

    /// Refuses whoever has a permission nowhere in the tenant.
    pub(crate) async fn permit_somewhere(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
    ) -> Result<(), Status> {
        self.permit_reach(caller, tenant, permission).await.map(drop)
    }

    /// Where a caller has a permission; refused if that is nowhere.
    pub(crate) async fn permit_reach(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
    ) -> Result<Reach, Status> {
        if let Caller::Service(_) = caller {
            self.permit(caller, tenant, permission).await?;
            return Ok(Reach::Everything);
        }
        self.judge(caller, tenant).await?.reach_somewhere(permission)
    }

    /// Whom a list may be about: everybody (no groups), or the people of these groups (U2). One user's own is asked about
    /// for themselves.
    pub(crate) async fn permit_list(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        user: Option<UserId>,
    ) -> Result<Vec<GroupId>, Status> {
        if let Some(user) = user {
            self.permit_on_user(caller, tenant, permission, user, &Intent::default())
                .await?;
            return Ok(Vec::new());
        }
        Ok(match self.permit_reach(caller, tenant, permission).await? {
            Reach::Groups(groups) => groups.into_iter().collect(),
            Reach::Everything | Reach::Nothing => Vec::new(),
        })
    }
}

/// A filter as it is kept beside whom it matched; empty if it asks nothing that could change. A text is not kept: it may be
/// somebody's name, and who is called so stays the same person.
fn kept(query: &UserQuery) -> Result<String, Failure> {
    let query = UserQuery {
        text: String::new(),
        ..query.clone()
    };
    if query == UserQuery::all(query.tenant, query.now) {
        return Ok(String::new());
    }
    serde_json::to_string(&query).map_err(|error| Failure::Internal(error.to_string()))
}

/// Narrows a query to those whom somebody reaches (U2).
pub(crate) fn narrow(query: &mut UserQuery, reach: Reach, permission: Permission) -> Result<(), Status> {
    let Reach::Groups(groups) = reach else { return Ok(()) };
    if query.groups.is_empty() {
        query.groups = groups.into_iter().collect();
        return Ok(());
    }
    query.groups.retain(|group| groups.contains(group));
    if query.groups.is_empty() {
        return Err(refused(&Refusal::PermissionDenied {
            permission: permission.as_str().to_owned(),
            scope: "in these groups; ask about groups that you administer".into(),
        }));
    }
    Ok(())
}
