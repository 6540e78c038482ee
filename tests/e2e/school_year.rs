//! A school year in a minute: 500 people come in from a CSV file, get real mail from a real mail server, are reminded,
//! accept, and lose access when their date is reached.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrono::{DateTime, SecondsFormat};
use futures::{StreamExt as _, TryStreamExt as _};
use prost_types::Timestamp;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{DeliveryKind, DeliveryState, DenialReason, UserStatus};
use usher_tests::environment::mta::Mta;
use usher_tests::environment::{eventually, new_folder};
use usher_tests::system::{Clients, Options, System, Worker};

use crate::command_line::{printed, usher};
use crate::stage::{DAY, MINUTE, PASSWORD, PATIENCE, SECOND, apart, timestamp, token};

/// Rows that are good.
const PEOPLE: usize = 500;
/// Those of them, the first, who leave after ten days.
const LEAVING: usize = 125;

/// A person of the file.
struct Person {
    email: String,
    accepts: bool,
    leaves: bool,
}

fn people() -> Vec<Person> {
    (0..PEOPLE)
        .map(|index| Person {
            email: format!("pupil.{index}@school.example"),
            accepts: index % 2 == 0,
            leaves: index < LEAVING,
        })
        .collect()
}

/// The file: the people, and rows that are wrong, each in another way, between them. With the wrong rows: line, column,
/// and a word of the reason.
fn file(people: &[Person], leave: &Timestamp) -> (String, Vec<(u64, &'static str, &'static str)>) {
    let first = ["Zoë", "José", "山田", "محمد", "Aoife", "Nguyễn"];
    let last = ["O’Connor", "d'Arc", "de la Cruz", "Müller", "Łukasz", "Åberg"];
    let languages = ["en", "fr", "de", "es", "ar", ""];
    let bad = [
        ("not-an-address,Ana,Silva,en,,,", "email", "@"),
        (",Ana,Silva,en,,,", "email", "empty"),
        ("ana@bad.example,<b>Ana</b>,Silva,en,,,", "first_name", "markup"),
        ("bo@bad.example,Bo,Silva,klingon!,,,", "language", "language tag"),
        ("cy@bad.example,Cy,Silva,en,,soon,", "expires", ""),
        ("di@bad.example,Di,Silva,en,,2001-02-03,", "expires", "future"),
        ("PUPIL.0@SCHOOL.example,Twice,Silva,en,,,", "email", "same as in row 2"),
    ];
    let leave = DateTime::from_timestamp(leave.seconds, 0).unwrap_or_default();
    let leave = leave.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut text = String::from("email,first_name,last_name,language,labels,expires,external_id\n");
    let mut wrong = Vec::new();
    let mut line = 1;
    for (index, person) in people.iter().enumerate() {
        let pick = |from: &[&'static str]| from[index % from.len()];
        let (first, last, language) = (pick(&first), pick(&last), pick(&languages));
        let expires = if person.leaves { leave.as_str() } else { "" };
        let _ = writeln!(
            text,
            "{},{first},{last},{language},Year {}|Choir,{expires},S-{index}",
            person.email,
            index % 5
        );
        line += 1;
        if index % 70 == 69 {
            let (row, column, word) = bad[index / 70];
            let _ = writeln!(text, "{row}");
            line += 1;
            wrong.push((line, column, word));
        }
    }
    (text, wrong)
}

struct School {
    system: System,
    clients: Clients,
    mta: Mta,
    tenant: String,
}

impl School {
    /// Waits until the mail server has delivered so many mails, and answers them by recipient, oldest first.
    async fn mails(&self, count: usize) -> Result<HashMap<String, Vec<usher_tests::environment::mail::ParsedMail>>> {
        let what = format!("{count} mails in the mailboxes");
        let all = eventually(&what, Duration::from_mins(1), async || {
            match self.mta.all() {
                Ok(all) if all.len() < count => {
                    // Reading hundreds of mails all the time would take the time from those who send them.
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    None
                }
                other => Some(other),
            }
        });
        let all = all.await??;
        assert_eq!(all.len(), count, "more mails than there should be");
        let mut mails: HashMap<_, Vec<_>> = HashMap::new();
        for mail in all {
            let to = mail.header("Envelope-to").unwrap_or_default().to_owned();
            mails.entry(to).or_default().push(mail);
        }
        Ok(mails)
    }

    async fn users(&self) -> Result<HashMap<String, api::User>> {
        let request = api::ListUsersRequest {
            tenant_id: self.tenant.clone(),
            page_size: 1_000,
            ..api::ListUsersRequest::default()
        };
        let users = self.clients.users().list_users(request).await?.into_inner().users;
        Ok(users.into_iter().map(|user| (user.email.clone(), user)).collect())
    }

    /// Waits until nobody is left with a status.
    async fn nobody_is(&self, status: UserStatus) -> Result<()> {
        eventually(&format!("nobody is {}", status.as_str_name()), PATIENCE, async || {
            let users = self.users().await.ok()?;
            (!users.values().any(|user| user.status() == status)).then_some(())
        })
        .await
    }

    /// How many mails there are of a kind, by reminder step; all of them sent or, of a kind that waits, queued.
    async fn sent(&self, kind: DeliveryKind) -> Result<BTreeMap<i32, usize>> {
        let mut counts = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut page_token = String::new();
        loop {
            let request = api::ListDeliveriesRequest {
                tenant_id: self.tenant.clone(),
                states: vec![DeliveryState::Sent.into()],
                page_size: 1_000,
                page_token,
                ..api::ListDeliveriesRequest::default()
            };
            let page = self.clients.deliveries().list_deliveries(request).await?.into_inner();
            for mail in page.deliveries.iter().filter(|mail| mail.kind() == kind) {
                *counts.entry(mail.reminder_step).or_default() += 1;
                let once = seen.insert((mail.user_id.clone(), mail.reminder_step));
                assert!(once, "step {} was sent twice to {}", mail.reminder_step, mail.email);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(counts);
            }
        }
    }

    /// Waits until so many reminders of a step are written down as sent: the mail server's mailbox is a moment ahead.
    async fn reminded(&self, step: i32, count: usize) -> Result<()> {
        eventually(&format!("{count} reminders of step {step}"), PATIENCE, async || {
            let sent = self.sent(DeliveryKind::Reminder).await.ok()?;
            (sent.get(&step) == Some(&count)).then_some(())
        })
        .await
    }

    async fn access(&self, ids: &[String]) -> Result<Vec<api::AccessDecision>> {
        let request = api::CheckAccessRequest {
            tenant_id: self.tenant.clone(),
            user_ids: ids.to_vec(),
        };
        Ok(self
            .clients
            .access()
            .check_access(request)
            .await?
            .into_inner()
            .decisions)
    }

    /// The users of all events of a type so far.
    async fn events(&self, name: &str) -> Result<Vec<String>> {
        let request = api::WatchEventsRequest {
            tenant_id: self.tenant.clone(),
            from_beginning: true,
            type_prefixes: vec![name.into()],
            ..api::WatchEventsRequest::default()
        };
        let mut stream = self.clients.events().watch_events(request).await?.into_inner();
        let mut users = Vec::new();
        while let Ok(answer) = tokio::time::timeout(Duration::from_millis(500), stream.message()).await {
            users.extend(answer?.context("the stream ended")?.event.map(|event| event.user_id));
        }
        Ok(users)
    }
}

/// S2, S3, S5, S7, S13, L1, L10, L14, B4, B5
#[test]
fn five_hundred_people_come_in_by_csv_are_reminded_accept_and_leave_on_their_day() -> Result<()> {
    apart(async {
        let began = Instant::now();
        let mta = Mta::start().await?;
        let options = Options {
            smtp_port: Some(mta.port()),
            ..Options::default()
        };
        let system = System::start(options).await?;
        let tenant = system.tenant(api::Tenant::default()).await?;
        let clients = system.clients()?;
        let mut school = School {
            system,
            clients,
            mta,
            tenant,
        };
        let lap = |what: &str| println!("school year: {:>5.1} s {what}", began.elapsed().as_secs_f64());
        lap("five processes are ready");

        let people = people();
        let leave = Timestamp {
            nanos: 0,
            ..timestamp(school.system.now() + 10 * DAY)
        };
        let imported = import(&school, &people, &leave).await?;
        lap("imported");

        // Every good row gets exactly one mail, and nobody else gets any.
        let mails = school.mails(PEOPLE).await?;
        for person in &people {
            assert_eq!(mails.get(&person.email).map(Vec::len), Some(1), "{}", person.email);
        }
        school.nobody_is(UserStatus::Pending).await?;
        lap("everybody has a mail and is INVITED");

        accept(&school, &people, &mails).await?;
        let users = school.users().await?;
        for person in &people {
            let expected = if person.accepts {
                UserStatus::Active
            } else {
                UserStatus::Invited
            };
            assert_eq!(users[&person.email].status(), expected, "{}", person.email);
            assert_eq!(users[&person.email].user_id, imported[&person.email]);
        }
        lap("half have accepted");

        // Reminders reach the other half only, once per step.
        let waiting = people.iter().filter(|person| !person.accepts).count();
        school.system.advance(3 * DAY + MINUTE).await?;
        school.mails(PEOPLE + waiting).await?;
        school.reminded(1, waiting).await?;
        school.system.advance(4 * DAY).await?;
        school.mails(PEOPLE + 2 * waiting).await?;
        school.reminded(2, waiting).await?;
        lap("reminders 1 and 2");

        expire(&mut school, &people, &users, &leave).await?;
        lap("a quarter has left, one is back");

        school.system.advance(4 * DAY + MINUTE).await?;
        let still_waiting = people.iter().filter(|person| !person.accepts && !person.leaves).count() + 1;
        let mails = school.mails(PEOPLE + 2 * waiting + still_waiting).await?;
        school.reminded(3, still_waiting).await?;
        let sent = school.sent(DeliveryKind::Reminder).await?;
        assert_eq!(sent, BTreeMap::from([(1, waiting), (2, waiting), (3, still_waiting)]));
        for (index, person) in people.iter().enumerate() {
            let expected = match (person.accepts, person.leaves) {
                (true, _) => 1,
                (false, true) if index != 1 => 3,
                (false, _) => 4,
            };
            assert_eq!(mails[&person.email].len(), expected, "{}", person.email);
        }
        let ids: HashSet<&str> = mails.values().flatten().map(|mail| mail.message_id.as_str()).collect();
        assert_eq!(
            ids.len(),
            mails.values().map(Vec::len).sum::<usize>(),
            "a mail came twice"
        );
        lap("reminder 3, and nothing more to come");
        Ok(())
    })
}

/// L10: imports the file; the ids of the users by address.
async fn import(school: &School, people: &[Person], leave: &Timestamp) -> Result<HashMap<String, String>> {
    let (text, wrong) = file(people, leave);
    let path = new_folder("import")?.join("users.csv");
    std::fs::write(&path, text)?;
    let server = format!("http://127.0.0.1:{}", school.system.port);
    let path = path.display().to_string();
    let arguments = [
        "import",
        &path,
        "--server",
        &server,
        "--tenant",
        &school.tenant,
        "--json",
    ];
    let output = usher(&arguments).await?;
    let lines = printed(&output);
    assert_eq!(
        output.status.code(),
        Some(1),
        "done in part: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut rows = Vec::new();
    for line in lines.lines() {
        rows.push(serde_json::from_str::<serde_json::Value>(line)?);
    }
    let job = rows.pop().context("no job")?;
    assert_eq!(
        (&job["changed_count"], &job["failed_count"]),
        (&PEOPLE.into(), &wrong.len().into()),
        "{job}"
    );
    let (invited, failed): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["detail"] == "created, invited");
    let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let ids: HashMap<_, _> = invited
        .iter()
        .map(|row| (text(row, "address"), text(row, "user_id")))
        .collect();
    assert_eq!((ids.len(), failed.len()), (PEOPLE, wrong.len()));
    for (row, (line, column, word)) in failed.iter().zip(&wrong) {
        assert_eq!(
            (&row["position"], &row["column"]),
            (&(*line).into(), &(*column).into()),
            "{row}"
        );
        assert!(text(row, "message").contains(word), "{row}");
    }
    Ok(ids)
}

/// L1: half of the people accept by the link that they found.
async fn accept(
    school: &School,
    people: &[Person],
    mails: &HashMap<String, Vec<usher_tests::environment::mail::ParsedMail>>,
) -> Result<()> {
    let accepting = people.iter().filter(|person| person.accepts).map(|person| async {
        let request = api::AcceptInvitationRequest {
            tenant_id: school.tenant.clone(),
            token: token(&mails[&person.email][0])?,
            first_name: "Zoë".into(),
            last_name: "Silva".into(),
            password: PASSWORD.into(),
            options: None,
        };
        school.clients.invitations().accept_invitation(request).await?;
        anyhow::Ok(())
    });
    futures::stream::iter(accepting)
        .buffer_unordered(16)
        .try_collect()
        .await
}

/// S5, S7, B4: a quarter leaves at an instant, without any worker; then it is written down; two come back.
async fn expire(
    school: &mut School,
    people: &[Person],
    users: &HashMap<String, api::User>,
    leave: &Timestamp,
) -> Result<()> {
    school
        .system
        .workers
        .get_mut(&Worker::Expiration)
        .context("a worker")?
        .kill();
    let ids: Vec<String> = people
        .iter()
        .map(|person| users[&person.email].user_id.clone())
        .collect();
    let left = Duration::from_secs(u64::try_from(leave.seconds)?).saturating_sub(school.system.now());
    school.system.advance(left.saturating_sub(MINUTE)).await?;
    for (person, decision) in people.iter().zip(school.access(&ids).await?) {
        assert_eq!(decision.allowed, person.accepts, "{}", person.email);
        let until = (person.accepts && person.leaves).then_some(*leave);
        assert_eq!(decision.until, until, "{}", person.email);
    }
    school.system.advance(MINUTE + SECOND).await?;
    for (person, decision) in people.iter().zip(school.access(&ids).await?) {
        let expected = match (person.accepts, person.leaves) {
            (_, true) => (false, DenialReason::Expired),
            (true, false) => (true, DenialReason::Unspecified),
            (false, false) => (false, DenialReason::NotRegistered),
        };
        assert_eq!(
            (decision.allowed, decision.denial_reason()),
            expected,
            "{}",
            person.email
        );
    }
    assert!(
        school.events("user.expired").await?.is_empty(),
        "nobody wrote it down yet"
    );

    school
        .system
        .workers
        .get_mut(&Worker::Expiration)
        .context("a worker")?
        .restart()
        .await?;
    let mut expired = eventually("every expiry is written down", PATIENCE, async || {
        let expired = school.events("user.expired").await.ok()?;
        (expired.len() >= LEAVING).then_some(expired)
    })
    .await?;
    expired.sort();
    let mut leaving = ids[..LEAVING].to_vec();
    leaving.sort();
    assert_eq!(expired, leaving, "each once, and nobody else");
    let now = school.users().await?;
    for person in people {
        let before = users[&person.email].status();
        let expected = if person.leaves { UserStatus::Expired } else { before };
        assert_eq!(now[&person.email].status(), expected, "{}", person.email);
    }
    for (index, status) in [(0, UserStatus::Active), (1, UserStatus::Invited)] {
        let request = api::SetUserExpirationRequest {
            tenant_id: school.tenant.clone(),
            user_id: ids[index].clone(),
            expire_time: Some(timestamp(school.system.now() + 200 * DAY)),
            ..api::SetUserExpirationRequest::default()
        };
        let restored = school
            .clients
            .users()
            .set_user_expiration(request)
            .await?
            .into_inner()
            .user;
        assert_eq!(restored.context("a user")?.status(), status);
        let decision = school.access(&ids[index..=index]).await?.remove(0);
        assert_eq!(decision.allowed, status == UserStatus::Active);
    }
    Ok(())
}
