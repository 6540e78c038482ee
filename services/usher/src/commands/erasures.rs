//! `usher erasures`: asking for, approving and following the erasure of people, and their certificates (S12, U9).

use clap::Subcommand;
use usher_proto::identity::v1::{
    AcknowledgeErasureRequest, ApproveErasureRequest, CancelErasureRequest, Erasure, ErasureReason, ErasureState,
    GetErasureCertificateRequest, GetErasureCertificateResponse, GetErasureRequest, ListErasureSubscribersRequest,
    ListErasureSubscribersResponse, ListErasuresRequest, RegisterErasureSubscriberRequest, RequestErasureRequest,
    UnregisterErasureSubscriberRequest,
};

use super::{Change, Limit, Session, choice};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, json, printable, short};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Erasures {
    /// Ask for the erasure of users, for good. It can be cancelled until the cool-off is over.
    Request {
        /// Ids, addresses or external ids.
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
        /// Why.
        #[arg(long = "because", value_name = "WHY", value_parser = choice!(ErasureReason, "ERASURE_REASON_", ["person-request", "right-to-erasure", "end-of-retention"]))]
        because: ErasureReason,
        /// For whoever approves; no personal data.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        note: String,
        #[command(flatten)]
        change: Change,
    },
    /// Approve erasures that somebody else asked for.
    Approve(Named),
    /// Cancel erasures that were not carried out yet.
    Cancel(Named),
    /// List erasures, the newest first.
    List {
        /// Only this state; repeat it for several.
        #[arg(long, value_parser = choice!(ErasureState, "ERASURE_STATE_", ["awaiting-approval", "cooling-off", "erasing", "announced", "erased", "cancelled"]))]
        state: Vec<ErasureState>,
        /// Only of this user: their id, since an erased user has nothing else.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        user: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one erasure.
    Show {
        /// The erasure's id.
        erasure: String,
    },
    /// Print the certificate of an erasure that is complete.
    Certificate {
        /// The erasure's id.
        erasure: String,
    },
    /// Say that a service has erased its part.
    Acknowledge {
        /// The erasure's id.
        erasure: String,
        /// The service's name.
        #[arg(long)]
        service: String,
        #[command(flatten)]
        change: Change,
    },
    /// The services that are asked to erase their part.
    #[command(subcommand)]
    Services(Services),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Services {
    /// List them.
    List,
    /// From now on this one is asked.
    Add {
        /// Its name.
        service: String,
        #[command(flatten)]
        change: Change,
    },
    /// From now on it is not.
    Remove {
        /// Its name.
        service: String,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The erasures' ids.
    #[arg(required = true, value_name = "ERASURE")]
    erasures: Vec<String>,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(command: &Erasures, session: &Session) -> Result<Exit, Failure> {
    let tenant_id = session.client.tenant.clone();
    let mut client = session.client.erasures();
    match command {
        Erasures::Request {
            users,
            because,
            note,
            change,
        } => {
            let mut user_ids = Vec::with_capacity(users.len());
            for user in users {
                user_ids.push(session.client.user_id(user).await?);
            }
            let request = RequestErasureRequest {
                tenant_id,
                user_ids,
                reason: (*because).into(),
                note: note.clone(),
                options: Some(change.options()),
            };
            let answer = client.request_erasure(request).await?.into_inner();
            session.out.list(&answer.erasures)?;
        }
        Erasures::Approve(named) => {
            let request = ApproveErasureRequest {
                tenant_id,
                erasure_ids: named.erasures.clone(),
                options: Some(named.change.options()),
            };
            let answer = client.approve_erasure(request).await?.into_inner();
            session.out.list(&answer.erasures)?;
        }
        Erasures::Cancel(named) => {
            let request = CancelErasureRequest {
                tenant_id,
                erasure_ids: named.erasures.clone(),
                options: Some(named.change.options()),
            };
            let answer = client.cancel_erasure(request).await?.into_inner();
            session.out.list(&answer.erasures)?;
        }
        Erasures::List { state, user, limit } => list(state, user, limit, session).await?,
        Erasures::Show { erasure } => {
            let request = GetErasureRequest {
                tenant_id,
                erasure_id: erasure.clone(),
            };
            show(client.get_erasure(request).await?.into_inner().erasure, session)?;
        }
        Erasures::Certificate { erasure } => {
            let request = GetErasureCertificateRequest {
                tenant_id,
                erasure_id: erasure.clone(),
            };
            let certificate = client.get_erasure_certificate(request).await?.into_inner();
            if session.out.json {
                output::lines([json(&certificate)])?;
            } else {
                output::lines(certificate.text.lines().map(printable))?;
                let keyed = if certificate.verified {
                    "verified"
                } else {
                    "not verified"
                };
                output::lines([format!("digest: {} ({keyed})", certificate.digest)])?;
            }
        }
        Erasures::Acknowledge {
            erasure,
            service,
            change,
        } => {
            let request = AcknowledgeErasureRequest {
                tenant_id,
                erasure_id: erasure.clone(),
                service: service.clone(),
                options: Some(change.options()),
            };
            show(client.acknowledge_erasure(request).await?.into_inner().erasure, session)?;
        }
        Erasures::Services(command) => services(command, session).await?,
    }
    Ok(Exit::Done)
}

async fn services(command: &Services, session: &Session) -> Result<(), Failure> {
    let tenant_id = session.client.tenant.clone();
    let mut client = session.client.erasures();
    match command {
        Services::List => {
            let request = ListErasureSubscribersRequest { tenant_id };
            let answer = client.list_erasure_subscribers(request).await?.into_inner();
            if session.out.json {
                return output::lines([json(&answer)]);
            }
            output::lines(answer.services.iter().map(|service| printable(service)))?;
        }
        Services::Add { service, change } => {
            let request = RegisterErasureSubscriberRequest {
                tenant_id,
                service: service.clone(),
                options: Some(change.options()),
            };
            client.register_erasure_subscriber(request).await?;
        }
        Services::Remove { service, change } => {
            let request = UnregisterErasureSubscriberRequest {
                tenant_id,
                service: service.clone(),
                options: Some(change.options()),
            };
            client.unregister_erasure_subscriber(request).await?;
        }
    }
    Ok(())
}

async fn list(states: &[ErasureState], user: &str, limit: &Limit, session: &Session) -> Result<(), Failure> {
    let page = |page_size, page_token| {
        let request = ListErasuresRequest {
            tenant_id: session.client.tenant.clone(),
            states: states.iter().map(|state| (*state).into()).collect(),
            user_id: user.to_owned(),
            page_size,
            page_token,
        };
        async move {
            let answer = session.client.erasures().list_erasures(request).await?.into_inner();
            Ok((answer.erasures, answer.next_page_token))
        }
    };
    session.out.list(&limit.gather(page).await?)
}

fn show(erasure: Option<Erasure>, session: &Session) -> Result<(), Failure> {
    let erasure = erasure.ok_or_else(|| incomplete("erasure"))?;
    let mut pairs = vec![
        ("Erasure", erasure.erasure_id.clone()),
        ("User", erasure.user_id.clone()),
        ("State", state(&erasure)),
        ("Asked for by", printable(&erasure.requester_id)),
        ("Approved by", printable(&erasure.approver_id)),
        ("Cancelled by", printable(&erasure.canceller_id)),
        ("Note", printable(&erasure.note)),
        ("Asked for", time::show(erasure.create_time.as_ref())),
        ("Due", time::show(erasure.due_time.as_ref())),
        ("Erased", time::show(erasure.erase_time.as_ref())),
        ("Services until", time::show(erasure.deadline_time.as_ref())),
        ("Ended", time::show(erasure.end_time.as_ref())),
    ];
    for service in &erasure.acknowledgements {
        let at = match &service.acknowledge_time {
            Some(at) => time::show(Some(at)),
            None => "not yet".to_owned(),
        };
        pairs.push(("Service", format!("{}: {at}", printable(&service.service))));
    }
    session.out.one(&erasure, &pairs)
}

fn state(erasure: &Erasure) -> String {
    short(erasure.state().as_str_name(), "ERASURE_STATE_").to_owned()
}

impl Show for Erasure {
    const NAME: &'static str = "usher.identity.v1.Erasure";
    const COLUMNS: &'static [&'static str] = &["ERASURE", "USER ID", "STATE", "DUE", "ASKED FOR BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.erasure_id.clone(),
            self.user_id.clone(),
            state(self),
            time::show(self.due_time.as_ref()),
            self.requester_id.clone(),
        ]
    }
}

impl Show for GetErasureCertificateResponse {
    const NAME: &'static str = "usher.identity.v1.GetErasureCertificateResponse";
    const COLUMNS: &'static [&'static str] = &["CERTIFICATE"];

    fn cells(&self) -> Vec<String> {
        vec![self.text.clone()]
    }
}

impl Show for ListErasureSubscribersResponse {
    const NAME: &'static str = "usher.identity.v1.ListErasureSubscribersResponse";
    const COLUMNS: &'static [&'static str] = &["SERVICE"];

    fn cells(&self) -> Vec<String> {
        vec![self.services.join(", ")]
    }
}
