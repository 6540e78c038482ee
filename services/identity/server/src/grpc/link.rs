//! What the page behind an invitation's link asks for.

use tonic::{Request, Status};
use usher_core::account::Registration;
use usher_core::audit::{Origin, Who};
use usher_core::change::Act;
use usher_core::ids::TenantId;
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::text;
use usher_core::token::InvitationToken;
use usher_proto::identity::v1::{
    AcceptInvitationRequest, AcceptInvitationResponse, InspectInvitationRequest, InspectInvitationResponse,
    RequestFreshInvitationRequest, RequestFreshInvitationResponse,
};

use crate::app::App;
use crate::call::{Mutation, finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::{Command, Failure};
use crate::parse::Faults;
use crate::status::refused;

impl App {
    /// Reads only, however often a scanner opens the link.
    pub(super) async fn inspect_link(
        &self,
        body: InspectInvitationRequest,
    ) -> Result<InspectInvitationResponse, Status> {
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        finish(faults)?;
        let token = self.token(tenant, &body.token)?;
        let not_usable = || refused(&Refusal::InvitationNotUsable);
        let invitation = self
            .store
            .invitation(tenant, token.invitation)
            .await
            .map_err(Failure::from)?;
        let user = invitation.ok_or_else(not_usable)?.user;
        let account = self
            .store
            .account(tenant, user)
            .await
            .map_err(Failure::from)?
            .ok_or_else(not_usable)?;
        let invitation = account
            .check_link(token, self.now())
            .map_err(|refusal| refused(&refusal))?;
        let settings = &account.tenant.settings;
        let own = &account.user.profile.language;
        Ok(InspectInvitationResponse {
            email: invitation.email.as_str().to_owned(),
            first_name: account.user.profile.first_name.clone(),
            last_name: account.user.profile.last_name.clone(),
            language: if own.is_empty() {
                settings.default_language.clone()
            } else {
                own.clone()
            },
            tenant_name: settings.display_name.clone(),
            lapse_time: Some(convert::time(invitation.lapses_at)),
        })
    }

    /// Completes a registration (L1).
    pub(super) async fn accept_link(
        &self,
        request: Request<AcceptInvitationRequest>,
    ) -> Result<AcceptInvitationResponse, Status> {
        let mut faults = Faults::default();
        let body = request.get_ref();
        let mutation = Mutation::parse(
            "AcceptInvitation",
            &request,
            body.options.as_ref(),
            &self.keys,
            &mut faults,
        )
        .by_subject();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let first_name = required_name("first_name", &body.first_name, &mut faults);
        let last_name = required_name("last_name", &body.last_name, &mut faults);
        faults.password("password", &body.password);
        finish(faults)?;
        let token = self.token(tenant, &body.token)?;
        let keys = Keys {
            with_seats: Some(self.now()),
            ..link_keys(tenant, token)
        };
        let accept = |password_hash| {
            let registration = Registration {
                first_name: first_name.clone(),
                last_name: last_name.clone(),
                password_hash,
            };
            let by = mutation.clone();
            mutation.command(tenant, keys.clone(), move |world, changes| {
                let now = world.now;
                let account = world
                    .account_by_invitation(tenant, token.invitation)
                    .map_err(|_| Refusal::InvitationNotUsable)?;
                // The person acts for themselves: whoever holds the link is them.
                let act = Act {
                    actor: account.user.id.to_string(),
                    ..by.act(now)
                };
                let user = account.decide(changes, |account, changes| {
                    account.accept(token, registration.clone(), &act, changes)?;
                    Ok(convert::user(&account.user, now))
                })?;
                Ok(AcceptInvitationResponse { user: Some(user) })
            })
        };
        // Whoever would be refused anyway costs no hashing: a crowd at the last seats is mostly that.
        let without = accept(String::new());
        let password_hash = self
            .passwords
            .hash_after(self.engine.foresee(&without), body.password.clone())
            .await?;
        let command = accept(password_hash);
        Ok(self.engine.run(command).await?)
    }

    /// Sends a fresh link for a lapsed one (B11). Always the same answer, so that nobody learns which links exist.
    pub(super) async fn refresh_link(
        &self,
        body: RequestFreshInvitationRequest,
    ) -> Result<RequestFreshInvitationResponse, Status> {
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        finish(faults)?;
        let Some(token) = self.keys.verify(tenant, &body.token) else {
            return Ok(RequestFreshInvitationResponse {});
        };
        let trace_parent = usher_platform::trace::current_trace_parent();
        let origin = Origin {
            who: Who::Subject,
            ..crate::audit::origin()
        };
        let command = Command::new(link_keys(tenant, token), move |world, changes| {
            let now = world.now;
            if let Ok(account) = world.account_by_invitation(tenant, token.invitation) {
                let reason = "a fresh link was asked for with a lapsed one";
                let act = Act {
                    actor: account.user.id.to_string(),
                    trace_parent: trace_parent.clone(),
                    ..Act::by_usher(now, reason)
                };
                account.refresh(token, &act, changes);
            }
            Ok(RequestFreshInvitationResponse {})
        });
        Ok(self.engine.run(command.from(origin)).await?)
    }

    fn token(&self, tenant: TenantId, text: &str) -> Result<InvitationToken, Status> {
        self.keys
            .verify(tenant, text)
            .ok_or_else(|| refused(&Refusal::InvitationNotUsable))
    }
}

fn link_keys(tenant: TenantId, token: InvitationToken) -> Keys {
    Keys {
        invitations: [(tenant, token.invitation)].into(),
        with_mail: true,
        ..Keys::default()
    }
}

fn required_name(field: &str, given: &str, faults: &mut Faults) -> String {
    let name = faults.take(field, text::name(given, text::MAX_NAME));
    if given.trim().is_empty() {
        faults.add(field, "is required");
    }
    name
}
