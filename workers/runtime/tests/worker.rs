//! What a worker does with messages, whatever its handler does: on a bus that is filled by hand and a clock that is moved.

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use usher_bus::{INVITATION, Settlement};
use usher_platform::Context;
use usher_worker_runtime::{BatchHandler, Gather, Handler, Work, WorkError, Worker};
use uuid::Uuid;

use self::support::{FakeBus, Next, context, envelope};

/// Does what the delivery's name says, after it got a permit.
struct Puppet {
    permits: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Puppet {
    fn free() -> Self {
        Self::with(Semaphore::MAX_PERMITS)
    }

    fn with(permits: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            running: Arc::default(),
            most: Arc::default(),
        }
    }
}

#[async_trait]
impl Handler for Puppet {
    async fn handle(&self, work: &Work) -> Result<(), WorkError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        match work.event.delivery_id.as_str() {
            "retry" => Err(WorkError::Retry("away".into())),
            "reject" => Err(WorkError::Reject("nonsense".into())),
            "panic" => panic!("as told"),
            _ => Ok(()),
        }
    }
}

fn start(bus: &FakeBus, handler: Puppet, concurrency: usize, context: &Context) -> JoinHandle<()> {
    let concurrency = NonZeroUsize::new(concurrency).unwrap();
    let worker = Worker::new("test", INVITATION, Arc::new(bus.clone()), handler, concurrency, context);
    tokio::spawn(worker.run(context.readiness.condition("bus")))
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acked_retried_or_rejected_as_the_handler_says_and_a_panic_is_a_retry() {
    let (bus, context) = (FakeBus::default(), context());
    let mut nonsense = envelope(5, "");
    nonsense.data = vec![0xff].into();
    for envelope in [
        envelope(1, "done"),
        envelope(2, "retry"),
        envelope(3, "reject"),
        envelope(4, "panic"),
        nonsense,
    ] {
        bus.0.put(Next::Message(envelope));
    }
    start(&bus, Puppet::free(), 8, &context);
    let mut settled = bus.0.settle_of(5).await;
    settled.sort_by_key(|(id, _)| *id);
    let settled: Vec<_> = settled.into_iter().map(|(_, settlement)| settlement).collect();
    assert_eq!(
        settled,
        [
            Settlement::Ack,
            Settlement::Retry,
            Settlement::Reject,
            Settlement::Retry,
            Settlement::Reject
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_is_worked_on_or_asked_for_than_allowed() {
    let (bus, context) = (FakeBus::default(), context());
    for number in 0..20 {
        bus.0.put(Next::Message(envelope(number, "done")));
    }
    let puppet = Puppet::with(0);
    let (permits, running, most) = (puppet.permits.clone(), puppet.running.clone(), puppet.most.clone());
    start(&bus, puppet, 3, &context);
    while running.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    permits.add_permits(20);
    bus.0.settle_of(20).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(bus.0.prefetch.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failing_dependency_is_asked_ever_more_seldom() {
    let (bus, context) = (FakeBus::default(), context());
    start(&bus, Puppet::free(), 1, &context);
    let (mut before, mut pauses) = (Instant::now(), Vec::new());
    for number in 1..=6_u8 {
        bus.0.put(Next::Message(envelope(number.into(), "retry")));
        bus.0.settle_of(number.into()).await;
        pauses.push(before.elapsed().as_secs());
        before = Instant::now();
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_ends_is_opened_again_and_readiness_tells() {
    let (bus, context) = (FakeBus::default(), context());
    let mut ready = context.readiness.watch();
    start(&bus, Puppet::free(), 1, &context);
    ready.wait_for(|ready| *ready).await.unwrap();
    bus.0.put(Next::End);
    ready.wait_for(|ready| !*ready).await.unwrap();
    bus.0.put(Next::Message(envelope(1, "done")));
    ready.wait_for(|ready| *ready).await.unwrap();
    bus.0.settle_of(1).await;
    assert_eq!(bus.0.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_what_was_begun_is_finished_and_nothing_new_is_taken() {
    let (bus, context) = (FakeBus::default(), context());
    let puppet = Puppet::with(0);
    let (permits, running) = (puppet.permits.clone(), puppet.running.clone());
    bus.0.put(Next::Message(envelope(1, "done")));
    let worker = start(&bus, puppet, 2, &context);
    while running.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    context.shutdown.cancel();
    bus.0.put(Next::Message(envelope(2, "done")));
    assert!(!worker.is_finished());
    permits.add_permits(2);
    worker.await.unwrap();
    assert_eq!(bus.0.settled(), [(Uuid::from_u128(1), Settlement::Ack)]);
}

#[tokio::test(start_paused = true)]
async fn at_abort_what_still_runs_is_dropped_unsettled() {
    let (bus, context) = (FakeBus::default(), context());
    let puppet = Puppet::with(0);
    let running = puppet.running.clone();
    bus.0.put(Next::Message(envelope(1, "done")));
    let worker = start(&bus, puppet, 2, &context);
    while running.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    context.shutdown.cancel();
    context.abort.cancel();
    worker.await.unwrap();
    assert!(bus.0.settled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pause_before_a_retry_does_not_hold_up_the_shutdown() {
    let (bus, context) = (FakeBus::default(), context());
    let before = Instant::now();
    bus.0.put(Next::Message(envelope(1, "retry")));
    let puppet = Puppet::free();
    let most = puppet.most.clone();
    let worker = start(&bus, puppet, 1, &context);
    while most.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    context.shutdown.cancel();
    worker.await.unwrap();
    assert_eq!(bus.0.settled(), [(Uuid::from_u128(1), Settlement::Retry)]);
    assert!(before.elapsed() < Duration::from_secs(1));
}

/// Notes the size of each batch; fails the ones that hold a message called "retry".
struct Batches(Arc<std::sync::Mutex<Vec<usize>>>);

#[async_trait]
impl BatchHandler for Batches {
    async fn handle_batch(&self, batch: &[Work]) -> Result<(), WorkError> {
        self.0.lock().unwrap().push(batch.len());
        if batch.iter().any(|work| work.event.delivery_id == "retry") {
            return Err(WorkError::Retry("away".into()));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_gathered_up_to_a_number_or_a_time_and_share_their_fate() {
    let (bus, context, sizes) = (FakeBus::default(), context(), Arc::default());
    for number in 0..250 {
        bus.0.put(Next::Message(envelope(number, "done")));
    }
    let gather = Gather {
        most: 200,
        wait: Duration::from_millis(100),
    };
    let handler = Batches(Arc::clone(&sizes));
    let one = NonZeroUsize::MIN;
    let worker = Worker::batching(
        "test",
        INVITATION,
        Arc::new(bus.clone()),
        handler,
        gather,
        one,
        &context,
    );
    tokio::spawn(worker.run(context.readiness.condition("bus")));
    bus.0.settle_of(250).await;
    assert_eq!(*sizes.lock().unwrap(), [200, 50]);
    assert_eq!(bus.0.prefetch.load(Ordering::SeqCst), 200);

    bus.0.put(Next::Redelivered(envelope(300, "done")));
    bus.0.put(Next::Message(envelope(301, "retry")));
    let settled = bus.0.settle_of(252).await;
    assert!(
        settled[250..]
            .iter()
            .all(|(_, settlement)| *settlement == Settlement::Retry),
        "{:?}",
        &settled[250..]
    );
}
