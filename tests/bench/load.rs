//! A closed loop: so many calls in flight, for so long.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Calls a second. `call` is given a number of its own each time; a call that fails ends the measurement.
pub(crate) async fn closed_loop<F, W>(in_flight: usize, time: Duration, call: F) -> Result<f64>
where
    F: Fn(u64) -> W + Send + Sync + 'static,
    W: Future<Output = Result<()>> + Send,
{
    let (call, number, done) = (Arc::new(call), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (call, number, done) = (Arc::clone(&call), Arc::clone(&number), Arc::clone(&done));
        loops.spawn(async move {
            while began.elapsed() < time {
                call(number.fetch_add(1, Ordering::Relaxed)).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds fit")]
    Ok(done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}
