//! What only the in-process bus promises: where it goes on after a crash, and how much it holds. The clock is tokio's, and
//! stands still unless everything waits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use usher_bus::memory::{EventLog, MemoryBus};
use usher_bus::{Envelope, INVITATION, PublishError, REMINDER, Settlement, Subscriber};

use crate::bus::{Bus, calls, event, next, nothing, number, take};

/// A log in memory. A position is the number of events up to it.
#[derive(Default)]
struct Log {
    events: Mutex<Vec<Envelope>>,
    positions: Mutex<Vec<(String, String)>>,
    read_to: AtomicUsize,
    saves: AtomicUsize,
    broken: AtomicBool,
    read_only: AtomicBool,
}

impl Log {
    fn position(&self, queue: &str) -> Option<String> {
        let positions = self.positions.lock().unwrap();
        positions
            .iter()
            .rev()
            .find(|(name, _)| name == queue)
            .map(|(_, position)| position.clone())
    }

    fn fault(&self) -> Result<(), String> {
        if self.broken.load(Ordering::Relaxed) {
            Err("the database is away".to_owned())
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl EventLog for Log {
    async fn read(
        &self,
        _queue: &str,
        after: Option<String>,
        routing_keys: &[&str],
        limit: usize,
    ) -> Result<(Vec<(String, Envelope)>, Option<String>), String> {
        self.fault()?;
        let events = self.events.lock().unwrap();
        let mut reached = after.as_deref().map_or(0, |it| it.parse().unwrap());
        let mut page = Vec::new();
        for event in events.iter().skip(reached) {
            if page.len() == limit {
                break;
            }
            reached += 1;
            if routing_keys.contains(&event.routing_key.as_str()) {
                page.push((reached.to_string(), event.clone()));
            }
        }
        self.read_to.fetch_max(reached, Ordering::Relaxed);
        Ok((page, (reached > 0).then(|| reached.to_string())))
    }

    async fn load_position(&self, queue: &str) -> Result<Option<String>, String> {
        self.fault()?;
        Ok(self.position(queue))
    }

    async fn save_position(&self, queue: &str, position: &str) -> Result<(), String> {
        if self.read_only.load(Ordering::Relaxed) {
            return Err("the database takes no writes".to_owned());
        }
        self.saves.fetch_add(1, Ordering::Relaxed);
        self.positions
            .lock()
            .unwrap()
            .push((queue.to_owned(), position.to_owned()));
        Ok(())
    }
}

/// The in-process bus with a log of its own.
pub(crate) struct Memory {
    log: Arc<Log>,
    wake: watch::Sender<u64>,
    bus: MemoryBus,
}

impl Memory {
    pub(crate) fn fresh() -> Self {
        Self::on(Arc::default())
    }

    fn on(log: Arc<Log>) -> Self {
        let (wake, woken) = watch::channel(0);
        Self {
            bus: MemoryBus::new(log.clone(), woken),
            log,
            wake,
        }
    }

    /// As a process finds it that starts after another has crashed: the log is there, the bus is new.
    fn after_a_crash(&self) -> Self {
        Self::on(Arc::clone(&self.log))
    }

    fn commit(&self, batch: &[Envelope]) {
        self.log.events.lock().unwrap().extend_from_slice(batch);
    }
}

#[async_trait]
impl Bus for Memory {
    async fn publish(&mut self, batch: &[Envelope]) -> Result<(), PublishError> {
        self.commit(batch);
        self.wake.send_modify(|commits| *commits += 1);
        Ok(())
    }

    fn subscriber(&self) -> &dyn Subscriber {
        &self.bus
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_all_past_the_first_unsettled_event_comes_again() {
    let memory = Memory::fresh();
    memory.commit(&calls(0..4));
    let mut consumer = memory.bus.consume(INVITATION, 10).await.unwrap();
    let mut messages = Vec::new();
    for _ in 0..4 {
        messages.push(next(&mut consumer).await);
    }
    let last = messages.pop().unwrap();
    let unsettled = messages.remove(1);
    for message in messages {
        message.settle(Settlement::Ack).await;
    }
    sleep(Duration::from_millis(150)).await;

    let restarted = memory.after_a_crash();
    let mut again = restarted.bus.consume(INVITATION, 10).await.unwrap();
    assert_eq!(take(&mut again, 3).await, [1, 2, 3], "0 was settled, and all before it");
    drop((unsettled, last));
}

#[tokio::test(start_paused = true)]
async fn the_position_moves_past_events_that_are_for_others() {
    let mut memory = Memory::fresh();
    let batch = [
        event(0, "user.created"),
        event(1, "invitation.due"),
        event(2, "user.invited"),
        event(3, "user.invited"),
    ];
    memory.publish(&batch).await.unwrap();
    let mut invitations = memory.bus.consume(INVITATION, 10).await.unwrap();
    let _reminders = memory.bus.consume(REMINDER, 10).await.unwrap();
    sleep(Duration::from_millis(150)).await;
    assert_eq!(memory.log.position(REMINDER.name).as_deref(), Some("4"));
    assert_eq!(memory.log.position(INVITATION.name), None, "its event is unsettled");
    take(&mut invitations, 1).await;
    sleep(Duration::from_millis(150)).await;
    assert_eq!(memory.log.position(INVITATION.name).as_deref(), Some("4"));
}

#[tokio::test(start_paused = true)]
async fn positions_are_saved_in_batches_and_at_the_end() {
    let memory = Memory::fresh();
    memory.commit(&calls(0..1_000));
    let mut consumer = memory.bus.consume(INVITATION, 50).await.unwrap();
    take(&mut consumer, 1_000).await;
    drop(consumer);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(memory.log.position(INVITATION.name).as_deref(), Some("1000"));
    let saves = memory.log.saves.load(Ordering::Relaxed);
    assert!(saves <= 10, "{saves} saves for 1,000 events");
}

#[tokio::test(start_paused = true)]
async fn a_position_that_could_not_be_saved_is_saved_later() {
    let memory = Memory::fresh();
    memory.commit(&calls(0..1));
    let mut consumer = memory.bus.consume(INVITATION, 1).await.unwrap();
    let message = next(&mut consumer).await;
    memory.log.read_only.store(true, Ordering::Relaxed);
    message.settle(Settlement::Ack).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(memory.log.position(INVITATION.name), None);
    memory.log.read_only.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(memory.log.position(INVITATION.name).as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_ends_the_consumer_and_the_next_goes_on() {
    let memory = Memory::fresh();
    let mut consumer = memory.bus.consume(INVITATION, 1).await.unwrap();
    memory.log.broken.store(true, Ordering::Relaxed);
    assert!(consumer.next().await.unwrap_err().0.contains("the database is away"));
    assert!(memory.bus.consume(INVITATION, 1).await.is_err());
    memory.log.broken.store(false, Ordering::Relaxed);
    drop(consumer);
    memory.commit(&calls(0..1));
    let mut consumer = memory.bus.consume(INVITATION, 1).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_from_one_second_doubling_to_thirty_and_holds_up_nobody() {
    let memory = Memory::fresh();
    memory.commit(&calls(0..3));
    let mut consumer = memory.bus.consume(INVITATION, 1).await.unwrap();
    next(&mut consumer).await.settle(Settlement::Retry).await;
    let start = Instant::now();
    assert_eq!(take(&mut consumer, 2).await, [1, 2]);
    assert!(start.elapsed() < Duration::from_millis(10));
    let mut pauses = Vec::new();
    let mut settled = start;
    for _ in 0..7 {
        let message = next(&mut consumer).await;
        assert_eq!(number(&message.envelope), 0);
        pauses.push(settled.elapsed().as_secs());
        settled = Instant::now();
        message.settle(Settlement::Retry).await;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_handed_out_when_it_is_committed_and_after_a_second_if_nobody_says_so() {
    let mut memory = Memory::fresh();
    let mut consumer = memory.bus.consume(INVITATION, 10).await.unwrap();
    nothing(&mut consumer).await;
    let committed = Instant::now();
    memory.publish(&calls(0..1)).await.unwrap();
    take(&mut consumer, 1).await;
    assert!(committed.elapsed() < Duration::from_millis(10));
    memory.commit(&calls(1..2));
    take(&mut consumer, 1).await;
    assert!(committed.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_signal_that_is_gone_leaves_the_bus_reading_once_a_second() {
    let memory = Memory::fresh();
    let Memory { log, wake, bus } = memory;
    let mut consumer = bus.consume(INVITATION, 10).await.unwrap();
    drop(wake);
    nothing(&mut consumer).await;
    log.events.lock().unwrap().extend(calls(0..1));
    assert_eq!(take(&mut consumer, 1).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_has_one_consumer_at_a_time() {
    let memory = Memory::fresh();
    let first = memory.bus.consume(INVITATION, 1).await.unwrap();
    assert!(
        memory
            .bus
            .consume(INVITATION, 1)
            .await
            .is_err_and(|it| it.0.contains("has a consumer already"))
    );
    drop(first);
    memory.bus.consume(INVITATION, 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_stays_unsettled_holds_back_a_bounded_window() {
    let memory = Memory::fresh();
    memory.commit(&calls(0..12_000));
    let mut consumer = memory.bus.consume(INVITATION, 500).await.unwrap();
    let stuck = next(&mut consumer).await;
    assert_eq!(take(&mut consumer, 9_999).await, (1..10_000).collect::<Vec<_>>());
    nothing(&mut consumer).await;
    assert_eq!(memory.log.read_to.load(Ordering::Relaxed), 10_000);
    stuck.settle(Settlement::Ack).await;
    assert_eq!(take(&mut consumer, 2_000).await, (10_000..12_000).collect::<Vec<_>>());
}
