//! Erasures: their whole course with the moved clock, as those see them who ask, approve, acknowledge and keep the certificate
//! (S12, U9, U10).

mod planting;
mod traces;

use std::ops::Deref;

use anyhow::{Context as _, Result};
use prost_types::Duration as ProtoDuration;
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{ErasureReason, ErasureState, InitialState, UserStatus};
use usher_tests::environment::eventually;
use usher_tests::system::{Clients, System};

use crate::stage::{DAY, MINUTE, PATIENCE, Stage, alone, assert_refused, together};

impl<G: Deref<Target = System>> Stage<G> {
    fn asking(&self, users: &[&str]) -> api::RequestErasureRequest {
        api::RequestErasureRequest {
            tenant_id: self.tenant.clone(),
            user_ids: users.iter().map(ToString::to_string).collect(),
            reason: ErasureReason::PersonRequest.into(),
            note: "by letter".into(),
            options: None,
        }
    }

    async fn ask(&self, clients: &Clients, users: &[&str]) -> Result<Vec<api::Erasure>, Status> {
        let asked = clients.erasures().request_erasure(self.asking(users)).await?;
        Ok(asked.into_inner().erasures)
    }

    async fn erasure(&self, id: &str) -> Result<api::Erasure> {
        let request = api::GetErasureRequest {
            tenant_id: self.tenant.clone(),
            erasure_id: id.into(),
        };
        let found = self.clients.erasures().get_erasure(request).await?.into_inner();
        found.erasure.context("no erasure")
    }

    async fn erasure_becomes(&self, id: &str, state: ErasureState) -> Result<api::Erasure> {
        eventually(&format!("{state:?}"), PATIENCE, async || {
            self.erasure(id).await.ok().filter(|it| it.state() == state)
        })
        .await
    }

    async fn certificate(&self, id: &str) -> Result<api::GetErasureCertificateResponse, Status> {
        let request = api::GetErasureCertificateRequest {
            tenant_id: self.tenant.clone(),
            erasure_id: id.into(),
        };
        let answer = self.clients.erasures().get_erasure_certificate(request).await?;
        Ok(answer.into_inner())
    }

    async fn acknowledge(&self, id: &str, service: &str) -> Result<api::Erasure, Status> {
        let request = api::AcknowledgeErasureRequest {
            tenant_id: self.tenant.clone(),
            erasure_id: id.into(),
            service: service.into(),
            options: None,
        };
        let answer = self.clients.erasures().acknowledge_erasure(request).await?;
        Ok(answer.into_inner().erasure.unwrap_or_default())
    }

    async fn register(&self, service: &str) -> Result<()> {
        let request = api::RegisterErasureSubscriberRequest {
            tenant_id: self.tenant.clone(),
            service: service.into(),
            options: None,
        };
        self.clients.erasures().register_erasure_subscriber(request).await?;
        Ok(())
    }

    fn naming(&self, erasure: &api::Erasure) -> api::ApproveErasureRequest {
        api::ApproveErasureRequest {
            tenant_id: self.tenant.clone(),
            erasure_ids: vec![erasure.erasure_id.clone()],
            options: None,
        }
    }

    async fn cancel(&self, erasure: &api::Erasure) -> Result<(), Status> {
        let request = api::CancelErasureRequest {
            tenant_id: self.tenant.clone(),
            erasure_ids: vec![erasure.erasure_id.clone()],
            options: None,
        };
        self.clients.erasures().cancel_erasure(request).await?;
        Ok(())
    }

    async fn seats(&self) -> Result<i64> {
        let request = api::GetSeatUsageRequest {
            tenant_id: self.tenant.clone(),
        };
        Ok(self
            .clients
            .seats()
            .get_seat_usage(request)
            .await?
            .into_inner()
            .used_count)
    }
}

/// S12, U9: from the request to the certificate. The address can be used anew, with a warning.
#[test]
fn an_erasure_cools_off_erases_announces_waits_for_services_and_is_certified_once() -> Result<()> {
    alone(async |mut stage| {
        stage
            .settings(api::Tenant {
                erasure_second_approver: true,
                ..api::Tenant::default()
            })
            .await?;
        let group = stage.group("Choir", "").await?;
        let user = stage.active("leaving").await?;
        stage.join(&group, &[&user.user_id]).await?;
        stage.register("progress").await?;
        let (head, deputy) = (stage.system.clients_as("head")?, stage.system.clients_as("deputy")?);

        let asked = stage.ask(&head, &[&user.user_id]).await?.remove(0);
        assert_eq!(asked.state(), ErasureState::AwaitingApproval);
        assert_refused(
            stage.ask(&head, &[&user.user_id]).await,
            Code::FailedPrecondition,
            "ERASURE_EXISTS",
        );
        assert_refused(
            head.erasures().approve_erasure(stage.naming(&asked)).await,
            Code::FailedPrecondition,
            "SAME_APPROVER",
        );
        deputy.erasures().approve_erasure(stage.naming(&asked)).await?;
        let id = &asked.erasure_id;
        assert_refused(
            stage.acknowledge(id, "progress").await,
            Code::FailedPrecondition,
            "ERASURE_NOT_ANNOUNCED",
        );

        stage.system.advance((7 * DAY).saturating_sub(MINUTE)).await?;
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Active);
        assert_eq!(stage.seats().await?, 1);
        stage.system.advance(MINUTE * 2).await?;
        stage.erasure_becomes(id, ErasureState::Announced).await?;
        let tombstone = stage.user(&user.user_id).await?;
        assert_eq!(tombstone.status(), UserStatus::Erased);
        assert_eq!((tombstone.email.as_str(), tombstone.labels.len()), ("", 0));
        assert_eq!(stage.seats().await?, 0);
        assert!(stage.sign_in("leaving", crate::stage::PASSWORD).await.is_err());
        assert_refused(stage.cancel(&asked).await, Code::FailedPrecondition, "ERASURE_TOO_LATE");
        assert_refused(
            stage.certificate(id).await,
            Code::FailedPrecondition,
            "ERASURE_NOT_COMPLETE",
        );
        assert_refused(
            stage.acknowledge(id, "shop").await,
            Code::NotFound,
            "SUBSCRIBER_NOT_FOUND",
        );

        let done = stage.acknowledge(id, "progress").await?;
        assert_eq!(done.state(), ErasureState::Erased);
        stage.acknowledge(id, "progress").await?;
        let certificate = stage.certificate(id).await?;
        assert!(
            certificate.verified && !certificate.text.contains('@'),
            "{certificate:?}"
        );
        for fact in [
            "requested by: head",
            "approved by: deputy",
            "erased from users: 1",
            "acknowledged by progress: 2",
        ] {
            assert!(certificate.text.contains(fact), "{fact}: {}", certificate.text);
        }
        assert_eq!(stage.certificate(id).await?, certificate);

        let request = stage.new_user(
            api::User {
                email: stage.address("leaving"),
                ..api::User::default()
            },
            InitialState::Pending,
        );
        let anew = stage.clients.users().create_user(request).await?.into_inner();
        assert!(anew.erased_before);
        assert_ne!(anew.user.context("no user")?.user_id, user.user_id);
        let other = stage.new_user(
            api::User {
                email: stage.address("other"),
                ..api::User::default()
            },
            InitialState::Pending,
        );
        assert!(
            !stage
                .clients
                .users()
                .create_user(other)
                .await?
                .into_inner()
                .erased_before
        );
        Ok(())
    })
}

/// U9: cancelled in the cool-off, nothing happens.
#[test]
fn an_erasure_that_is_cancelled_in_time_erases_nothing() -> Result<()> {
    alone(async |stage| {
        let user = stage.active("staying").await?;
        let clients = stage.clients.clone();
        let asked = stage.ask(&clients, &[&user.user_id]).await?.remove(0);
        stage.system.advance(DAY * 6).await?;
        stage.cancel(&asked).await?;
        stage.cancel(&asked).await?;
        stage.system.advance(DAY * 2).await?;
        stage.settled().await?;
        assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Active);
        assert_eq!(stage.erasure(&asked.erasure_id).await?.state(), ErasureState::Cancelled);
        stage.ask(&clients, &[&user.user_id]).await?;
        Ok(())
    })
}

/// U9: a service that does not answer is waited for until the deadline, and named in the certificate.
#[test]
fn a_service_that_never_acknowledges_is_named_in_the_certificate() -> Result<()> {
    alone(async |mut stage| {
        let days = |days: i64| ProtoDuration {
            seconds: days * 86_400,
            nanos: 0,
        };
        stage
            .settings(api::Tenant {
                erasure_cool_off: Some(days(0)),
                erasure_deadline: Some(days(10)),
                ..api::Tenant::default()
            })
            .await?;
        stage.register("silent").await?;
        let user = stage.active("leaving").await?;
        let asked = stage.ask(&stage.clients.clone(), &[&user.user_id]).await?.remove(0);
        stage
            .erasure_becomes(&asked.erasure_id, ErasureState::Announced)
            .await?;
        stage.system.advance(DAY * 10 + MINUTE).await?;
        stage.erasure_becomes(&asked.erasure_id, ErasureState::Erased).await?;
        let certificate = stage.certificate(&asked.erasure_id).await?;
        let told = "acknowledged by silent: not acknowledged by the deadline";
        assert!(certificate.text.contains(told), "{}", certificate.text);
        Ok(())
    })
}

/// U10: on the day of the deletion date, without a cool-off; not where the date was cleared.
#[test]
fn u10_a_deletion_date_erases_the_account_on_that_day() -> Result<()> {
    alone(async |stage| {
        let mut users = Vec::new();
        for name in ["goes", "stays"] {
            let user = api::User {
                email: stage.address(name),
                delete_time: Some(stage.after(DAY * 3)),
                ..api::User::default()
            };
            users.push(stage.create_as(user, InitialState::Pending).await?);
        }
        let clear = api::UpdateUserRequest {
            user: Some(api::User {
                delete_time: None,
                ..users[1].clone()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["delete_time".into()],
            }),
            ..api::UpdateUserRequest::default()
        };
        stage.clients.users().update_user(clear).await?;
        stage.system.advance(DAY * 2).await?;
        assert_eq!(stage.user(&users[0].user_id).await?.status(), UserStatus::Pending);
        stage.system.advance(DAY + MINUTE).await?;
        stage.becomes(&users[0].user_id, UserStatus::Erased).await?;
        let request = api::ListErasuresRequest {
            tenant_id: stage.tenant.clone(),
            user_id: users[0].user_id.clone(),
            ..api::ListErasuresRequest::default()
        };
        let listed = stage.clients.erasures().list_erasures(request).await?.into_inner();
        assert_eq!(listed.erasures.len(), 1);
        let erasure = &listed.erasures[0];
        assert_eq!(erasure.reason(), ErasureReason::EndOfRetention);
        stage.erasure_becomes(&erasure.erasure_id, ErasureState::Erased).await?;
        assert_eq!(stage.user(&users[1].user_id).await?.status(), UserStatus::Pending);
        Ok(())
    })
}

/// U9, S9, B1, B3: what is refused, and that a repeat answers as before.
#[test]
fn an_erasure_is_all_or_nothing_repeatable_and_never_of_ones_own_account() -> Result<()> {
    together(async |stage| {
        let user = stage.active("one").await?;
        let unknown = "0197a2f0-0000-7000-8000-000000000001";
        assert_refused(
            stage.ask(&stage.clients, &[&user.user_id, unknown]).await,
            Code::NotFound,
            "USER_NOT_FOUND",
        );
        let request = |validate_only| api::RequestErasureRequest {
            options: Some(api::MutationOptions {
                request_id: "leave-1".into(),
                validate_only,
                ..api::MutationOptions::default()
            }),
            ..stage.asking(&[&user.user_id])
        };
        stage.clients.erasures().request_erasure(request(true)).await?;
        let list = api::ListErasuresRequest {
            tenant_id: stage.tenant.clone(),
            ..api::ListErasuresRequest::default()
        };
        let listed = stage.clients.erasures().list_erasures(list.clone()).await?.into_inner();
        assert!(listed.erasures.is_empty(), "nothing was written");
        let first = stage
            .clients
            .erasures()
            .request_erasure(request(false))
            .await?
            .into_inner();
        let second = stage
            .clients
            .erasures()
            .request_erasure(request(false))
            .await?
            .into_inner();
        assert_eq!(first, second);

        let own = stage.active("own").await?;
        stage
            .give(&own.user_id, "administrator", crate::stage::platform())
            .await?;
        let acting = stage.acting(&own.user_id)?;
        assert_refused(
            stage.ask(&acting, &[&own.user_id]).await,
            Code::FailedPrecondition,
            "OWN_STATUS",
        );
        let nobody = stage.active("nobody").await?;
        let acting = stage.acting(&nobody.user_id)?;
        assert_refused(
            stage.ask(&acting, &[&user.user_id]).await,
            Code::PermissionDenied,
            "PERMISSION_DENIED",
        );
        Ok(())
    })
}
