//! GetUser and CheckAccess against a bare tonic echo.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tonic::transport::Channel;
use usher_proto::identity::v1::tenant_service_client::TenantServiceClient;
use usher_proto::identity::v1::{
    CheckAccessRequest, CreateUserRequest, GetTenantRequest, GetUserRequest, InitialState, Tenant, User,
};
use usher_tests::environment::{eventually, free_port};
use usher_tests::system::System;

use crate::report::Report;
use crate::{Effort, load};

/// Calls in flight.
const IN_FLIGHT: usize = 64;
/// Users that are asked for.
const USERS: usize = 2_000;

/// Measures 64 in flight, one user a call.
pub(crate) async fn run(system: &System, effort: Effort, report: &mut Report) -> Result<()> {
    let tenant = system.tenant(Tenant::default()).await?;
    let users = Arc::new(people(system, &tenant).await?);
    let (channel, _echo) = echo().await?;
    let (mut below, mut get, mut check) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (channel, id) = (channel.clone(), tenant.clone());
        let floor = move |_| {
            let (mut client, tenant_id) = (TenantServiceClient::new(channel.clone()), id.clone());
            async move {
                client.get_tenant(GetTenantRequest { tenant_id }).await?;
                Ok(())
            }
        };
        below.push(load::closed_loop(IN_FLIGHT, effort.time, floor).await?);

        let (clients, ids, id) = (system.clients()?, Arc::clone(&users), tenant.clone());
        let ours = move |number: u64| {
            let (clients, tenant_id) = (clients.clone(), id.clone());
            let user_id = pick(&ids, number);
            async move {
                clients.users().get_user(GetUserRequest { tenant_id, user_id }).await?;
                Ok(())
            }
        };
        get.push(load::closed_loop(IN_FLIGHT, effort.time, ours).await?);

        let (clients, ids, id) = (system.clients()?, Arc::clone(&users), tenant.clone());
        let ours = move |number: u64| {
            let (clients, tenant_id) = (clients.clone(), id.clone());
            let user_ids = vec![pick(&ids, number)];
            async move {
                let answer = clients
                    .access()
                    .check_access(CheckAccessRequest { tenant_id, user_ids })
                    .await?;
                anyhow::ensure!(answer.into_inner().decisions[0].allowed, "an active user was refused");
                Ok(())
            }
        };
        check.push(load::closed_loop(IN_FLIGHT, effort.time, ours).await?);
    }
    report.ratio("GetUser, 64 in flight, against a bare tonic echo", &below, &get, 0.4);
    report.ratio(
        "CheckAccess, 64 in flight, against a bare tonic echo",
        &below,
        &check,
        0.75,
    );
    Ok(())
}

fn pick(ids: &[String], number: u64) -> String {
    let index = usize::try_from(number.wrapping_mul(7_919) % ids.len() as u64).unwrap_or(0);
    ids[index].clone()
}

async fn people(system: &System, tenant: &str) -> Result<Vec<String>> {
    let clients = system.clients()?;
    let mut ids = Vec::with_capacity(USERS);
    let mut creating = tokio::task::JoinSet::new();
    for number in 0..USERS {
        let user = User {
            email: format!("reader-{number}@example.org"),
            ..User::default()
        };
        let request = CreateUserRequest {
            tenant_id: tenant.to_owned(),
            user: Some(user),
            initial_state: InitialState::ActiveWithGeneratedPassword.into(),
            ..CreateUserRequest::default()
        };
        let clients = clients.clone();
        creating.spawn(async move { clients.users().create_user(request).await });
    }
    while let Some(created) = creating.join_next().await {
        ids.push(created??.into_inner().user.context("no user in the answer")?.user_id);
    }
    Ok(ids)
}

/// The echo in a process of its own, which ends when the guard is dropped.
async fn echo() -> Result<(Channel, tokio::process::Child)> {
    let port = free_port()?;
    let child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--echo", &port.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))?.connect_lazy();
    eventually("the echo answers", Duration::from_secs(10), async || {
        let request = GetTenantRequest {
            tenant_id: String::new(),
        };
        TenantServiceClient::new(channel.clone()).get_tenant(request).await.ok()
    })
    .await?;
    Ok((channel, child))
}
