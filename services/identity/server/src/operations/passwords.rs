//! Password hashing, in a bounded pool of its own, so that sign-ins never starve anything else.

use std::sync::Arc;

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;
use usher_core::refusal::Refusal;

use super::engine::Failure;

/// Characters that a password has at least and at most. The lower bound is NIST SP 800-63B's for a single factor, rounded up.
pub const LENGTH: std::ops::RangeInclusive<usize> = 10..=128;
/// Hashings that may wait per hashing that runs.
const WAITING_PER_WORKER: usize = 64;

/// Hashes and verifies with Argon2id at the parameters that OWASP recommends (19 MiB, 2 passes), the library's default.
#[derive(Clone)]
pub struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// What unknown accounts are verified against, so that they take as long as known ones (S10).
    decoy: Arc<str>,
}

impl Passwords {
    /// A pool of so many threads.
    pub fn try_new(workers: usize) -> Result<Self, Failure> {
        let workers = workers.max(1);
        Ok(Self {
            running: Arc::new(Semaphore::new(workers)),
            admitted: Arc::new(Semaphore::new(workers * WAITING_PER_WORKER)),
            decoy: hash_now("a password that nobody has")?.into(),
        })
    }

    /// The hash of a password, in PHC form.
    pub async fn hash(&self, password: String) -> Result<String, Failure> {
        self.run(move || hash_now(&password)).await?
    }

    /// Whether a password belongs to a hash. Without a hash the answer is no, and takes as long.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Failure> {
        let decoy = Arc::clone(&self.decoy);
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(&decoy);
            let right = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
            known && right
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let _admitted = self
            .admitted
            .try_acquire()
            .map_err(|_| Failure::Refused(Refusal::Overloaded))?;
        let stopped = || Failure::Internal("password hashing has stopped".into());
        let _running = self.running.acquire().await.map_err(|_| stopped())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| stopped())
    }
}

fn hash_now(password: &str) -> Result<String, Failure> {
    let fault =
        |error: argon2::password_hash::Error| Failure::Internal(format!("a password cannot be hashed: {error}"));
    let hash: argon2::password_hash::phc::PasswordHash =
        Argon2::default().hash_password(password.as_bytes()).map_err(fault)?;
    Ok(hash.to_string())
}
