//! `usher seats`: how many are taken, what is to come, and every one taken and given back (U8, B13).

use clap::{Args, Subcommand};
use usher_proto::identity::v1::{
    GetSeatForecastRequest, GetSeatForecastResponse, GetSeatUsageRequest, GetSeatUsageResponse, ListSeatLedgerRequest,
    SeatLedgerEntry,
};

use super::{Limit, Session};
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, json};
use crate::time;

/// Show how many seats are taken, and how far they will reach. With --json: the usage, then the forecast.
#[derive(Debug, Args)]
pub(crate) struct Seats {
    #[command(subcommand)]
    command: Option<SeatCommand>,
}

#[derive(Debug, Subcommand)]
enum SeatCommand {
    /// List every seat taken and given back, the newest first.
    Ledger {
        /// Only of this user: id, address or external id.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

pub(super) async fn run(command: &Seats, session: &Session) -> Result<Exit, Failure> {
    match &command.command {
        None => usage(session).await?,
        Some(SeatCommand::Ledger { user, limit }) => ledger(user.as_ref(), limit, session).await?,
    }
    Ok(Exit::Done)
}

async fn usage(session: &Session) -> Result<(), Failure> {
    let tenant_id = session.client.tenant.clone();
    let mut client = session.client.seats();
    let request = GetSeatUsageRequest {
        tenant_id: tenant_id.clone(),
    };
    let usage = client.get_seat_usage(request).await?.into_inner();
    let request = GetSeatForecastRequest { tenant_id };
    let forecast = client.get_seat_forecast(request).await?.into_inner();
    if session.out.json {
        return output::lines([json(&usage), json(&forecast)]);
    }
    output::pairs(&pairs(&usage, &forecast))?;
    output::lines(["", &output::printable(&forecast.summary)])
}

fn pairs(usage: &GetSeatUsageResponse, forecast: &GetSeatForecastResponse) -> Vec<(&'static str, String)> {
    let some = |count: i64| if count == 0 { String::new() } else { count.to_string() };
    let (limit, free) = match usage.seat_limit {
        0 => ("none".into(), String::new()),
        limit => (limit.to_string(), usage.free_count.to_string()),
    };
    vec![
        ("Seats taken", usage.used_count.to_string()),
        ("Limit", limit),
        ("Free", free),
        ("People waiting", some(usage.waiting_count)),
        ("Will lack", some(forecast.shortfall_count)),
    ]
}

async fn ledger(user: Option<&String>, limit: &Limit, session: &Session) -> Result<(), Failure> {
    let user_id = match user {
        Some(user) => session.client.user_id(user).await?,
        None => String::new(),
    };
    let page = |page_size, page_token| {
        let request = ListSeatLedgerRequest {
            tenant_id: session.client.tenant.clone(),
            user_id: user_id.clone(),
            page_size,
            page_token,
        };
        async move {
            let answer = session.client.seats().list_seat_ledger(request).await?.into_inner();
            Ok((answer.entries, answer.next_page_token))
        }
    };
    limit.show(session.out, page).await
}

impl Show for SeatLedgerEntry {
    const NAME: &'static str = "usher.identity.v1.SeatLedgerEntry";
    const COLUMNS: &'static [&'static str] = &["WHEN", "SEATS", "USER ID", "EVENT", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            time::show(self.time.as_ref()),
            format!("{:+}", self.change),
            self.user_id.clone(),
            self.event_type.clone(),
            self.actor_id.clone(),
        ]
    }
}

impl Show for GetSeatUsageResponse {
    const NAME: &'static str = "usher.identity.v1.GetSeatUsageResponse";
    const COLUMNS: &'static [&'static str] = &["TAKEN", "LIMIT", "FREE", "WAITING"];

    fn cells(&self) -> Vec<String> {
        let counts = [self.used_count, self.seat_limit, self.free_count, self.waiting_count];
        counts.iter().map(ToString::to_string).collect()
    }
}

impl Show for GetSeatForecastResponse {
    const NAME: &'static str = "usher.identity.v1.GetSeatForecastResponse";
    const COLUMNS: &'static [&'static str] = &["FORECAST"];

    fn cells(&self) -> Vec<String> {
        vec![self.summary.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u8_no_limit_is_not_shown_as_no_free_seat() {
        let shown = |seat_limit, free_count| {
            let usage = GetSeatUsageResponse {
                used_count: 7,
                seat_limit,
                free_count,
                waiting_count: 0,
            };
            let pairs = pairs(&usage, &GetSeatForecastResponse::default());
            (pairs[1].1.clone(), pairs[2].1.clone())
        };
        assert_eq!(shown(0, 0), ("none".into(), String::new()));
        assert_eq!(shown(7, 0), ("7".into(), "0".into()));
    }
}
