//! May this person in?

use tonic::{Request, Response, Status};
use usher_core::ids::UserId;
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_core::status::{Onboarding, Status as UserStatus};
use usher_core::user::{Access, Credential, User};
use usher_proto::identity::v1::access_service_server::AccessService;
use usher_proto::identity::v1::{
    AccessDecision, ChangePasswordRequest, ChangePasswordResponse, CheckAccessRequest, CheckAccessResponse,
    DenialReason, VerifyPasswordRequest, VerifyPasswordResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{Mutation, account_keys, finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::{Command, Failure};
use crate::operations::passwords;
use crate::operations::world::World;
use crate::parse::Faults;
use crate::status::{failed, refused};
use usher_core::change::{Act, Changeset};
use usher_core::email::EmailAddress;
use usher_core::ids::TenantId;
use usher_core::ports::Keys;

#[tonic::async_trait]
impl AccessService for App {
    async fn check_access(
        &self,
        request: Request<CheckAccessRequest>,
    ) -> Result<Response<CheckAccessResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let users: Vec<UserId> = faults.ids("user_ids", &body.user_ids);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::AccessCheck).await?;
        let answers = self.access.check(tenant, &users).await.map_err(Failure::from)?;
        let decisions = body
            .user_ids
            .into_iter()
            .zip(answers)
            .map(|(id, access)| decision(id, access))
            .collect();
        Ok(Response::new(CheckAccessResponse { decisions }))
    }

    async fn verify_password(
        &self,
        request: Request<VerifyPasswordRequest>,
    ) -> Result<Response<VerifyPasswordResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let email = faults.email("email", &body.email);
        check_length("password", &body.password, &mut faults);
        finish(faults)?;
        self.permit_program(&caller, Permission::AccessSignIn)?;
        let user = self.sign_in(tenant, &email, body.password).await?;
        self.remember_sign_in(tenant, user.id);
        let must_change_password = matches!(user.credential, Credential::OneTime { .. });
        Ok(Response::new(VerifyPasswordResponse {
            user: Some(convert::user(&user, self.now())),
            must_change_password,
        }))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("ChangePassword", &request, body.options.as_ref())?;
        let mutation = mutation.by_subject();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let email = faults.email("email", &body.email);
        check_length("current_password", &body.current_password, &mut faults);
        faults.password("new_password", &body.new_password);
        if body.new_password == body.current_password {
            faults.add("new_password", "is the current one; choose another");
        }
        finish(faults)?;
        self.permit_program(&caller, Permission::AccessSignIn)?;
        let user = match self.sign_in(tenant, &email, body.current_password.clone()).await {
            Ok(user) => user,
            Err(refused) => return self.repeated(&mutation, tenant, refused).await,
        };
        let hash = self.passwords.hash(body.new_password.clone()).await?;
        let (id, credential) = (user.id, user.credential);
        let command = mutation
            .clone()
            .command(tenant, account_keys(tenant, id), move |world, changes| {
                let act = Act {
                    actor: id.to_string(),
                    ..mutation.act(world.now)
                };
                let account = world.account(tenant, id)?;
                if account.user.credential != credential {
                    // Changed meanwhile: the current password is no longer the current one.
                    return Err(Refusal::WrongCredentials);
                }
                let user = account.decide(changes, |account, changes| {
                    account.set_password(hash.clone(), &act, changes)?;
                    Ok(convert::user(&account.user, act.now))
                })?;
                Ok(ChangePasswordResponse { user: Some(user) })
            });
        Ok(Response::new(self.engine.run(command).await?))
    }
}

impl App {
    /// A change of a password that is repeated comes with a password that is no longer the current one: it is answered as
    /// the first was (B1), and refused if there was none.
    async fn repeated(
        &self,
        mutation: &Mutation,
        tenant: TenantId,
        refused: Status,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let never_done = |_: &mut World, _: &mut Changeset| Err(Refusal::WrongCredentials);
        let command = mutation.command::<ChangePasswordResponse, _>(tenant, Keys::default(), never_done);
        if command.repeatable.is_none() {
            return Err(refused);
        }
        match self.engine.run(command).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(Failure::Refused(Refusal::WrongCredentials)) => Err(refused),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes the sign-in down (U3), beside the answer: nobody is kept out since it cannot be.
    fn remember_sign_in(&self, tenant: TenantId, user: UserId) {
        let engine = self.engine.clone();
        let command = Command::new(Keys::default(), move |world: &mut World, changes: &mut Changeset| {
            changes.put_login(tenant, user, world.now);
            Ok(())
        });
        tokio::spawn(async move {
            if let Err(failure) = engine.run(command).await {
                tracing::debug!(%failure, "a sign-in was not written down");
            }
        });
    }

    /// The user whose password this is. What is wrong with the account is told only after the right password (S10).
    async fn sign_in(&self, tenant: TenantId, email: &EmailAddress, password: String) -> Result<User, Status> {
        let found = self
            .store
            .user_by_email(tenant, email.key())
            .await
            .map_err(Failure::from)?;
        let one_time = found.as_ref().and_then(|user| match user.credential {
            Credential::OneTime { generation } => Some((user.id, generation)),
            Credential::None | Credential::Password(_) => None,
        });
        let hash = found.as_ref().and_then(|user| match &user.credential {
            Credential::Password(hash) => Some(hash.clone()),
            Credential::None | Credential::OneTime { .. } => None,
        });
        let is_one_time = one_time
            .is_some_and(|(user, generation)| self.keys.is_one_time_password(tenant, user, generation, &password));
        // Hashed in every case, so that the time tells nothing.
        let right = self.passwords.verify(password, hash).await.map_err(failed)? || is_one_time;
        let Some(user) = found.filter(|_| right) else {
            return Err(refused(&Refusal::WrongCredentials));
        };
        match user.effective_status(self.now()) {
            UserStatus::Onboarding(Onboarding::Active) => Ok(user),
            UserStatus::Deactivated { .. } => Err(refused(&Refusal::AccountDeactivated)),
            UserStatus::Expired { .. } => Err(refused(&Refusal::AccountExpired)),
            UserStatus::Onboarding(_) | UserStatus::Erased => Err(refused(&Refusal::WrongCredentials)),
        }
    }
}

fn check_length(field: &str, password: &str, faults: &mut Faults) {
    let length = password.chars().count();
    if length == 0 || length > *passwords::LENGTH.end() {
        faults.add(field, format!("must have 1 to {} characters", passwords::LENGTH.end()));
    }
}

fn decision(user_id: String, access: Access) -> AccessDecision {
    let denied = |reason: DenialReason| (false, None, reason);
    let (allowed, until, reason) = match access {
        Access::Allowed { until } => (true, until.map(convert::time), DenialReason::Unspecified),
        Access::NotRegistered => denied(DenialReason::NotRegistered),
        Access::Deactivated => denied(DenialReason::Deactivated),
        Access::Expired => denied(DenialReason::Expired),
        Access::NotFound => denied(DenialReason::NotFound),
    };
    AccessDecision {
        user_id,
        allowed,
        until,
        denial_reason: reason.into(),
    }
}
