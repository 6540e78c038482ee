//! Publishing with confirms.
//!
//! What lapin reports per publish cannot be taken at its word, so a batch counts as published only as a whole: every single
//! confirm has to be an ack, and nothing may have been returned. Returns are matched by `message_id` over the whole batch,
//! because lapin may hang one on another publish's confirm. One task owns the channel (`&mut self`), because with two of
//! them confirms get mixed up. After any doubt the connection is dropped, so that no confirm of a batch given up can be
//! taken for one of the next.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::poll;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Confirmation, PublisherConfirm};
use std::task::Poll;

use super::{Link, RabbitError, RabbitMq};
use crate::{EXCHANGE, Envelope, PublishError, Publisher, envelope};

/// How long a batch may take, connecting included.
const DEADLINE: Duration = Duration::from_secs(10);

/// Publishes to RabbitMQ. Connects when it is first used, and again after any failure.
pub struct RabbitPublisher {
    rabbit: RabbitMq,
    deadline: Duration,
    link: Option<Link>,
    /// A connection that the broker does not read from. It cannot be closed before the broker does again.
    blocked: Option<Link>,
}

impl RabbitPublisher {
    /// Opens nothing yet. A batch has 10 s.
    pub fn new(rabbit: RabbitMq) -> Self {
        Self {
            rabbit,
            deadline: DEADLINE,
            link: None,
            blocked: None,
        }
    }

    /// The time that a batch has, connecting included. A broker that blocks publishers confirms nothing and says nothing.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    async fn open(&self) -> Result<Link, RabbitError> {
        let link = self.rabbit.open("publisher").await?;
        link.channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(link)
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&mut self, batch: &[Envelope]) -> Result<(), PublishError> {
        // Opening another one meanwhile would leave one more behind at each attempt.
        self.blocked.take_if(|link| !link.is_blocked());
        if self.blocked.is_some() {
            return Err(blocked());
        }
        // Taken out, and put back only after success: a failure, the deadline and a caller that goes away all drop it.
        let mut link = self.link.take().filter(Link::is_open);
        let attempt = async {
            let link = match &mut link {
                Some(link) => link,
                none => none.insert(self.open().await.map_err(unavailable)?),
            };
            publish_on(link, batch).await
        };
        match tokio::time::timeout(self.deadline, attempt).await {
            Ok(Ok(())) => self.link = link,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                self.blocked = link.filter(Link::is_blocked);
                return Err(if self.blocked.is_some() {
                    blocked()
                } else {
                    unavailable(RabbitError::Deadline(self.deadline))
                });
            }
        }
        Ok(())
    }
}

async fn publish_on(link: &Link, batch: &[Envelope]) -> Result<(), PublishError> {
    let confirms = send(link, batch).await?;
    let mut refusals = Refusals::default();
    for (envelope, confirm) in batch.iter().zip(confirms) {
        refusals.look_at(envelope, confirm.await.map_err(|error| unavailable(error.into()))?);
    }
    refusals.into_result(batch)
}

/// Hands the whole batch to the connection before waiting for any of it to be written: waiting after each one would cost a
/// change of threads per event. The first poll of a publish puts its frames into the queue, so the order is the batch's.
async fn send(link: &Link, batch: &[Envelope]) -> Result<Vec<PublisherConfirm>, PublishError> {
    type Sending<'a> = Pin<Box<dyn Future<Output = Result<PublisherConfirm, lapin::Error>> + Send + 'a>>;
    let mut sending: Vec<Result<PublisherConfirm, Sending<'_>>> = Vec::with_capacity(batch.len());
    for event in batch {
        let routing_key = envelope::routing_key(event).map_err(|error| PublishError::Refused {
            refused: 1,
            total: batch.len(),
            cause: error.to_string(),
        })?;
        let options = BasicPublishOptions {
            mandatory: event.must_route,
            ..BasicPublishOptions::default()
        };
        let properties = envelope::encode(event);
        let mut publish: Sending<'_> =
            Box::pin(
                link.channel
                    .basic_publish(EXCHANGE.into(), routing_key, options, &event.data, properties),
            );
        sending.push(match poll!(&mut publish) {
            Poll::Ready(confirm) => Ok(confirm.map_err(|error| unavailable(error.into()))?),
            Poll::Pending => Err(publish),
        });
    }
    let mut confirms = Vec::with_capacity(batch.len());
    for publish in sending {
        confirms.push(match publish {
            Ok(confirm) => confirm,
            Err(publish) => publish.await.map_err(|error| unavailable(error.into()))?,
        });
    }
    Ok(confirms)
}

/// The events of a batch that the broker did not take, by id, with the cause.
#[derive(Default)]
struct Refusals(BTreeMap<String, String>);

impl Refusals {
    fn look_at(&mut self, envelope: &Envelope, confirmation: Confirmation) {
        let not_taken = match &confirmation {
            Confirmation::Ack(_) => None,
            Confirmation::Nack(_) => Some("refused by a queue, probably a full one"),
            Confirmation::NotRequested => Some("not confirmed, because the channel does not ask for confirms"),
        };
        if let Some(cause) = not_taken {
            let cause = format!("event {} ({}) was {cause}", envelope.id, envelope.routing_key);
            self.0.entry(envelope.id.to_string()).or_insert(cause);
        }
        if let Some(returned) = confirmation.take_message() {
            self.returned(&returned);
        }
    }

    fn returned(&mut self, returned: &BasicReturnMessage) {
        let id = returned
            .properties
            .message_id()
            .as_ref()
            .map_or("without an id", |id| id.as_str());
        let key = returned.routing_key.as_str();
        let cause = format!(
            "event {id} ({key}) was returned: {} {}",
            returned.reply_code, returned.reply_text
        );
        self.0.insert(id.to_owned(), cause);
    }

    fn into_result(self, batch: &[Envelope]) -> Result<(), PublishError> {
        let Some(any) = self.0.values().next() else {
            return Ok(());
        };
        let first = batch
            .iter()
            .find_map(|envelope| self.0.get(&envelope.id.to_string()))
            .unwrap_or(any);
        Err(PublishError::Refused {
            refused: self.0.len(),
            total: batch.len(),
            cause: first.clone(),
        })
    }
}

fn blocked() -> PublishError {
    PublishError::Unavailable("it takes no publishes, being short of memory or disk".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unavailable(error: RabbitError) -> PublishError {
    PublishError::Unavailable(error.to_string())
}
