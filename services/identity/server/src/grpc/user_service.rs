//! Accounts and their status.

use std::collections::HashSet;

use tonic::{Request, Response, Status};
use usher_authorization::Intent;
use usher_core::account::{Account, Effect, NewUser};
use usher_core::change::{Act, Changeset};
use usher_core::group::GroupTree;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{After, Keys, UserOrder, UserQuery};
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_core::user::{Credential, User};
use usher_proto::identity::v1::user_service_server::UserService;
use usher_proto::identity::v1::{
    BatchGetUsersRequest, BatchGetUsersResponse, CreateUserRequest, CreateUserResponse, DeactivateUserRequest,
    DeactivateUserResponse, ExplainUserRequest, ExplainUserResponse, GetUserRequest, GetUserResponse, InitialState,
    ListUsersRequest, ListUsersResponse, LookupUserRequest, LookupUserResponse, ReactivateUserRequest,
    ReactivateUserResponse, SetUserExpirationRequest, SetUserExpirationResponse, UpdateUserRequest, UpdateUserResponse,
    User as ProtoUser, lookup_user_request,
};

use super::profiles::{check_free, check_moved, profile, update};
use crate::app::App;
use crate::audit::{note_hidden_refusal, note_read, note_user};
use crate::authorize::Caller;
use crate::call::{Mutation, account_keys, finish};
use crate::convert;
use crate::grpc::role_service::{check_placement, placement_keys};
use crate::grpc::selecting::narrow;
use crate::operations::engine::Failure;
use crate::page::{Question, instant_key};
use crate::parse::{Faults, check_ahead};
use crate::status::refused;

const PATHS: &[&str] = &[
    "email",
    "external_id",
    "first_name",
    "last_name",
    "language",
    "time_zone",
    "labels",
    "delete_time",
];

#[tonic::async_trait]
impl UserService for App {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("CreateUser", &request, body.options.as_ref())?;
        let given = body.user.clone().unwrap_or_default();
        let tenant: TenantId = faults.id("tenant_id", &body.tenant_id);
        let wanted: Option<UserId> = faults.optional_id("user.user_id", &given.user_id);
        let profile = profile(&given, &mut faults);
        let expires_at = faults.expiration("user.expire_time", given.expire_time, self.now());
        let deletes_at = faults.expiration("user.delete_time", given.delete_time, self.now());
        let placement = faults.placement(&body.group_ids, &body.roles);
        let initial = InitialState::try_from(body.initial_state).unwrap_or_else(|_| {
            faults.add("initial_state", "is unknown");
            InitialState::Unspecified
        });
        let with_password = initial == InitialState::ActiveWithPassword;
        if with_password {
            faults.password("password", &body.password);
        } else if !body.password.is_empty() {
            faults.add("password", "is given, but initial_state is not ACTIVE_WITH_PASSWORD");
        }
        finish(faults)?;
        let deleted = deletes_at.is_some();
        let judge = self
            .permit_placement(&caller, tenant, Permission::UsersCreate, &placement, deleted)
            .await?;
        let credential = match initial {
            InitialState::Unspecified | InitialState::Pending => None,
            InitialState::ActiveWithPassword => {
                Some(Credential::Password(self.passwords.hash(body.password.clone()).await?))
            }
            InitialState::ActiveWithGeneratedPassword => Some(Credential::OneTime { generation: 1 }),
        };
        let id = wanted.unwrap_or_else(|| UserId::mint(self.now()));
        let key = profile.email.key().to_owned();
        let mut keys = Keys {
            tenants: [tenant].into(),
            emails: [(tenant, key.clone())].into(),
            with_seats: credential.is_some().then(|| self.now()),
            ..placement_keys(tenant, &placement)
        };
        keys.external_ids.extend(
            profile
                .external_id
                .iter()
                .map(|external_id| (tenant, external_id.clone())),
        );
        self.warn_of_erased(&mut keys);
        if wanted.is_some() {
            keys.users.insert((tenant, id));
        }
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let settings = world.tenant(tenant)?;
            check_ahead("user.expire_time", expires_at, world.now)?;
            check_ahead("user.delete_time", deletes_at, world.now)?;
            check_free(world, tenant, &profile)?;
            if world.loaded.accounts.contains_key(&(tenant, id)) {
                return Err(Refusal::UserIdTaken(id.to_string()));
            }
            let new = NewUser {
                id,
                profile: profile.clone(),
                credential: credential.clone(),
                expires_at,
                deletes_at,
            };
            let suppressed = world.is_suppressed(tenant, &key);
            let seats = world.seats(tenant);
            let act = mutation.act(world.now);
            check_placement(world, tenant, &placement, &mut judge.asker())?;
            let mut own = Changeset::default();
            let mut account = Account::create(settings, seats, new, suppressed, &act, &mut own)?;
            account.place(&placement, &act, &mut own)?;
            changes.extend(own);
            let user = convert::user(&account.user, world.now);
            world.insert(account);
            Ok(CreateUserResponse {
                user: Some(user),
                erased_before: world.was_erased(tenant, &key),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let body = request.get_ref();
        let (tenant, user) = ids(&body.tenant_id, &body.user_id)?;
        let caller = Caller::of(request.metadata())?;
        self.permit_on_user(&caller, tenant, Permission::UsersRead, user, &Intent::default())
            .await?;
        let found = self.reader.user(tenant, user).await.map_err(Failure::from)?;
        let found = found.ok_or_else(|| not_found(&user))?;
        note_read(1, body, &self.keys);
        Ok(Response::new(GetUserResponse {
            user: Some(convert::user(&found, self.now())),
        }))
    }

    async fn batch_get_users(
        &self,
        request: Request<BatchGetUsersRequest>,
    ) -> Result<Response<BatchGetUsersResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant: TenantId = faults.id("tenant_id", &body.tenant_id);
        let wanted: Vec<UserId> = faults.ids("user_ids", &body.user_ids);
        finish(faults)?;
        let asking = self.judge(&caller, tenant).await?;
        let keys: Vec<_> = wanted.iter().map(|user| (tenant, *user)).collect();
        let mut found = self.store.users(&keys).await.map_err(Failure::from)?;
        self.keep_permitted(&asking, Permission::UsersRead, &mut found).await?;
        if let [one] = found.as_slice() {
            note_user(tenant, one.id);
        }
        note_read(found.len(), body, &self.keys);
        let now = self.now();
        let by_id: std::collections::HashMap<UserId, &User> = found.iter().map(|user| (user.id, user)).collect();
        let users = wanted
            .iter()
            .filter_map(|id| by_id.get(id))
            .map(|user| convert::user(user, now))
            .collect();
        let mut told = HashSet::new();
        let missing = wanted.iter().filter(|id| !by_id.contains_key(id) && told.insert(**id));
        let missing_user_ids = missing.map(ToString::to_string).collect();
        Ok(Response::new(BatchGetUsersResponse {
            users,
            missing_user_ids,
        }))
    }

    async fn lookup_user(&self, request: Request<LookupUserRequest>) -> Result<Response<LookupUserResponse>, Status> {
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant: TenantId = faults.id("tenant_id", &body.tenant_id);
        let found = match &body.key {
            Some(lookup_user_request::Key::Email(email)) => {
                let email = faults.email("email", email);
                finish(faults)?;
                self.store.user_by_email(tenant, email.key()).await
            }
            Some(lookup_user_request::Key::ExternalId(external_id)) => {
                let external_id = faults.external_id("external_id", external_id);
                if external_id.is_none() {
                    faults.add("external_id", "is empty");
                }
                finish(faults)?;
                self.store
                    .user_by_external_id(tenant, &external_id.unwrap_or_default())
                    .await
            }
            None => {
                faults.add("key", "is required: email or external_id");
                return Err(finish(faults).err().unwrap_or_else(|| Status::invalid_argument("key")));
            }
        };
        let found = found
            .map_err(Failure::from)?
            .ok_or_else(|| refused(&Refusal::UserNotFound("with this key".into())))?;
        let caller = Caller::of(request.metadata())?;
        // Whoever may not read them does not learn whether there is such an address.
        self.permit_on_user(&caller, tenant, Permission::UsersRead, found.id, &Intent::default())
            .await
            .map_err(|denied| match denied.code() {
                tonic::Code::PermissionDenied => {
                    note_hidden_refusal();
                    refused(&Refusal::UserNotFound("with this key".into()))
                }
                _ => denied,
            })?;
        note_read(1, body, &self.keys);
        Ok(Response::new(LookupUserResponse {
            user: Some(convert::user(&found, self.now())),
        }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant: TenantId = faults.id("tenant_id", &body.tenant_id);
        let mut query = faults.user_filter("filter", body.filter.as_ref(), tenant, self.now());
        let (column, descending) = match body.order_by.trim().split_once(' ') {
            Some((column, direction)) => (column, direction.trim().eq_ignore_ascii_case("desc")),
            None => (body.order_by.trim(), false),
        };
        let known = body.order_by.split_whitespace().count() <= if descending { 2 } else { 1 };
        let order = match column {
            "" | "create_time" if known => UserOrder::Created,
            "name" if known => UserOrder::Name,
            "email" if known => UserOrder::Email,
            "last_login_time" if known => UserOrder::LastLogin,
            _ => {
                faults.add(
                    "order_by",
                    "is unknown; use name, email, create_time or last_login_time, with \" desc\" for the reverse",
                );
                UserOrder::Created
            }
        };
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListUsers", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        let judge = self.permit_reach(&caller, tenant, Permission::UsersRead).await?;
        let now = query.now;
        query = UserQuery {
            order,
            descending,
            after,
            limit,
            ..query
        };
        self.with_groups_below(&mut query).await?;
        narrow(&mut query, judge, Permission::UsersRead)?;
        let users = self.store.list_users(&query).await.map_err(Failure::from)?;
        note_read(users.len(), &body, &self.keys);
        let next_page_token = question.next(&users, limit, |user| After {
            key: sort_key(user, order),
            id: user.id.0,
        });
        let users = users.iter().map(|user| convert::user(user, now)).collect();
        Ok(Response::new(ListUsersResponse { users, next_page_token }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("UpdateUser", &request, body.options.as_ref())?;
        let given = body.user.clone().unwrap_or_default();
        let tenant: TenantId = faults.id("user.tenant_id", &given.tenant_id);
        let id: UserId = faults.id("user.user_id", &given.user_id);
        let paths = faults.mask("update_mask", body.update_mask.as_ref(), PATHS);
        let update = update(&given, &paths, self.now(), &mut faults);
        let expected = body.expected_version;
        finish(faults)?;
        let intent = Intent {
            sets_deletion_date: update.deletes_at.is_some(),
            fields: paths.iter().cloned().collect(),
            ..Intent::default()
        };
        self.permit_on_user(&caller, tenant, Permission::UsersUpdate, id, &intent)
            .await?;
        let mut keys = account_keys(tenant, id);
        keys.emails
            .extend(update.email.iter().map(|email| (tenant, email.key().to_owned())));
        keys.external_ids.extend(
            update
                .external_id
                .iter()
                .flatten()
                .map(|external_id| (tenant, external_id.clone())),
        );
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            world.account(tenant, id)?.check_version(expected)?;
            check_ahead("user.delete_time", update.deletes_at.flatten(), world.now)?;
            check_moved(world, tenant, id, &update)?;
            let user = world.account(tenant, id)?.decide(changes, |account, changes| {
                account.update(update.clone(), &act, changes)?;
                Ok(convert::user(&account.user, act.now))
            })?;
            Ok(UpdateUserResponse { user: Some(user) })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn deactivate_user(
        &self,
        request: Request<DeactivateUserRequest>,
    ) -> Result<Response<DeactivateUserResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("DeactivateUser", &request, body.options.as_ref())?;
        let target = Target::parse(&body.tenant_id, &body.user_id, body.expected_version, &mut faults);
        finish(faults)?;
        self.permit_on_user(
            &caller,
            target.tenant,
            Permission::UsersChangeStatus,
            target.user,
            &Intent::default(),
        )
        .await?;
        let user = self
            .change(mutation, target, Account::deactivate, |user| DeactivateUserResponse {
                user,
            })
            .await?;
        Ok(Response::new(user))
    }

    async fn reactivate_user(
        &self,
        request: Request<ReactivateUserRequest>,
    ) -> Result<Response<ReactivateUserResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("ReactivateUser", &request, body.options.as_ref())?;
        let target = Target::parse(&body.tenant_id, &body.user_id, body.expected_version, &mut faults);
        finish(faults)?;
        self.permit_on_user(
            &caller,
            target.tenant,
            Permission::UsersChangeStatus,
            target.user,
            &Intent::default(),
        )
        .await?;
        let user = self
            .change(mutation, target, Account::reactivate, |user| ReactivateUserResponse {
                user,
            })
            .await?;
        Ok(Response::new(user))
    }

    async fn set_user_expiration(
        &self,
        request: Request<SetUserExpirationRequest>,
    ) -> Result<Response<SetUserExpirationResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("SetUserExpiration", &request, body.options.as_ref())?;
        let target = Target::parse(&body.tenant_id, &body.user_id, body.expected_version, &mut faults);
        let at = faults.expiration("expire_time", body.expire_time, self.now());
        finish(faults)?;
        self.permit_on_user(
            &caller,
            target.tenant,
            Permission::UsersSetExpiration,
            target.user,
            &Intent::default(),
        )
        .await?;
        let set = move |account: &mut Account, act: &Act, changes: &mut Changeset| {
            check_ahead("expire_time", at, act.now)?;
            account.set_expiration(at, act, changes)
        };
        let user = self
            .change(mutation, target, set, |user| SetUserExpirationResponse { user })
            .await?;
        Ok(Response::new(user))
    }

    async fn explain_user(
        &self,
        request: Request<ExplainUserRequest>,
    ) -> Result<Response<ExplainUserResponse>, Status> {
        let body = request.get_ref();
        let (tenant, user) = ids(&body.tenant_id, &body.user_id)?;
        let caller = Caller::of(request.metadata())?;
        self.permit_on_user(&caller, tenant, Permission::UsersExplain, user, &Intent::default())
            .await?;
        let explained = self.explain(tenant, user).await?;
        let explained = explained.ok_or_else(|| not_found(&user))?;
        note_read(1, body, &self.keys);
        Ok(Response::new(explained))
    }
}

/// Which account a change is about, and at which version (B2).
#[derive(Debug, Clone, Copy)]
struct Target {
    tenant: TenantId,
    user: UserId,
    expected_version: i64,
}

impl Target {
    fn parse(tenant: &str, user: &str, expected_version: i64, faults: &mut Faults) -> Self {
        Self {
            tenant: faults.id("tenant_id", tenant),
            user: faults.id("user_id", user),
            expected_version,
        }
    }
}

impl App {
    /// A filter by groups is about those below them too.
    pub(crate) async fn with_groups_below(&self, query: &mut UserQuery) -> Result<(), Status> {
        if !query.groups.is_empty() {
            let groups = self.store.groups(query.tenant).await.map_err(Failure::from)?;
            let tree = GroupTree::new(groups.iter().map(|group| (group.id, group.parent)));
            if let Some(unknown) = query.groups.iter().find(|group| !tree.contains(**group)) {
                return Err(refused(&Refusal::GroupNotFound(unknown.to_string())));
            }
            let asked = query.groups.iter().copied().collect();
            query.groups = tree.with_descendants(&asked).into_iter().collect();
        }
        Ok(())
    }

    /// Changes the standing of one account.
    async fn change<T: crate::operations::engine::Answer>(
        &self,
        mutation: Mutation,
        target: Target,
        change: impl Fn(&mut Account, &Act, &mut Changeset) -> Result<Effect, Refusal> + Send + Sync + 'static,
        answer: impl Fn(Option<ProtoUser>) -> T + Send + Sync + 'static,
    ) -> Result<T, Status> {
        let Target {
            tenant,
            user,
            expected_version,
        } = target;
        let keys = Keys {
            with_seats: Some(self.now()),
            ..account_keys(tenant, user)
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            world.account(tenant, user)?.decide(changes, |account, changes| {
                account.check_version(expected_version)?;
                change(account, &act, changes)?;
                Ok(answer(Some(convert::user(&account.user, act.now))))
            })
        });
        Ok(self.engine.run(command).await?)
    }
}

fn ids(tenant: &str, user: &str) -> Result<(TenantId, UserId), Status> {
    let mut faults = Faults::default();
    let parsed = (faults.id("tenant_id", tenant), faults.id("user_id", user));
    finish(faults)?;
    Ok(parsed)
}

fn not_found(user: &UserId) -> Status {
    refused(&Refusal::UserNotFound(user.to_string()))
}

fn sort_key(user: &User, order: UserOrder) -> String {
    match order {
        UserOrder::Name => usher_core::user::name_key(&user.profile),
        UserOrder::Email => user.profile.email.key().to_owned(),
        UserOrder::Created => instant_key(user.created_at),
        UserOrder::LastLogin => instant_key(user.last_login_at.unwrap_or_default()),
    }
}
