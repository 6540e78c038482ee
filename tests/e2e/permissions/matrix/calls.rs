//! One call of each RPC, planned rather than carried out where that can be (B3). `None`: the place cannot be said in it.

use usher_proto::identity::v1::import_users_request::Part;

use super::cast::{Cast, Holder, Place, Spot};
use super::people::{access, invitations, users};
use super::{over_time, *};

/// What was answered; of a call with an answer for each item, and of a list, whether it has what the place is about.
pub(super) type Answer = Result<bool, Status>;

/// One of the calls, by its service and its name.
pub(super) async fn call(method: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Result<Option<Answer>> {
    let (service, name) = method.split_once('/').context("a service")?;
    match service {
        "AccessService" => Ok(access(name, cast, me, spot).await),
        "ActivityService" => Ok(over_time::activity(name, cast, me).await),
        "AuditService" => Ok(over_time::audit(name, cast, me).await),
        "BulkService" => Box::pin(bulk(name, cast, me, spot)).await,
        "DeliveryService" => Ok(deliveries(name, cast, me, spot).await),
        "ErasureService" => Ok(Box::pin(over_time::erasures(name, cast, me)).await),
        "EventService" => Ok(events(name, cast, me).await),
        "GroupService" => Ok(groups(name, cast, me, spot).await),
        "InactivityService" => Ok(over_time::inactivity(name, cast, me).await),
        "InvitationService" => Ok(Box::pin(invitations(name, cast, me, spot)).await),
        "RoleService" => Ok(roles(name, cast, me, spot).await),
        "SeatService" => Ok(seats(name, cast, me).await),
        "TemplateService" => Ok(Box::pin(over_time::templates(name, cast, me)).await),
        "TenantService" => Ok(tenants(name, cast, me).await),
        "TransferService" => Box::pin(transfer(name, cast, me, spot)).await,
        "UserService" => Ok(Box::pin(users(name, cast, me, spot)).await),
        "WorkService" => Ok(work(name, cast, me).await),
        other => panic!("write calls of {other}"),
    }
}

/// Without the deed.
#[expect(clippy::unnecessary_wraps, reason = "as requests have it")]
pub(super) fn planned() -> Option<api::MutationOptions> {
    Some(api::MutationOptions {
        validate_only: true,
        ..api::MutationOptions::default()
    })
}

/// What was answered to a call about one thing.
#[expect(clippy::unnecessary_wraps, reason = "as the calls answer")]
pub(super) fn done<T>(answer: Result<T, Status>) -> Option<Answer> {
    Some(answer.map(|_| true))
}

/// Whether a list has it.
#[expect(clippy::unnecessary_wraps, reason = "as the calls answer")]
pub(super) fn shown<T>(answer: Result<tonic::Response<T>, Status>, is_there: impl Fn(&T) -> bool) -> Option<Answer> {
    Some(answer.map(|answer| is_there(answer.get_ref())))
}

/// A selection of one user.
pub(super) fn only(user: &str) -> api::Selection {
    api::Selection {
        by: Some(api::selection::By::UserIds(api::UserIds {
            user_ids: vec![user.into()],
        })),
    }
}

/// Everybody in a group; on the platform, the person there.
fn everybody(place: &Place) -> api::Selection {
    if place.group.is_empty() {
        return only(&place.person.id);
    }
    let filter = api::UserFilter {
        group_ids: vec![place.group.clone()],
        ..api::UserFilter::default()
    };
    api::Selection {
        by: Some(api::selection::By::Filter(filter)),
    }
}

/// Whether no item of a job was refused.
async fn dealt_with(cast: &Cast<'_>, started: Result<Option<api::Job>, Status>) -> Result<Answer> {
    let job = match started {
        Ok(job) => job.context("a job")?,
        Err(refused) => return Ok(Err(refused)),
    };
    cast.stage.ended(&job).await?;
    let items = cast.stage.items(&job, &[]).await?;
    assert!(!items.is_empty(), "{job:?}");
    let mut reasons = items.iter().map(|item| item.reason.as_str());
    Ok(Ok(reasons.all(|reason| reason != "PERMISSION_DENIED")))
}

async fn bulk(name: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Result<Option<Answer>> {
    let Spot::At(place) = spot else { return Ok(None) };
    let mut clients = me.clients.bulk();
    let (tenant_id, job_id) = (cast.stage.tenant.clone(), place.job.clone());
    Ok(match name {
        "PreviewSelection" => {
            let selection = Some(everybody(place));
            let request = api::PreviewSelectionRequest { tenant_id, selection };
            shown(clients.preview_selection(request).await, |it| it.user_count > 0)
        }
        "StartBulk" => {
            // In earnest, so that the items are asked about; nobody has that label.
            let action = api::bulk_action::Action::EditLabels(api::BulkEditLabels {
                add: vec![],
                remove: vec!["Nobody's".into()],
            });
            let request = api::StartBulkRequest {
                tenant_id,
                digest: place.digest.clone(),
                action: Some(api::BulkAction { action: Some(action) }),
                options: None,
            };
            let started = clients.start_bulk(request).await.map(|it| it.into_inner().job);
            Some(dealt_with(cast, started).await?)
        }
        "CancelJob" => {
            let options = planned();
            let request = api::CancelJobRequest {
                tenant_id,
                job_id,
                options,
            };
            done(clients.cancel_job(request).await)
        }
        "RetryFailed" => {
            let options = planned();
            let request = api::RetryFailedRequest {
                tenant_id,
                job_id,
                options,
            };
            done(clients.retry_failed(request).await)
        }
        "UndoJob" => {
            let options = planned();
            let request = api::UndoJobRequest {
                tenant_id,
                job_id,
                options,
            };
            done(clients.undo_job(request).await)
        }
        "GetJob" => done(clients.get_job(api::GetJobRequest { tenant_id, job_id }).await),
        "ListJobs" => {
            let request = api::ListJobsRequest {
                tenant_id,
                page_size: 1_000,
                ..api::ListJobsRequest::default()
            };
            shown(clients.list_jobs(request).await, |it| {
                it.jobs.iter().any(|job| job.job_id == place.job)
            })
        }
        "WatchJob" => done(clients.watch_job(api::WatchJobRequest { tenant_id, job_id }).await),
        "ListJobItems" => {
            let request = api::ListJobItemsRequest {
                tenant_id,
                job_id,
                ..api::ListJobItemsRequest::default()
            };
            shown(clients.list_job_items(request).await, |it| !it.items.is_empty())
        }
        "DownloadJobReport" => {
            let request = api::DownloadJobReportRequest { tenant_id, job_id };
            done(clients.download_job_report(request).await)
        }
        other => panic!("write a call of {other}"),
    })
}

async fn deliveries(name: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.deliveries();
    match (name, spot) {
        ("ListDeliveries", Spot::At(place)) => {
            let request = api::ListDeliveriesRequest {
                tenant_id,
                page_size: 1_000,
                ..api::ListDeliveriesRequest::default()
            };
            shown(clients.list_deliveries(request).await, |it| {
                it.deliveries.iter().any(|mail| mail.user_id == place.person.id)
            })
        }
        ("ResolveDelivery", Spot::Person(person)) => {
            let request = api::ResolveDeliveryRequest {
                tenant_id,
                delivery_id: person.delivery.clone(),
                resolution: api::DeliveryResolution::Sent.into(),
                options: planned(),
            };
            done(clients.resolve_delivery(request).await)
        }
        ("ListSuppressions", _) => {
            let request = api::ListSuppressionsRequest {
                tenant_id,
                ..api::ListSuppressionsRequest::default()
            };
            done(clients.list_suppressions(request).await)
        }
        ("ReportBounce", _) => {
            let request = api::ReportBounceRequest {
                tenant_id,
                reports: vec![api::BounceReport {
                    kind: api::BounceKind::Hard.into(),
                    recipient: cast.stage.address("nobody"),
                    ..api::BounceReport::default()
                }],
                options: planned(),
            };
            done(clients.report_bounce(request).await)
        }
        ("RemoveSuppression", _) => {
            let request = api::RemoveSuppressionRequest {
                tenant_id,
                email: cast.stage.address("nobody"),
                options: planned(),
            };
            done(clients.remove_suppression(request).await)
        }
        _ => None,
    }
}

async fn events(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    assert_eq!(name, "WatchEvents");
    let request = api::WatchEventsRequest {
        tenant_id: cast.stage.tenant.clone(),
        ..api::WatchEventsRequest::default()
    };
    done(me.clients.events().watch_events(request).await)
}

async fn groups(name: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Option<Answer> {
    let Spot::At(place) = spot else { return None };
    let may = Calls::planned(cast.stage, &me.clients);
    let group = place.group.as_str();
    let everything = group.is_empty();
    match name {
        "CreateGroup" => done(may.create_group("New", group).await),
        "ListGroups" => {
            let request = api::ListGroupsRequest {
                tenant_id: cast.stage.tenant.clone(),
                parent_group_id: group.to_owned(),
                ..api::ListGroupsRequest::default()
            };
            shown(me.clients.groups().list_groups(request).await, |it| {
                let foreign = |shown: &api::Group| shown.group_id == cast.south.group;
                !it.groups.is_empty() && (!everything || it.groups.iter().any(foreign))
            })
        }
        _ if everything => None,
        "GetGroup" => done(may.get_group(group).await),
        "UpdateGroup" => done(may.change_group(group, None).await),
        "DeleteGroup" => done(may.delete_group(group).await),
        // Themselves: what they may not read is refused for that.
        "AddGroupMembers" => {
            let added = may.join(group, &[&me.person.id]).await;
            Some(added.map(|reasons| reasons == [""]))
        }
        "RemoveGroupMembers" => {
            let api::AddGroupMembersRequest {
                tenant_id,
                group_id,
                user_ids,
                ..
            } = cast.stage.joining(group, &[&me.person.id]);
            let request = api::RemoveGroupMembersRequest {
                tenant_id,
                group_id,
                user_ids,
                options: planned(),
            };
            shown(me.clients.groups().remove_group_members(request).await, |it| {
                it.results.iter().all(|result| result.refused.is_none())
            })
        }
        other => panic!("write a call of {other}"),
    }
}

/// The place in which a role is given, or looked for.
fn scope_of(spot: &Spot<'_>) -> Option<api::Scope> {
    match spot {
        Spot::At(place) if place.group.is_empty() => Some(platform()),
        Spot::At(place) => Some(in_group(&place.group)),
        Spot::Session(session) => Some(in_session(session)),
        Spot::Whole | Spot::Person(_) => None,
    }
}

async fn roles(name: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.roles();
    match name {
        "ListRoles" => match spot {
            Spot::At(place) if place.group == cast.north.group => {
                done(clients.list_roles(api::ListRolesRequest { tenant_id }).await)
            }
            _ => None,
        },
        "ListRoleAssignments" => {
            let request = api::ListRoleAssignmentsRequest {
                tenant_id,
                scope: scope_of(spot),
                ..api::ListRoleAssignmentsRequest::default()
            };
            done(clients.list_role_assignments(request).await)
        }
        "AssignRoles" => {
            let may = Calls::planned(cast.stage, &me.clients);
            done(may.give(&cast.north.person.id, "learner", scope_of(spot)?).await)
        }
        "RevokeRoles" => {
            let given = cast.stage.giving(&cast.north.person.id, "learner", scope_of(spot)?);
            let request = api::RevokeRolesRequest {
                tenant_id,
                user_id: given.user_id,
                roles: given.roles,
                options: planned(),
            };
            done(clients.revoke_roles(request).await)
        }
        "CreateRole" => done(Calls::planned(cast.stage, &me.clients).define_role("Another").await),
        "UpdateRole" => {
            let request = api::UpdateRoleRequest {
                tenant_id,
                role: cast.own_role.clone(),
                display_name: "Renamed".into(),
                update_mask: Some(FieldMask {
                    paths: vec!["display_name".into()],
                }),
                options: planned(),
                ..api::UpdateRoleRequest::default()
            };
            done(clients.update_role(request).await)
        }
        "DeleteRole" => {
            let request = api::DeleteRoleRequest {
                tenant_id,
                role: cast.own_role.clone(),
                options: planned(),
            };
            done(clients.delete_role(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

async fn seats(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.seats();
    match name {
        "GetSeatUsage" => done(clients.get_seat_usage(api::GetSeatUsageRequest { tenant_id }).await),
        "ListSeatLedger" => {
            let request = api::ListSeatLedgerRequest {
                tenant_id,
                ..api::ListSeatLedgerRequest::default()
            };
            done(clients.list_seat_ledger(request).await)
        }
        "GetSeatForecast" => done(
            clients
                .get_seat_forecast(api::GetSeatForecastRequest { tenant_id })
                .await,
        ),
        other => panic!("write a call of {other}"),
    }
}

async fn tenants(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.tenants();
    match name {
        "CreateTenant" => {
            let request = api::CreateTenantRequest {
                tenant: Some(api::Tenant {
                    display_name: "Another".into(),
                    ..api::Tenant::default()
                }),
                options: planned(),
            };
            done(clients.create_tenant(request).await)
        }
        "GetTenant" => done(clients.get_tenant(api::GetTenantRequest { tenant_id }).await),
        "UpdateTenant" => {
            let request = api::UpdateTenantRequest {
                tenant: Some(api::Tenant {
                    tenant_id,
                    sender_name: "Office".into(),
                    ..api::Tenant::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["sender_name".into()],
                }),
                options: planned(),
            };
            done(clients.update_tenant(request).await)
        }
        "PauseMail" => {
            let request = api::PauseMailRequest {
                tenant_id,
                options: planned(),
            };
            done(clients.pause_mail(request).await)
        }
        "ResumeMail" => {
            let request = api::ResumeMailRequest {
                tenant_id,
                options: planned(),
            };
            done(clients.resume_mail(request).await)
        }
        other => panic!("write a call of {other}"),
    }
}

async fn transfer(name: &str, cast: &Cast<'_>, me: &Holder, spot: &Spot<'_>) -> Result<Option<Answer>> {
    let Spot::At(place) = spot else { return Ok(None) };
    let tenant_id = cast.stage.tenant.clone();
    let mut clients = me.clients.transfer();
    Ok(match name {
        "ImportUsers" => {
            let settings = Part::Settings(api::ImportSettings {
                tenant_id,
                mode: api::ImportMode::Create.into(),
                dry_run: true,
                ..api::ImportSettings::default()
            });
            let file = format!("email;groups\n{};{}\n", cast.stage.address("new"), place.name);
            let parts =
                [settings, Part::Data(file.into_bytes())].map(|part| api::ImportUsersRequest { part: Some(part) });
            let answer = clients.import_users(futures::stream::iter(parts)).await;
            Some(dealt_with(cast, answer.map(|it| it.into_inner().job)).await?)
        }
        "ExportUsers" => {
            let request = api::ExportUsersRequest {
                tenant_id,
                selection: Some(everybody(place)),
                columns: vec!["email".into()],
                ..api::ExportUsersRequest::default()
            };
            let mut pieces = match clients.export_users(request).await {
                Ok(answer) => answer.into_inner(),
                Err(refused) => return Ok(Some(Err(refused))),
            };
            let mut file = Vec::new();
            while let Some(piece) = pieces.message().await? {
                file.extend(piece.data);
            }
            Some(Ok(String::from_utf8(file)?.contains(&place.person.email)))
        }
        other => panic!("write a call of {other}"),
    })
}

async fn work(name: &str, cast: &Cast<'_>, me: &Holder) -> Option<Answer> {
    let tenant_id = cast.stage.tenant.clone();
    let (user_id, delivery_id) = (cast.north.person.id.clone(), cast.north.person.delivery.clone());
    let mut clients = me.clients.work();
    match name {
        "BeginDelivery" => {
            let request = api::BeginDeliveryRequest {
                tenant_id,
                user_id,
                delivery_id,
                worker_id: "matrix".into(),
            };
            done(clients.begin_delivery(request).await)
        }
        "ReportTransmitting" => {
            let request = api::ReportTransmittingRequest {
                tenant_id,
                user_id,
                delivery_id,
                claim_id: NOBODY.into(),
            };
            done(clients.report_transmitting(request).await)
        }
        "FinishDelivery" => {
            let request = api::FinishDeliveryRequest {
                tenant_id,
                user_id,
                delivery_id,
                claim_id: NOBODY.into(),
                outcome: api::DeliveryOutcome::Sent.into(),
                ..api::FinishDeliveryRequest::default()
            };
            done(clients.finish_delivery(request).await)
        }
        "ExpireUsers" => {
            let items = vec![api::DueExpiration {
                tenant_id,
                user_id,
                expire_time: Some(cast.stage.after(DAY)),
            }];
            done(clients.expire_users(api::ExpireUsersRequest { items }).await)
        }
        "EraseUsers" => {
            let items = vec![api::DueErasure {
                tenant_id,
                erasure_id: NOBODY.into(),
            }];
            done(clients.erase_users(api::EraseUsersRequest { items }).await)
        }
        other => panic!("write a call of {other}"),
    }
}
