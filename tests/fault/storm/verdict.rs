//! What must hold after the storm, looked at from outside: by the API, by the mail server, by the broker and, for what is
//! compared with them, by the tables.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::{Connection as _, PgConnection};
use usher_proto::identity::v1::{
    Delivery, DeliveryKind, DeliveryState, ListDeliveriesRequest, ListUsersRequest, User, UserStatus,
};
use usher_tests::environment::eventually;
use usher_tests::environment::smtp_sink::SmtpSink;
use usher_tests::system::{Clients, System};

use super::plan::{PEOPLE, Plan};
use crate::observer::{Witness, depth};

/// How long the witnesses have to catch up.
const CATCH_UP: Duration = Duration::from_secs(20);
/// What the workers consume, and where messages go that nobody could deal with.
const QUEUES: [&str; 4] = [
    "usher.invitation",
    "usher.reminder",
    "usher.expiration",
    "usher.dead-letter",
];

/// The figures of a run in which everything held.
#[derive(Debug)]
pub(crate) struct Verdict {
    statuses: BTreeMap<&'static str, usize>,
    mails: usize,
    deliveries: usize,
    uncertain: usize,
    events: usize,
    repeated: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            statuses,
            mails,
            deliveries,
            uncertain,
            events,
            repeated,
        } = self;
        #[expect(clippy::cast_precision_loss, reason = "counts of a test fit")]
        let share = *uncertain as f64 * 100.0 / *deliveries as f64;
        write!(
            f,
            "users {statuses:?}; {mails} mails received, none twice; {uncertain} of {deliveries} deliveries UNCERTAIN \
             ({share:.2} %); {events} events, none lost on the broker or the stream, {repeated} came again on the broker"
        )
    }
}

/// Looks at everything.
pub(crate) async fn of(
    system: &System,
    tenant: &str,
    plan: &Plan,
    sink: &SmtpSink,
    listener: &Witness,
    follower: &Witness,
) -> Result<Verdict> {
    let clients = system.clients()?;
    let users = users(&clients, tenant).await?;
    let uncertain = deliveries(&clients, tenant, &[DeliveryState::Uncertain]).await?.len();
    let deliveries = deliveries(&clients, tenant, &[]).await?;
    let statuses = every_user_is_in_the_right_state(plan, &users, &deliveries)?;
    let mails = no_mail_came_twice(sink, &deliveries)?;
    every_sent_mail_arrived(sink, &deliveries)?;
    let mut database = PgConnection::connect(&system.database_url).await?;
    let events = no_event_is_lost(&mut database, listener, follower).await?;
    changes_and_events_agree(&mut database).await?;
    for queue in QUEUES {
        let waiting = depth(&system.amqp_url, queue).await?;
        ensure!(waiting == 0, "{waiting} messages are left in {queue}");
    }
    Ok(Verdict {
        statuses,
        mails,
        deliveries: deliveries.len(),
        uncertain,
        events,
        repeated: listener.seen().repeats,
    })
}

/// INVITED or EXPIRED; PENDING only where the mails may or may not have gone out.
fn every_user_is_in_the_right_state(
    plan: &Plan,
    users: &[User],
    deliveries: &[Delivery],
) -> Result<BTreeMap<&'static str, usize>> {
    ensure!(users.len() == PEOPLE, "{} users instead of {PEOPLE}", users.len());
    let mut of_user: HashMap<&str, Vec<&Delivery>> = HashMap::new();
    for delivery in deliveries {
        of_user.entry(&delivery.user_id).or_default().push(delivery);
    }
    let expiring: HashSet<&str> = plan
        .calls
        .iter()
        .filter(|call| call.expires_after.is_some())
        .flat_map(|call| call.addresses.iter().map(String::as_str))
        .collect();
    let mut statuses = BTreeMap::new();
    for user in users {
        let mails = of_user.get(user.user_id.as_str()).map_or(&[][..], Vec::as_slice);
        let is = |state| mails.iter().any(|mail| mail.state() == state);
        let expected = if expiring.contains(user.email.as_str()) {
            UserStatus::Expired
        } else if is(DeliveryState::Sent) {
            UserStatus::Invited
        } else {
            ensure!(
                is(DeliveryState::Uncertain),
                "{} was left without a mail: {mails:?}",
                user.email
            );
            UserStatus::Pending
        };
        ensure!(
            user.status() == expected,
            "{} should be {expected:?}: {user:?} {mails:?}",
            user.email
        );
        *statuses.entry(user.status().as_str_name()).or_default() += 1;
    }
    Ok(statuses)
}

/// Neither the same mail again, nor another one of the same kind, step and generation.
fn no_mail_came_twice(sink: &SmtpSink, deliveries: &[Delivery]) -> Result<usize> {
    let known: HashMap<&str, &Delivery> = deliveries.iter().map(|it| (it.message_id.as_str(), it)).collect();
    let received = sink.received();
    let (mut ids, mut mails) = (HashSet::new(), HashSet::new());
    for mail in &received {
        ensure!(
            ids.insert(mail.message_id.as_str()),
            "{} came twice to {}",
            mail.message_id,
            mail.recipient
        );
        let delivery = known
            .get(mail.message_id.as_str())
            .with_context(|| format!("nobody knows of the mail {} to {}", mail.message_id, mail.recipient))?;
        ensure!(
            delivery.email == mail.recipient,
            "{delivery:?} went to {}",
            mail.recipient
        );
        let which = (
            &delivery.email,
            delivery.kind(),
            delivery.reminder_step,
            delivery.generation,
        );
        ensure!(mails.insert(which), "two mails {which:?}");
    }
    Ok(received.len())
}

/// SENT is the truth; what arrived is SENT or UNCERTAIN; and each mail ended.
fn every_sent_mail_arrived(sink: &SmtpSink, deliveries: &[Delivery]) -> Result<()> {
    let received = sink.received();
    let arrived: HashSet<&str> = received.iter().map(|mail| mail.message_id.as_str()).collect();
    let confirmed: HashSet<&str> = received
        .iter()
        .filter(|mail| mail.confirmed)
        .map(|mail| mail.message_id.as_str())
        .collect();
    for delivery in deliveries {
        let arrived = arrived.contains(delivery.message_id.as_str());
        match delivery.state() {
            DeliveryState::Sent => ensure!(
                confirmed.contains(delivery.message_id.as_str()),
                "never confirmed: {delivery:?}"
            ),
            DeliveryState::Uncertain => {}
            // Its user expired first.
            DeliveryState::Cancelled => ensure!(!arrived, "arrived though cancelled: {delivery:?}"),
            _ => anyhow::bail!("left over: {delivery:?}"),
        }
        ensure!(
            matches!(delivery.kind(), DeliveryKind::Invitation | DeliveryKind::Reminder),
            "never asked for: {delivery:?}"
        );
    }
    Ok(())
}

/// Both witnesses saw every committed event, each user's in the order of their changes.
async fn no_event_is_lost(database: &mut PgConnection, listener: &Witness, follower: &Witness) -> Result<usize> {
    let events: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT event_id::text, user_id::text FROM outbox ORDER BY sequence")
            .fetch_all(database)
            .await?;
    for (name, witness) in [("broker", listener), ("stream", follower)] {
        let caught_up = eventually("every event was seen", CATCH_UP, async || {
            (witness.seen().order.len() >= events.len()).then_some(())
        });
        let caught_up = caught_up.await;
        let seen = witness.seen();
        let known: HashSet<&str> = seen.order.iter().map(String::as_str).collect();
        let missing: Vec<_> = events
            .iter()
            .filter(|(id, _)| !known.contains(id.as_str()))
            .take(5)
            .collect();
        ensure!(
            missing.is_empty(),
            "the {name} never showed, of {}: {missing:?} and maybe more",
            events.len()
        );
        caught_up?;
        ensure!(
            seen.order.len() == events.len(),
            "the {name} showed events that were never committed"
        );
        let place: HashMap<&str, (usize, &Option<String>)> = events
            .iter()
            .enumerate()
            .map(|(place, (id, user))| (id.as_str(), (place, user)))
            .collect();
        let mut last: HashMap<&Option<String>, usize> = HashMap::new();
        for id in &seen.order {
            let (place, user) = place[id.as_str()];
            let before = last.insert(user, place);
            ensure!(
                before.is_none_or(|before| before < place),
                "the {name} showed {id} of {user:?} out of order"
            );
        }
    }
    let repeats = follower.seen().repeats;
    ensure!(repeats == 0, "the stream showed {repeats} events twice");
    Ok(events.len())
}

/// What was committed and what was told are the same: no row without its event, no event twice for one change.
async fn changes_and_events_agree(database: &mut PgConnection) -> Result<()> {
    let queries = [
        (
            "users without exactly one user.created",
            "SELECT COUNT(*) FROM users u WHERE 1 <> (SELECT COUNT(*) FROM outbox o \
             WHERE o.user_id = u.user_id AND o.event_type = 'user.created')",
        ),
        (
            "expired users without exactly one user.expired",
            "SELECT COUNT(*) FROM users u WHERE u.status = 'EXPIRED' AND 1 <> (SELECT COUNT(*) FROM outbox o \
             WHERE o.user_id = u.user_id AND o.event_type = 'user.expired')",
        ),
        (
            "sent mails without exactly one delivery.sent",
            "SELECT COUNT(*) FROM deliveries d WHERE d.state = 'SENT' AND 1 <> (SELECT COUNT(*) FROM outbox o \
             WHERE o.user_id = d.user_id AND o.event_type = 'delivery.sent' \
             AND o.body::json ->> 'delivery' = d.delivery_id::text)",
        ),
        (
            "changes in the history without their event",
            "SELECT COUNT(*) FROM history h WHERE NOT EXISTS (SELECT 1 FROM outbox o \
             WHERE o.user_id = h.user_id AND o.body::json ->> 'id' = h.body::json ->> 'id')",
        ),
    ];
    for (what, query) in queries {
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut *database).await?;
        ensure!(count == 0, "{count} {what}");
    }
    Ok(())
}

async fn users(clients: &Clients, tenant: &str) -> Result<Vec<User>> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListUsersRequest {
            tenant_id: tenant.to_owned(),
            page_size: 1_000,
            page_token,
            ..ListUsersRequest::default()
        };
        let page = clients.users().list_users(request).await?.into_inner();
        all.extend(page.users);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// As an operator lists them.
async fn deliveries(clients: &Clients, tenant: &str, states: &[DeliveryState]) -> Result<Vec<Delivery>> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListDeliveriesRequest {
            tenant_id: tenant.to_owned(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
            page_size: 1_000,
            page_token,
            ..ListDeliveriesRequest::default()
        };
        let page = clients.deliveries().list_deliveries(request).await?.into_inner();
        all.extend(page.deliveries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}
