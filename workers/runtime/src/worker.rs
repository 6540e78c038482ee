//! Consumes one queue until told to stop.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use usher_bus::{ConsumeError, Consumer, Message, Queue, Settlement, Subscriber};
use usher_platform::trace;
use usher_platform::{Condition, Context};
use usher_proto::events::v1::LifecycleEvent;

use crate::pauses::{Pauses, Reopening};
use crate::work::Each;
use crate::{BatchHandler, Handler, Work, WorkError};

/// How messages are gathered into a batch.
#[derive(Debug, Clone, Copy)]
pub struct Gather {
    /// At most so many.
    pub most: usize,
    /// For at most so long after the first.
    pub wait: Duration,
}

/// Consumes one queue.
pub struct Worker {
    name: &'static str,
    queue: Queue,
    subscriber: Arc<dyn Subscriber>,
    gather: Gather,
    concurrency: NonZeroUsize,
    job: Arc<Job>,
}

/// What is done with each batch.
struct Job {
    worker: &'static str,
    handler: Box<dyn BatchHandler>,
    pauses: Pauses,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

impl Worker {
    /// A worker that deals with messages one at a time, `concurrency` of them at once.
    pub fn new(
        name: &'static str,
        queue: Queue,
        subscriber: Arc<dyn Subscriber>,
        handler: impl Handler,
        concurrency: NonZeroUsize,
        context: &Context,
    ) -> Self {
        let one = Gather {
            most: 1,
            wait: Duration::ZERO,
        };
        Self::batching(name, queue, subscriber, Each(handler), one, concurrency, context)
    }

    /// A worker that deals with messages in batches, `concurrency` of them at once.
    pub fn batching(
        name: &'static str,
        queue: Queue,
        subscriber: Arc<dyn Subscriber>,
        handler: impl BatchHandler,
        gather: Gather,
        concurrency: NonZeroUsize,
        context: &Context,
    ) -> Self {
        let job = Job {
            worker: name,
            handler: Box::new(handler),
            pauses: Pauses::default(),
            shutdown: context.shutdown.clone(),
            abort: context.abort.clone(),
        };
        Self {
            name,
            queue,
            subscriber,
            gather,
            concurrency,
            job: Arc::new(job),
        }
    }

    /// Works until the context's `shutdown` fires, then finishes what it has begun; at `abort` it drops that, and the bus
    /// hands those messages out again. `bus` tells whether there is a consumer.
    pub async fn run(self, bus: Condition) {
        let mut reopening = Reopening::new();
        let permits = Arc::new(Semaphore::new(self.concurrency.get()));
        let tasks = TaskTracker::new();
        loop {
            let opened = tokio::select! {
                biased;
                () = self.job.shutdown.cancelled() => break,
                opened = self.subscriber.consume(self.queue, self.prefetch()) => opened,
            };
            let ended = match opened {
                Ok(consumer) => {
                    bus.set(true, "");
                    match self.consume(consumer, &permits, &tasks, &mut reopening).await {
                        Some(ended) => ended,
                        None => break,
                    }
                }
                Err(error) => error,
            };
            let pause = reopening.next();
            tracing::warn!(
                worker = self.name,
                error = ended.0,
                ?pause,
                "the consumer ended; it is opened again"
            );
            bus.set(false, ended.0);
            tokio::select! {
                () = self.job.shutdown.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// As much as can be worked on, so that no message waits here while another worker is idle.
    fn prefetch(&self) -> u16 {
        u16::try_from(self.concurrency.get().saturating_mul(self.gather.most)).unwrap_or(u16::MAX)
    }

    /// Works on what one consumer brings. `None`: told to stop, and everything that was begun is finished.
    async fn consume(
        &self,
        consumer: Box<dyn Consumer>,
        permits: &Arc<Semaphore>,
        tasks: &TaskTracker,
        reopening: &mut Reopening,
    ) -> Option<ConsumeError> {
        let mut messages = pin!(messages(consumer));
        loop {
            let permit = tokio::select! {
                biased;
                () = self.job.shutdown.cancelled() => break,
                permit = Arc::clone(permits).acquire_owned() => permit.ok()?,
            };
            let (batch, ended) = self.gather(&mut messages).await;
            if !batch.is_empty() {
                *reopening = Reopening::new();
                let job = Arc::clone(&self.job);
                tasks.spawn(async move {
                    let _permit = permit;
                    let abort = job.abort.clone();
                    tokio::select! {
                        biased;
                        () = abort.cancelled() => {}
                        () = job.work_on(batch) => {}
                    }
                });
            }
            if ended.is_some() {
                return ended;
            }
        }
        // Only now may the consumer go: settling may need what it stands on.
        tasks.close();
        tasks.wait().await;
        None
    }

    /// The next messages; none if told to stop. Why the consumer ended comes with the last of them.
    async fn gather(
        &self,
        messages: &mut (impl Stream<Item = Result<Message, ConsumeError>> + Unpin),
    ) -> (Vec<Message>, Option<ConsumeError>) {
        let mut batch = Vec::new();
        let mut until = None;
        while batch.len() < self.gather.most {
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.job.shutdown.cancelled() => break,
                next = messages.next() => match next {
                    Some(Ok(message)) => batch.push(message),
                    Some(Err(error)) => return (batch, Some(error)),
                    None => return (batch, Some(ConsumeError("the consumer is over".into()))),
                },
                () = over => break,
            }
            until.get_or_insert_with(|| Instant::now() + self.gather.wait);
        }
        (batch, None)
    }
}

/// A consumer as a stream: what was begun for one poll goes on at the next, so that giving up waiting loses nothing.
fn messages(consumer: Box<dyn Consumer>) -> impl Stream<Item = Result<Message, ConsumeError>> {
    stream::unfold(Some(consumer), |consumer| async {
        let mut consumer = consumer?;
        match consumer.next().await {
            Ok(message) => Some((Ok(message), Some(consumer))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl Job {
    async fn work_on(&self, messages: Vec<Message>) {
        let mut batch = Vec::with_capacity(messages.len());
        let mut unsettled = Vec::with_capacity(messages.len());
        for message in messages {
            match LifecycleEvent::decode(message.envelope.data.clone()) {
                Ok(event) => {
                    let (envelope, redelivered) = (message.envelope.clone(), message.redelivered);
                    batch.push(Work {
                        envelope,
                        event,
                        redelivered,
                    });
                    unsettled.push(message);
                }
                Err(error) => {
                    tracing::error!(worker = self.worker, event = %message.envelope.id, %error, "not a lifecycle event");
                    self.settle(vec![message], Settlement::Reject).await;
                }
            }
        }
        if batch.is_empty() {
            return;
        }
        let settlement = self.handle(&batch).instrument(self.span(&batch)).await;
        self.settle(unsettled, settlement).await;
    }

    /// Calls the handler, and answers what is to become of the messages; a failing one has made its pause by then.
    async fn handle(&self, batch: &[Work]) -> Settlement {
        let begun = Instant::now();
        let in_flight = InFlight::begin(self.worker, batch.len());
        let handled = AssertUnwindSafe(self.handler.handle_batch(batch)).catch_unwind().await;
        drop(in_flight);
        metrics::histogram!("usher_worker_handle_seconds", "worker" => self.worker).record(begun.elapsed());
        let result = handled.unwrap_or_else(|_| Err(WorkError::Retry("the handler panicked".into())));
        let span = Span::current();
        match result {
            Ok(()) => {
                self.pauses.succeeded();
                span.record("result", "done");
                Settlement::Ack
            }
            Err(WorkError::Retry(why)) => {
                span.record("result", "retry");
                let pause = self.pauses.failed(begun);
                tracing::warn!(
                    worker = self.worker,
                    error = why,
                    ?pause,
                    "not dealt with; to be tried again"
                );
                tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
                Settlement::Retry
            }
            Err(WorkError::Reject(why)) => {
                span.record("result", "reject");
                tracing::error!(
                    worker = self.worker,
                    error = why,
                    "cannot be dealt with; moved to the dead letters"
                );
                Settlement::Reject
            }
        }
    }

    async fn settle(&self, messages: Vec<Message>, settlement: Settlement) {
        let result = match settlement {
            Settlement::Ack => "done",
            Settlement::Retry => "retry",
            Settlement::Reject => "reject",
        };
        let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        metrics::counter!("usher_worker_messages_total", "worker" => self.worker, "result" => result).increment(count);
        futures::future::join_all(messages.into_iter().map(|message| message.settle(settlement))).await;
    }

    /// The span of one run. It continues the trace of the message if this is the first run of the only message; otherwise
    /// it links to what caused it.
    fn span(&self, batch: &[Work]) -> Span {
        let span = tracing::info_span!(
            "job",
            otel.name = format!("job.{}", self.worker),
            otel.kind = "consumer",
            worker = self.worker,
            messages = batch.len(),
            event = Empty,
            result = Empty,
        );
        match batch {
            [work] => {
                span.record("event", tracing::field::display(work.envelope.id));
                if work.redelivered {
                    trace::link_remote(&span, &work.envelope.trace_parent);
                } else {
                    trace::set_remote_parent(&span, &work.envelope.trace_parent);
                }
            }
            batch => batch
                .iter()
                .for_each(|work| trace::link_remote(&span, &work.envelope.trace_parent)),
        }
        span
    }
}

/// Counts messages that are being worked on, also when the work is dropped.
struct InFlight(metrics::Gauge, f64);

impl InFlight {
    fn begin(worker: &'static str, messages: usize) -> Self {
        let messages = f64::from(u32::try_from(messages).unwrap_or(u32::MAX));
        let gauge = metrics::gauge!("usher_worker_in_flight", "worker" => worker);
        gauge.increment(messages);
        Self(gauge, messages)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(self.1);
    }
}
