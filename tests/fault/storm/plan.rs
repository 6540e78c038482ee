//! Everything that chance decides, from one seed.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use usher_tests::environment::smtp_sink::Behaviour;
use usher_tests::system::Worker;

/// Repeats a run.
pub(crate) const SEED_VARIABLE: &str = "USHER_FAULT_SEED";
/// How many people are invited, and how many by one call.
pub(crate) const PEOPLE: usize = 2_000;
pub(crate) const PEOPLE_OF_A_CALL: usize = 20;
/// So many calls follow each kill, until all have been made. With the first ones nothing has been killed yet.
const CALLS_AFTER_A_KILL: usize = 5;
/// How often each process is killed.
const KILLS_OF_EACH: usize = 10;
/// How the broker is restarted, evenly between the kills: stopped in order, or killed too.
pub(crate) const BROKER_RESTARTS: [Stop; 3] = [Stop::Killed, Stop::InOrder, Stop::Killed];
/// The one step of the reminder ladder: seconds of the service's clock.
pub(crate) const REMINDED_AFTER: i64 = 180;
/// The outbox's lanes are leased for 30 s: so much later, a new process has those of one that died.
const LANES_LAPSE: u64 = 31;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Identity,
    Worker(Worker),
}

/// How the broker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    InOrder,
    Killed,
}

/// One kill.
#[derive(Debug, Clone)]
pub(crate) struct Kill {
    pub(crate) target: Target,
    /// After so many mails, or so long, whichever comes first.
    pub(crate) after_mails: usize,
    pub(crate) at_most: Duration,
    /// How long it stays dead, and how far the service's clock is moved meanwhile.
    pub(crate) dead_for: Duration,
    pub(crate) ahead: Duration,
}

/// One of those who are invited.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) address: String,
    /// What becomes of the first mails to them.
    pub(crate) mails: Vec<Behaviour>,
}

/// One call of InviteUsers: the people, and after how long their accounts expire.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// After so many kills, and then so long.
    pub(crate) after_kills: usize,
    pub(crate) then: Duration,
    pub(crate) addresses: Vec<String>,
    pub(crate) expires_after: Option<Duration>,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) people: Vec<Person>,
    pub(crate) calls: Vec<Call>,
    pub(crate) kills: Vec<Kill>,
}

/// The seed that was asked for, or a new one.
pub(crate) fn seed() -> Result<u64> {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{SEED_VARIABLE} is not a number")),
        Err(_) => Ok(RandomState::new().hash_one(std::process::id()) % 1_000_000),
    }
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let people: Vec<_> = (0..PEOPLE)
            .map(|number| Person {
                address: format!("person{number:04}@school{}.example", number % 7),
                mails: (0..chance.random_range(0..=2))
                    .map(|_| behaviour(&mut chance))
                    .collect(),
            })
            .collect();
        let calls = people
            .chunks(PEOPLE_OF_A_CALL)
            .enumerate()
            .map(|(number, people)| Call {
                after_kills: number / CALLS_AFTER_A_KILL,
                then: Duration::from_millis(chance.random_range(0..300)),
                addresses: people.iter().map(|person| person.address.clone()).collect(),
                expires_after: chance
                    .random_ratio(1, 2)
                    .then(|| Duration::from_secs(chance.random_range(300..700))),
            })
            .collect();
        let mut targets: Vec<_> = Worker::ALL
            .into_iter()
            .map(Target::Worker)
            .chain([Target::Identity])
            .collect();
        targets = targets.repeat(KILLS_OF_EACH);
        targets.shuffle(&mut chance);
        let kills = targets.into_iter().map(|target| kill(target, &mut chance)).collect();
        Self {
            seed,
            people,
            calls,
            kills,
        }
    }
}

fn behaviour(chance: &mut StdRng) -> Behaviour {
    match chance.random_range(0..100) {
        0..60 => Behaviour::ConfirmAfter(Duration::from_millis(chance.random_range(20..250))),
        60..68 => Behaviour::RefuseRecipient {
            code: 451,
            text: "4.7.1 greylisted".to_owned(),
        },
        68..74 => Behaviour::RefuseData {
            code: 452,
            text: "4.3.1 no room now".to_owned(),
        },
        74..76 => Behaviour::HangUpBeforeGoAhead,
        _ => Behaviour::Accept,
    }
}

fn kill(target: Target, chance: &mut StdRng) -> Kill {
    let ahead = match target {
        Target::Identity => LANES_LAPSE,
        Target::Worker(_) => chance.random_range(3..12),
    };
    Kill {
        target,
        after_mails: chance.random_range(40..120),
        at_most: Duration::from_millis(chance.random_range(1_000..3_000)),
        dead_for: Duration::from_millis(chance.random_range(0..300)),
        ahead: Duration::from_secs(ahead),
    }
}
