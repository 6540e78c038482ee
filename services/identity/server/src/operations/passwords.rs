//! Password hashing, in a bounded pool of its own, so that sign-ins never starve anything else.

use std::sync::Arc;

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use usher_core::refusal::Refusal;

use super::engine::Failure;

/// Characters that a password has at least and at most. The lower bound is NIST SP 800-63B's for a single factor, rounded up.
pub const LENGTH: std::ops::RangeInclusive<usize> = 10..=128;
/// Hashings that may wait per hashing that runs.
const WAITING_PER_WORKER: usize = 64;

/// Hashes and verifies with Argon2id. The library's default are the parameters that OWASP recommends: 19 MiB, 2 passes.
#[derive(Clone)]
pub struct Passwords {
    hashing: Argon2<'static>,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// What unknown accounts are verified against, so that they take as long as known ones (S10).
    decoy: Arc<str>,
}

impl Passwords {
    /// A pool of so many threads.
    pub fn try_new(hashing: Argon2<'static>, workers: usize) -> Result<Self, Failure> {
        let workers = workers.max(1);
        Ok(Self {
            running: Arc::new(Semaphore::new(workers)),
            admitted: Arc::new(Semaphore::new(workers * WAITING_PER_WORKER)),
            decoy: hash_now(&hashing, "a password that nobody has")?.into(),
            hashing,
        })
    }

    /// The hash of a password, in PHC form.
    pub async fn hash(&self, password: String) -> Result<String, Failure> {
        let hashing = self.hashing.clone();
        self.turn().await?.run(move || hash_now(&hashing, &password)).await?
    }

    /// As [`Self::hash`], after a check that may refuse it. That runs once the password's turn has come, so that it knows
    /// what became of those before.
    pub async fn hash_after(
        &self,
        check: impl Future<Output = Result<(), Failure>>,
        password: String,
    ) -> Result<String, Failure> {
        let turn = self.turn().await?;
        check.await?;
        let hashing = self.hashing.clone();
        turn.run(move || hash_now(&hashing, &password)).await?
    }

    /// Whether a password belongs to a hash. Without a hash the answer is no, and takes as long.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Failure> {
        let (hashing, decoy) = (self.hashing.clone(), Arc::clone(&self.decoy));
        let turn = self.turn().await?;
        turn.run(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(&decoy);
            let right = hashing.verify_password(password.as_bytes(), hash).is_ok();
            known && right
        })
        .await
    }

    /// Waits for a thread.
    async fn turn(&self) -> Result<Turn<'_>, Failure> {
        let admitted = self
            .admitted
            .try_acquire()
            .map_err(|_| Failure::Refused(Refusal::Overloaded))?;
        let running = self.running.acquire().await.map_err(|_| stopped())?;
        Ok(Turn {
            _admitted: admitted,
            _running: running,
        })
    }
}

/// A thread that is one's own.
struct Turn<'a> {
    _admitted: SemaphorePermit<'a>,
    _running: SemaphorePermit<'a>,
}

impl Turn<'_> {
    async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        tokio::task::spawn_blocking(work).await.map_err(|_| stopped())
    }
}

fn stopped() -> Failure {
    Failure::Internal("password hashing has stopped".into())
}

fn hash_now(hashing: &Argon2<'_>, password: &str) -> Result<String, Failure> {
    let fault =
        |error: argon2::password_hash::Error| Failure::Internal(format!("a password cannot be hashed: {error}"));
    metrics::counter!("usher_passwords_hashed_total").increment(1);
    let hash: argon2::password_hash::phc::PasswordHash = hashing.hash_password(password.as_bytes()).map_err(fault)?;
    Ok(hash.to_string())
}
