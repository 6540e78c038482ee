//! Who calls, and about whom and what.

use super::*;

/// The session that the instructor leads, and one that is another's.
const SESSIONS: [&str; 2] = ["spring", "autumn"];

/// A place with somebody in it, and with what there is to ask about there.
pub(super) struct Place {
    /// Empty: the platform.
    pub(super) group: String,
    pub(super) name: &'static str,
    pub(super) person: Person,
    /// Names a selection of that person.
    pub(super) digest: String,
    /// One that was about that person, and has ended.
    pub(super) job: String,
}

/// Somebody who was invited once.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) email: String,
    pub(super) invitation: String,
    pub(super) delivery: String,
}

/// Somebody who holds one of the default roles.
pub(super) struct Holder {
    pub(super) role: &'static str,
    pub(super) clients: Clients,
    pub(super) person: Person,
}

impl Holder {
    /// Whether they lead a session, beside what they are in the group.
    pub(super) fn leads(&self) -> bool {
        self.role == "instructor and coach"
    }
}

/// What a call is about.
pub(super) enum Spot<'a> {
    /// The tenant as a whole, or whatever a link or a password says.
    Whole,
    /// A group, with who is in it; or the platform, with somebody who is in no group.
    At(&'a Place),
    /// A programme session.
    Session(&'static str),
    /// Somebody.
    Person(&'a Person),
}

/// Everybody and everything.
pub(super) struct Cast<'a> {
    pub(super) stage: &'a Together,
    pub(super) holders: Vec<Holder>,
    /// In which everybody holds their role, and is a member.
    pub(super) north: Place,
    pub(super) south: Place,
    pub(super) platform: Place,
    /// A role of the tenant's own, which nobody holds.
    pub(super) own_role: String,
    /// Of a link that works.
    pub(super) token: String,
}

impl<'a> Cast<'a> {
    pub(super) async fn assemble(stage: &'a Together) -> Result<Self> {
        let (north, south) = (stage.group("North", "").await?, stage.group("South", "").await?);
        stage.group("North 7a", &north).await?;
        stage.group("South 7a", &south).await?;
        stage.invite("link").await?;
        let token = stage.link("link", 1).await?;
        let holders = holders(stage, &north).await?;
        // Jobs of others are shown to administrators of the platform only, so the one in the own scope is of its administrator.
        let head = &holders[1].clients;
        Ok(Self {
            stage,
            north: place(stage, head, &north, "North", "nia").await?,
            south: place(stage, &stage.clients, &south, "South", "sam").await?,
            platform: place(stage, &stage.clients, "", "", "paul").await?,
            own_role: stage.role("Unused", &["users.read"]).await?.role,
            token,
            holders,
        })
    }

    /// What somebody is to ask about, with the document's word for it.
    pub(super) fn spots<'s>(&'s self, about: &str, holder: &'s Holder) -> Vec<(&'static str, Spot<'s>)> {
        let everywhere = holder.role == "administrator of the platform";
        let beyond = if everywhere { "own" } else { "foreign" };
        match about {
            "program" => vec![("anybody", Spot::Whole)],
            "tenant" => vec![(beyond, Spot::Whole)],
            "place" => vec![
                ("own", Spot::At(&self.north)),
                (if holder.leads() { "own" } else { beyond }, Spot::Session(SESSIONS[0])),
                (beyond, Spot::At(&self.south)),
                (beyond, Spot::Session(SESSIONS[1])),
                (beyond, Spot::At(&self.platform)),
            ],
            "account" => vec![
                ("own", Spot::Person(&self.north.person)),
                (beyond, Spot::Person(&self.south.person)),
                (beyond, Spot::Person(&self.platform.person)),
                ("self", Spot::Person(&holder.person)),
            ],
            other => panic!("what is {other}?"),
        }
    }
}

/// As the document's columns.
async fn holders(stage: &Together, north: &str) -> Result<Vec<Holder>> {
    let in_north = |role| (role, in_group(north));
    let roles = [
        ("administrator of the platform", vec![("administrator", platform())]),
        ("administrator of a group", vec![in_north("administrator")]),
        ("author", vec![in_north("author")]),
        ("coach", vec![in_north("coach")]),
        (
            "instructor and coach",
            vec![("instructor", in_session(SESSIONS[0])), in_north("coach")],
        ),
        ("learner", vec![in_north("learner")]),
        ("no role", vec![]),
    ];
    let mut holders = Vec::new();
    for (number, (role, held)) in roles.into_iter().enumerate() {
        let name = format!("holder{number}");
        let person = person(stage, &name).await?;
        stage.accept(&stage.link(&name, 1).await?).await?;
        stage.join(north, &[&person.id]).await?;
        for (role, scope) in held {
            stage.give(&person.id, role, scope).await?;
        }
        holders.push(Holder {
            role,
            clients: stage.acting(&person.id)?,
            person,
        });
    }
    Ok(holders)
}

async fn person(stage: &Together, name: &str) -> Result<Person> {
    let (user, invitation) = stage.invite(name).await?;
    let mail = stage.deliveries(&user.user_id).await?.pop().context("a mail")?;
    Ok(Person {
        id: user.user_id,
        email: user.email,
        invitation: invitation.invitation_id,
        delivery: mail.delivery_id,
    })
}

/// Puts somebody into a group, and lets somebody do a job about them.
async fn place(stage: &Together, by: &Clients, group: &str, name: &'static str, who: &str) -> Result<Place> {
    let person = person(stage, who).await?;
    if !group.is_empty() {
        stage.join(group, &[&person.id]).await?;
    }
    let selection = api::PreviewSelectionRequest {
        tenant_id: stage.tenant.clone(),
        selection: Some(calls::only(&person.id)),
    };
    let preview = by.bulk().preview_selection(selection).await?.into_inner();
    let label = api::BulkEditLabels {
        add: vec!["Choir".into()],
        remove: vec![],
    };
    let start = api::StartBulkRequest {
        tenant_id: stage.tenant.clone(),
        digest: preview.digest.clone(),
        action: Some(api::BulkAction {
            action: Some(api::bulk_action::Action::EditLabels(label)),
        }),
        options: None,
    };
    let job = by.bulk().start_bulk(start).await?.into_inner().job.context("a job")?;
    stage.ended(&job).await?;
    Ok(Place {
        group: group.to_owned(),
        name,
        person,
        digest: preview.digest,
        job: job.job_id,
    })
}
