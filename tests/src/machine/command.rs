//! Arbitrary sequences of commands. A command names people and mails by number, so that it means something whatever came
//! before it, and a failing sequence shrinks to a short one that can be read.

use chrono::TimeDelta;
use proptest::prelude::*;
use usher_core::delivery::{Outcome, Phase, Report};

/// People that a sequence is about.
pub const PEOPLE: u8 = 3;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands of the account, with their values")]
pub enum Command {
    Create { person: u8, as_: As, expires: Option<Span> },
    Invite { person: u8 },
    Resend { person: u8, link: Link },
    Cancel { person: u8, link: Link },
    Refresh { person: u8, link: Link },
    Accept { person: u8, link: Link },
    Deactivate { person: u8, by: By },
    Reactivate { person: u8, by: By },
    SetExpiration { person: u8, after: Option<Span>, by: By },
    Expire { person: u8, newest: bool },
    Move { person: u8, address: u8 },
    SetPassword { person: u8 },
    Complain { person: u8 },
    Lift { person: u8 },
    Begin { mail: u8 },
    Transmit { mail: u8, claim: Claimed },
    Finish { mail: u8, claim: Claimed, end: End },
    Start { mail: u8 },
    Work { mail: u8, end: End },
    Resolve { mail: u8, again: bool },
    Fire,
    Advance(Span),
}

/// How an account is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of credential")]
pub enum As {
    Pending,
    WithPassword,
    WithOneTimePassword,
}

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Somebody else.
    Administrator,
    /// The person (S9).
    Themselves,
}

/// Which of a person's links, from the newest back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link(pub u8);

/// Whose claim a worker reports under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The newest.
    Newest,
    /// The first, which may have been lost.
    First,
    /// One that nobody gave.
    Forged,
}

/// How a try ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the outcomes; a failure is a bounce or a matter of policy")]
pub enum End {
    Sent,
    Deferred,
    Unreachable,
    Uncertain,
    Bounced,
    Refused,
}

/// How long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "lengths that matter: leases, steps of the ladder, the lifetime of a link"
)]
pub enum Span {
    Millisecond,
    Seconds,
    ClaimLease,
    TransmitLease,
    Hour,
    Day,
    LadderStep,
    Week,
    AlmostLinkLifetime,
    LinkLifetime,
}

impl Span {
    /// As a duration.
    pub fn delta(self) -> TimeDelta {
        match self {
            Self::Millisecond => TimeDelta::milliseconds(1),
            Self::Seconds => TimeDelta::seconds(5),
            Self::ClaimLease => TimeDelta::minutes(2),
            Self::TransmitLease => TimeDelta::minutes(11),
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::days(1),
            Self::LadderStep => TimeDelta::days(3),
            Self::Week => TimeDelta::days(7),
            Self::AlmostLinkLifetime => TimeDelta::days(30) - TimeDelta::seconds(2),
            Self::LinkLifetime => TimeDelta::days(30),
        }
    }
}

impl End {
    /// As a worker reports it.
    pub fn report(self) -> Report {
        let (outcome, phase, smtp_code, response) = match self {
            Self::Sent => (Outcome::Sent, Phase::Content, 250, "2.0.0 taken"),
            Self::Deferred => (Outcome::Deferred, Phase::Recipient, 451, "4.7.1 greylisted"),
            Self::Unreachable => (Outcome::Unreachable, Phase::Connect, 0, "connection refused"),
            Self::Uncertain => (Outcome::Uncertain, Phase::Content, 0, "connection reset"),
            Self::Bounced => (Outcome::Failed, Phase::Recipient, 550, "5.1.1 no such user"),
            Self::Refused => (Outcome::Failed, Phase::Content, 554, "5.7.1 looks like spam"),
        };
        Report {
            outcome,
            response: response.into(),
            smtp_code,
            phase,
        }
    }
}

impl Command {
    /// A worker's try is up to three calls; all others are one.
    pub fn steps(&self) -> Vec<Self> {
        let claim = Claimed::Newest;
        match *self {
            Self::Start { mail } => vec![Self::Begin { mail }, Self::Transmit { mail, claim }],
            Self::Work { mail, end } => vec![
                Self::Begin { mail },
                Self::Transmit { mail, claim },
                Self::Finish { mail, claim, end },
            ],
            one => vec![one],
        }
    }
}

/// Sequences of up to `length` commands, the first of which creates an account, most often for somebody who is invited at
/// once. Each command is made of one number: a union of strategies would take ten times as long as carrying them out.
pub fn sequences(length: usize) -> impl Strategy<Value = Vec<Command>> {
    (any::<u64>(), prop::collection::vec(any::<u64>(), 1..length - 3)).prop_map(|(first, rest)| {
        let mut commands = opening(&mut Dice(first));
        commands.extend(rest.into_iter().map(|number| command(&mut Dice(number))));
        commands
    })
}

/// A number, used up from its smallest digit on.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        let digit = self.0 % sides;
        self.0 /= sides;
        digit
    }

    /// One of these; what stands there twice comes twice as often.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from[index]
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Mostly the first, so that sequences reach deep.
    fn person(&mut self) -> u8 {
        self.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2])
    }

    /// Mostly the newest.
    fn mail(&mut self) -> u8 {
        self.pick(&[0, 0, 0, 0, 1, 1, 2, 3])
    }

    fn link(&mut self) -> Link {
        Link(self.pick(&[0, 0, 0, 1, 2]))
    }

    fn by(&mut self) -> By {
        let other = By::Administrator;
        self.pick(&[other, other, other, other, other, other, other, By::Themselves])
    }

    fn claim(&mut self) -> Claimed {
        let newest = Claimed::Newest;
        self.pick(&[newest, newest, newest, newest, Claimed::First, Claimed::Forged])
    }

    fn end(&mut self) -> End {
        self.pick(&[
            End::Sent,
            End::Sent,
            End::Sent,
            End::Sent,
            End::Deferred,
            End::Deferred,
            End::Unreachable,
            End::Uncertain,
            End::Bounced,
            End::Refused,
        ])
    }

    fn span(&mut self) -> Span {
        self.pick(&[
            Span::Millisecond,
            Span::Seconds,
            Span::ClaimLease,
            Span::TransmitLease,
            Span::Hour,
            Span::Day,
            Span::LadderStep,
            Span::Week,
            Span::AlmostLinkLifetime,
            Span::LinkLifetime,
        ])
    }
}

type Make = fn(&mut Dice) -> Command;

/// How often each comes, and how it is made.
const KINDS: &[(u64, Make)] = &[
    (13, |dice| Command::Advance(dice.span())),
    (6, |_| Command::Fire),
    (6, |dice| Command::Invite { person: dice.person() }),
    (8, |dice| Command::Work {
        mail: dice.mail(),
        end: dice.end(),
    }),
    (5, |dice| Command::Start { mail: dice.mail() }),
    (6, |dice| Command::Begin { mail: dice.mail() }),
    (1, |dice| Command::Transmit {
        mail: dice.mail(),
        claim: dice.claim(),
    }),
    (7, |dice| Command::Finish {
        mail: dice.mail(),
        claim: dice.claim(),
        end: dice.end(),
    }),
    (3, |dice| Command::Resolve {
        mail: dice.mail(),
        again: dice.coin(),
    }),
    (3, |dice| Command::Resend {
        person: dice.person(),
        link: dice.link(),
    }),
    (3, |dice| Command::Cancel {
        person: dice.person(),
        link: dice.link(),
    }),
    (2, |dice| Command::Refresh {
        person: dice.person(),
        link: dice.link(),
    }),
    (3, |dice| Command::Accept {
        person: dice.person(),
        link: dice.link(),
    }),
    (4, |dice| Command::Deactivate {
        person: dice.person(),
        by: dice.by(),
    }),
    (4, |dice| Command::Reactivate {
        person: dice.person(),
        by: dice.by(),
    }),
    (4, |dice| Command::SetExpiration {
        person: dice.person(),
        after: dice.coin().then(|| dice.span()),
        by: dice.by(),
    }),
    (2, |dice| Command::Expire {
        person: dice.person(),
        newest: dice.coin(),
    }),
    (2, |dice| Command::Move {
        person: dice.person(),
        address: dice.pick(&[0, 1, 2]),
    }),
    (1, |dice| Command::SetPassword { person: dice.person() }),
    (3, |dice| Command::Complain { person: dice.person() }),
    (2, |dice| Command::Lift { person: dice.person() }),
    (1, |dice| create(dice.person(), dice)),
];

fn opening(dice: &mut Dice) -> Vec<Command> {
    let create = create(0, dice);
    let invite = Command::Invite { person: 0 };
    let work = Command::Work {
        mail: 0,
        end: dice.end(),
    };
    match dice.below(4) {
        0 => vec![create],
        1 => vec![create, invite],
        _ => vec![create, invite, work],
    }
}

fn command(dice: &mut Dice) -> Command {
    let mut number = dice.below(KINDS.iter().map(|(weight, _)| weight).sum());
    for (weight, make) in KINDS {
        match number.checked_sub(*weight) {
            Some(rest) => number = rest,
            None => return make(dice),
        }
    }
    Command::Fire
}

fn create(person: u8, dice: &mut Dice) -> Command {
    let pending = As::Pending;
    Command::Create {
        person,
        as_: dice.pick(&[
            pending,
            pending,
            pending,
            pending,
            As::WithOneTimePassword,
            As::WithPassword,
        ]),
        expires: dice.pick(&[false, false, false, true]).then(|| dice.span()),
    }
}
