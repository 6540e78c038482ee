//! The items of a job: told, and made into further jobs.

use std::collections::HashMap;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use usher_core::email::EmailAddress;
use usher_core::ids::{JobId, SelectionId, TenantId, UserId};
use usher_core::job::{ItemInput, ItemOutcome, ItemResult, Job};
use usher_core::ports::After;
use usher_core::refusal::Refusal;
use usher_proto::identity::v1::{self as proto, DownloadJobReportResponse};
use usher_transfer::read::CellFault;
use usher_transfer::report::{ReportRow, ReportWriter};
use uuid::Uuid;

use super::bulk_service::Items;
use super::selecting::SelectionWriter;
use crate::app::App;
use crate::convert;
use crate::operations::engine::Failure;
use crate::operations::import;
use crate::status::{failed, refused};

/// Chunks read at a time.
const READ_CHUNKS: u32 = 10;

/// Where a list of items goes on: the chunk, and how many of its items were told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    chunk: i32,
    items: usize,
}

impl Place {
    pub(super) fn after(self) -> After {
        After {
            key: format!("{} {}", self.chunk, self.items),
            id: Uuid::nil(),
        }
    }

    pub(super) fn read(key: &str) -> Option<Self> {
        let (chunk, items) = key.split_once(' ')?;
        Some(Self {
            chunk: chunk.parse().ok()?,
            items: items.parse().ok()?,
        })
    }
}

impl App {
    /// A selection made of the outcomes of a job.
    pub(super) async fn outcomes_of(
        &self,
        job: &Job,
        pick: impl Fn(&ItemResult) -> Option<ItemInput>,
    ) -> Result<Items, Status> {
        let mut writer = SelectionWriter::new(self, job.tenant, SelectionId(Uuid::new_v4()));
        let mut from = 0;
        loop {
            let chunks = self.store.outcomes(job.tenant, job.id, from, READ_CHUNKS).await;
            let chunks = chunks.map_err(Failure::from)?;
            let Some((last, _)) = chunks.last() else { break };
            from = last + 1;
            for item in chunks.iter().flat_map(|(_, items)| items).filter_map(&pick) {
                writer.item(item).await?;
            }
        }
        let (selection, _) = writer.finish().await?;
        Ok(Items::of(&selection))
    }

    /// A selection made of the items of a job whose outcomes are of a kind.
    pub(super) async fn inputs_of(&self, job: &Job, wanted: impl Fn(&ItemResult) -> bool) -> Result<Items, Status> {
        let mut writer = SelectionWriter::new(self, job.tenant, SelectionId(Uuid::new_v4()));
        // A group that a row lacked may be there by now.
        let names = self.names(job.tenant).await?;
        for number in 0..job.next_chunk {
            let inputs = self.store.chunk(job.tenant, job.selection, number).await;
            let outcomes = self.store.outcomes(job.tenant, job.id, number, 1).await;
            let inputs = inputs
                .map_err(Failure::from)?
                .ok_or_else(|| refused(&Refusal::SelectionNotFound))?;
            let outcomes = outcomes.map_err(Failure::from)?;
            let ended = outcomes.iter().flat_map(|(_, items)| items);
            for (input, _) in inputs.into_iter().zip(ended).filter(|(_, item)| wanted(item)) {
                writer.item(import::again(input, &names)).await?;
            }
        }
        let (selection, _) = writer.finish().await?;
        Ok(Items::of(&selection))
    }

    pub(super) async fn items(
        &self,
        tenant: TenantId,
        id: JobId,
        mut place: Place,
        outcomes: &[ItemOutcome],
        limit: u32,
    ) -> Result<(Vec<proto::JobItem>, Option<Place>), Status> {
        let mut wanted = Vec::new();
        let chunks = self.store.outcomes(tenant, id, place.chunk, READ_CHUNKS).await;
        let chunks = chunks.map_err(Failure::from)?;
        let mut more = chunks.len() >= READ_CHUNKS as usize;
        // An item counts as often as it has faults.
        let mut told = 0;
        'page: for (number, found) in &chunks {
            let skip = if *number == place.chunk { place.items } else { 0 };
            for (index, item) in found.iter().enumerate().skip(skip) {
                if told >= limit as usize {
                    more = true;
                    place = Place {
                        chunk: *number,
                        items: index,
                    };
                    break 'page;
                }
                if outcomes.is_empty() || outcomes.contains(&item.outcome) {
                    told += 1 + item.further.len();
                    wanted.push(item);
                }
            }
            place = Place {
                chunk: number + 1,
                items: 0,
            };
        }
        let addresses = self.addresses(tenant, wanted.iter().copied()).await?;
        let items = wanted
            .iter()
            .flat_map(|item| convert::job_items(item, addresses.of(item)))
            .collect();
        Ok((items, more.then_some(place)))
    }

    /// The addresses of the accounts that items are about.
    async fn addresses(
        &self,
        tenant: TenantId,
        items: impl Iterator<Item = &ItemResult>,
    ) -> Result<Addresses, Failure> {
        let keys: Vec<_> = items.filter_map(|item| item.user).map(|user| (tenant, user)).collect();
        let users = self.store.users(&keys).await?;
        let addresses = users.into_iter().map(|user| (user.id, user.profile.email));
        Ok(Addresses(addresses.collect()))
    }

    /// The outcome of every item as a CSV file, in pieces.
    pub(super) fn report(
        &self,
        tenant: TenantId,
        id: JobId,
    ) -> ReceiverStream<Result<DownloadJobReportResponse, Status>> {
        let (sender, receiver) = mpsc::channel(2);
        let app = self.clone();
        tokio::spawn(async move {
            let mut writer = ReportWriter::new();
            let mut from = 0;
            loop {
                let piece = app.report_piece(tenant, id, &mut from, &mut writer).await;
                let (data, more) = match piece {
                    Ok(more) => (writer.take(), more),
                    Err(failure) => {
                        let _ = sender.send(Err(failed(failure))).await;
                        return;
                    }
                };
                if sender.send(Ok(DownloadJobReportResponse { data })).await.is_err() || !more {
                    return;
                }
            }
        });
        ReceiverStream::new(receiver)
    }

    async fn report_piece(
        &self,
        tenant: TenantId,
        id: JobId,
        from: &mut i32,
        writer: &mut ReportWriter,
    ) -> Result<bool, Failure> {
        let chunks = self.store.outcomes(tenant, id, *from, READ_CHUNKS).await?;
        let Some((last, _)) = chunks.last() else {
            return Ok(false);
        };
        *from = last + 1;
        let items = || chunks.iter().flat_map(|(_, items)| items);
        let addresses = self.addresses(tenant, items()).await?;
        for item in items() {
            let user_id = item.user.map(|user| user.to_string()).unwrap_or_default();
            let first = (!item.message.is_empty()).then(|| CellFault::new(&item.column, &item.message));
            let further = item
                .further
                .iter()
                .map(|(column, message)| CellFault::new(column, message));
            let faults: Vec<CellFault> = first.into_iter().chain(further).collect();
            writer.push(ReportRow {
                row: u64::try_from(item.position).unwrap_or(0),
                address: addresses.of(item).unwrap_or(&item.address),
                outcome: if item.detail.is_empty() {
                    convert::item_outcome_name(item.outcome)
                } else {
                    &item.detail
                },
                user_id: &user_id,
                faults: &faults,
            });
        }
        Ok(true)
    }
}

/// Addresses of accounts.
struct Addresses(HashMap<UserId, EmailAddress>);

impl Addresses {
    fn of(&self, item: &ItemResult) -> Option<&str> {
        Some(self.0.get(&item.user?)?.as_str())
    }
}

pub(super) fn user_item(item: &ItemResult) -> ItemInput {
    ItemInput {
        position: item.position,
        user: item.user,
        undo: None,
        row: None,
    }
}
