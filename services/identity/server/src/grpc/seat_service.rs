//! Seats: usage, ledger and forecast (U8, B13).

use chrono::TimeDelta;
use tonic::{Request, Response, Status};
use usher_core::ids::UserId;
use usher_core::ports::After;
use usher_core::role::Permission;
use usher_core::seats::SeatUsage;
use usher_proto::identity::v1::seat_service_server::SeatService;
use usher_proto::identity::v1::{
    GetSeatForecastRequest, GetSeatForecastResponse, GetSeatUsageRequest, GetSeatUsageResponse, ListSeatLedgerRequest,
    ListSeatLedgerResponse, SeatLedgerEntry,
};
use uuid::Uuid;

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::Failure;
use crate::page::Question;
use crate::parse::Faults;

/// How far the forecast looks at expirations.
const HORIZON: TimeDelta = TimeDelta::days(30);

#[tonic::async_trait]
impl SeatService for App {
    async fn get_seat_usage(
        &self,
        request: Request<GetSeatUsageRequest>,
    ) -> Result<Response<GetSeatUsageResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let (limit, usage) = self.usage(&caller, &request.get_ref().tenant_id).await?;
        Ok(Response::new(GetSeatUsageResponse {
            used_count: usage.used,
            seat_limit: limit,
            free_count: free(limit, &usage),
            waiting_count: usage.waiting,
        }))
    }

    async fn list_seat_ledger(
        &self,
        request: Request<ListSeatLedgerRequest>,
    ) -> Result<Response<ListSeatLedgerResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let user: Option<UserId> = faults.optional_id("user_id", &body.user_id);
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListSeatLedger", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::SeatsRead).await?;
        let before = after.and_then(|after| after.key.parse().ok());
        let found = self.store.seat_ledger(tenant, user, before, limit).await;
        let found = found.map_err(Failure::from)?;
        let next_page_token = question.next(&found, limit, |(place, _)| After {
            key: place.to_string(),
            id: Uuid::nil(),
        });
        let entries = found
            .into_iter()
            .map(|(_, entry)| SeatLedgerEntry {
                time: Some(convert::time(entry.at)),
                user_id: entry.user.to_string(),
                change: if entry.change < 0 { -1 } else { 1 },
                event_type: entry.cause.as_str().to_owned(),
                actor_id: entry.actor,
            })
            .collect();
        Ok(Response::new(ListSeatLedgerResponse {
            entries,
            next_page_token,
        }))
    }

    async fn get_seat_forecast(
        &self,
        request: Request<GetSeatForecastRequest>,
    ) -> Result<Response<GetSeatForecastResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let (limit, usage) = self.usage(&caller, &request.get_ref().tenant_id).await?;
        Ok(Response::new(GetSeatForecastResponse {
            free_count: free(limit, &usage),
            seat_limit: limit,
            open_invitation_count: usage.open_invitations,
            waiting_count: usage.waiting,
            expiring_count: usage.expiring,
            shortfall_count: shortfall(limit, &usage),
            summary: summary(limit, &usage),
        }))
    }
}

impl App {
    async fn usage(&self, caller: &Caller, tenant: &str) -> Result<(i64, SeatUsage), Status> {
        let mut faults = Faults::default();
        let tenant = parse_tenant(tenant, &mut faults);
        finish(faults)?;
        self.permit(caller, tenant, Permission::SeatsRead).await?;
        let limit = self.tenant(tenant).await?.settings.seat_limit;
        let now = self.now();
        let usage = self.store.seat_usage(tenant, now, now + HORIZON).await;
        Ok((limit, usage.map_err(Failure::from)?))
    }
}

fn free(limit: i64, usage: &SeatUsage) -> i64 {
    (limit - usage.used).max(0)
}

fn shortfall(limit: i64, usage: &SeatUsage) -> i64 {
    if limit == 0 {
        return 0;
    }
    (usage.open_invitations + usage.waiting - free(limit, usage)).max(0)
}

fn summary(limit: i64, usage: &SeatUsage) -> String {
    let count = |count: i64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let mut parts = vec![count(usage.open_invitations, "invitation open", "invitations open")];
    if usage.waiting > 0 {
        parts.push(count(usage.waiting, "person waiting", "people waiting"));
    }
    if limit == 0 {
        parts.push("no limit of seats".into());
    } else {
        parts.push(count(free(limit, usage), "seat left", "seats left"));
    }
    if usage.expiring > 0 {
        parts.push(format!(
            "{} within 30 days",
            count(usage.expiring, "account expires", "accounts expire")
        ));
    }
    let mut text = parts.join(", ");
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_the_forecast_says_what_is_open_what_is_left_and_what_will_lack() {
        let usage = SeatUsage {
            used: 95,
            waiting: 0,
            open_invitations: 12,
            expiring: 1,
        };
        assert_eq!(
            summary(100, &usage),
            "12 invitations open, 5 seats left, 1 account expires within 30 days."
        );
        assert_eq!(shortfall(100, &usage), 7);
        assert_eq!(shortfall(0, &usage), 0);
        let full = SeatUsage {
            used: 3,
            waiting: 2,
            open_invitations: 1,
            expiring: 0,
        };
        assert_eq!(summary(3, &full), "1 invitation open, 2 people waiting, 0 seats left.");
        assert_eq!(shortfall(3, &full), 3);
    }
}
