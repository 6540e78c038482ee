//! One queue's reader: a task that owns everything about the queue, so that there is nothing to lock.
//!
//! It ends when its consumer is dropped *and* every message that it handed out is settled or dropped; then it saves the
//! position for the last time and makes room for the next consumer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::EventLog;
use crate::{ConsumeError, Envelope, Message, Queue, Settle, Settlement};

/// How many events past the settled position are held at most.
const WINDOW: usize = 10_000;
/// How many are read at once.
const PAGE: usize = 256;
/// The log is read this often even if nobody says that it grew.
const TICK: Duration = Duration::from_secs(1);
/// The position is saved after this long, or after this many settlements.
const SAVE_AFTER: Duration = Duration::from_millis(100);
const SAVE_EVERY: usize = 200;
/// How long a `Retry` waits: it doubles from the first figure to the second.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// An event of the window: counted on from the first that was ever read, so that it can be found by subtraction.
type Seq = u64;

pub(super) struct Reader {
    log: Arc<dyn EventLog>,
    queue: Queue,
    prefetch: usize,
    messages: mpsc::Sender<Result<Message, ConsumeError>>,
    settled: mpsc::UnboundedReceiver<(Seq, Settlement)>,
    /// For the messages to come. `None` once there will be none; the channel then ends with the last message.
    settle: Option<mpsc::UnboundedSender<(Seq, Settlement)>>,

    /// Up to where the log was read.
    read_to: Option<String>,
    /// There may be more in the log.
    unread: bool,
    window: VecDeque<Slot>,
    /// The `Seq` of the window's first.
    first: Seq,
    fresh: VecDeque<(Seq, Envelope)>,
    out: HashMap<Seq, Handed>,
    retries: BTreeMap<(Instant, Seq), Handed>,

    /// Up to where all is settled, if that was not saved yet.
    unsaved: Option<String>,
    settlements: usize,
    save_at: Option<Instant>,
}

struct Slot {
    /// Everything up to here is done with when this event and all before it are.
    up_to: String,
    settled: bool,
}

/// An event that was handed out, and how often.
struct Handed {
    envelope: Envelope,
    times: u32,
}

impl Reader {
    pub(super) fn new(
        log: Arc<dyn EventLog>,
        queue: Queue,
        prefetch: usize,
        position: Option<String>,
        messages: mpsc::Sender<Result<Message, ConsumeError>>,
    ) -> Self {
        let (settle, settled) = mpsc::unbounded_channel();
        Self {
            log,
            queue,
            prefetch,
            messages,
            settled,
            settle: Some(settle),
            read_to: position,
            unread: true,
            window: VecDeque::new(),
            first: 0,
            fresh: VecDeque::new(),
            out: HashMap::new(),
            retries: BTreeMap::new(),
            unsaved: None,
            settlements: 0,
            save_at: None,
        }
    }

    /// Runs until its consumer and all its messages are gone. `place` is held until then.
    pub(super) async fn run(mut self, mut wake: watch::Receiver<u64>, place: OwnedMutexGuard<()>) {
        let messages = self.messages.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut awake = true;
        loop {
            self.hand_out();
            if self.wants_more() {
                self.read().await;
                continue;
            }
            let open = self.settle.is_some();
            let retry_at = self
                .retries
                .first_key_value()
                .map(|((due, _), _)| *due)
                .filter(|_| self.has_room());
            let save_at = self.save_at;
            tokio::select! {
                settled = self.settled.recv() => match settled {
                    Some((seq, settlement)) => self.settle(seq, settlement),
                    None => break,
                },
                () = messages.closed(), if open => self.close(),
                changed = wake.changed(), if open && awake => {
                    awake = changed.is_ok();
                    self.unread = true;
                }
                () = until(retry_at), if retry_at.is_some() => {}
                () = until(save_at), if save_at.is_some() => self.save().await,
                _ = tick.tick(), if open => self.unread = true,
            }
            if self.settlements >= SAVE_EVERY {
                self.save().await;
            }
        }
        self.save().await;
        drop(place);
    }

    fn has_room(&self) -> bool {
        self.settle.is_some() && self.out.len() < self.prefetch
    }

    fn wants_more(&self) -> bool {
        self.unread && self.has_room() && self.fresh.len() < self.prefetch && self.window.len() < WINDOW
    }

    /// Hands out what is due: first what has waited for its retry, then what is new.
    fn hand_out(&mut self) {
        let now = Instant::now();
        while self.has_room() {
            let due = self.retries.first_entry().filter(|entry| entry.key().0 <= now);
            let (seq, handed) = if let Some(entry) = due {
                let ((_, seq), handed) = entry.remove_entry();
                (seq, handed)
            } else if let Some((seq, envelope)) = self.fresh.pop_front() {
                (seq, Handed { envelope, times: 0 })
            } else {
                return;
            };
            let settle = MemorySettle {
                seq,
                settled: self.settle.clone(),
            };
            let message = Message::new(handed.envelope.clone(), handed.times > 0, Box::new(settle));
            self.out.insert(
                seq,
                Handed {
                    times: handed.times + 1,
                    ..handed
                },
            );
            // There is room for `prefetch` messages and an error. If the consumer is gone, the message is dropped here,
            // and comes back as a `Retry`.
            let _ = self.messages.try_send(Ok(message));
        }
    }

    async fn read(&mut self) {
        let limit = PAGE.min(WINDOW - self.window.len());
        let page = self
            .log
            .read(self.queue.name, self.read_to.clone(), self.queue.routing_keys, limit)
            .await;
        let (events, reached) = match page {
            Ok(page) => page,
            Err(error) => {
                let _ = self.messages.try_send(Err(ConsumeError(error)));
                self.close();
                return;
            }
        };
        self.unread = reached.is_some() && reached != self.read_to;
        for (position, envelope) in events {
            let seq = self.first + self.window.len() as Seq;
            self.window.push_back(Slot {
                up_to: position,
                settled: false,
            });
            self.fresh.push_back((seq, envelope));
        }
        if let Some(reached) = reached.filter(|_| self.unread) {
            self.read_to = Some(reached.clone());
            match self.window.back_mut() {
                Some(last) => last.up_to = reached,
                None => self.advance_to(reached),
            }
        }
    }

    fn settle(&mut self, seq: Seq, settlement: Settlement) {
        let Some(handed) = self.out.remove(&seq) else { return };
        match settlement {
            Settlement::Retry => {
                let pause = RETRY_FIRST
                    .saturating_mul(1 << (handed.times - 1).min(5))
                    .min(RETRY_MAX);
                self.retries.insert((Instant::now() + pause, seq), handed);
                return;
            }
            Settlement::Reject => {
                let (id, key) = (handed.envelope.id, &handed.envelope.routing_key);
                tracing::error!(queue = self.queue.name, event = %id, routing_key = key, "a message was rejected for good");
            }
            Settlement::Ack => {}
        }
        // A `Seq` that is out lies in the window: slots leave it settled, and this one was not.
        if let Some(slot) = usize::try_from(seq - self.first)
            .ok()
            .and_then(|at| self.window.get_mut(at))
        {
            slot.settled = true;
        }
        self.settlements += 1;
        while self.window.front().is_some_and(|slot| slot.settled) {
            if let Some(slot) = self.window.pop_front() {
                self.first += 1;
                self.advance_to(slot.up_to);
            }
        }
    }

    fn advance_to(&mut self, position: String) {
        self.unsaved = Some(position);
        self.save_at.get_or_insert_with(|| Instant::now() + SAVE_AFTER);
    }

    async fn save(&mut self) {
        self.settlements = 0;
        self.save_at = None;
        let Some(position) = self.unsaved.take() else { return };
        if let Err(error) = self.log.save_position(self.queue.name, &position).await {
            tracing::warn!(
                queue = self.queue.name,
                error,
                "the position was not saved; it will be tried again"
            );
            self.unsaved = Some(position);
            self.save_at = Some(Instant::now() + TICK);
        }
    }

    /// No more messages; only what is out can still be settled.
    fn close(&mut self) {
        self.settle = None;
        self.unread = false;
        self.fresh.clear();
        self.retries.clear();
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

struct MemorySettle {
    seq: Seq,
    settled: Option<mpsc::UnboundedSender<(Seq, Settlement)>>,
}

impl MemorySettle {
    fn tell(&mut self, settlement: Settlement) {
        if let Some(settled) = self.settled.take() {
            // Fails only when the reader is gone; then the event comes again from the saved position.
            let _ = settled.send((self.seq, settlement));
        }
    }
}

#[async_trait]
impl Settle for MemorySettle {
    async fn settle(mut self: Box<Self>, settlement: Settlement) {
        self.tell(settlement);
    }
}

/// Dropped unsettled, a message is delivered again.
impl Drop for MemorySettle {
    fn drop(&mut self) {
        self.tell(Settlement::Retry);
    }
}
