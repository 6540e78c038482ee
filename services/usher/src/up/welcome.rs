//! What `usher up` says once it serves: where things are, and what to try.

use std::path::Path;

use usher_core::email::EmailAddress;
use usher_proto::identity::v1::{CreateTenantRequest, ErrorReason, GetTenantRequest, Tenant};

use super::{DEFAULT_FOLDER, Folder, demo};
use crate::client::{Client, DEFAULT_SERVER, DEMO_TENANT};
use crate::failure::Failure;
use crate::output;

/// Who acts in what `usher up` does by itself.
const ACTOR: &str = "usher-up";
/// What the first tenant is called; its name stands in mails.
const TENANT_NAME: &str = "Northfield School";

/// Shows newcomers around.
pub(super) struct Guide {
    /// Where the API listens.
    pub(super) server: String,
    /// Where everything is kept.
    pub(super) folder: Folder,
    /// Where mails go, in words.
    pub(super) mails: String,
}

impl Guide {
    /// Makes sure that there is a tenant, says where things are, and runs the demonstration if there is one.
    pub(super) async fn show(&self, demo: Option<&Path>) -> Result<(), Failure> {
        let client = Client::try_new(&self.server, DEMO_TENANT, ACTOR)?;
        let tenant = ensure_tenant(&client).await?;
        output::lines(["Usher is up. Ctrl-C ends it; the next start goes on from here.", ""])?;
        output::pairs(&[
            ("API", format!("{} (gRPC, gRPC-Web, reflection)", self.server)),
            ("Data", self.folder.to_string()),
            ("Mails", self.mail_place()),
            ("Tenant", format!("{tenant} ({DEMO_TENANT})")),
        ])?;
        match demo {
            Some(file) => demo::run(self, &client, file).await,
            None => output::lines([
                String::new(),
                "Try in another terminal:".into(),
                self.command("invite ana@example.org --label maths"),
                self.command("users list"),
                self.command("events --follow"),
            ]),
        }
    }

    /// A command as it is to be typed, indented. The program is named as it was for this process.
    pub(super) fn command(&self, rest: &str) -> String {
        let program = std::env::args().next().unwrap_or_else(|| "usher".into());
        if self.server == DEFAULT_SERVER {
            format!("  {program} {rest}")
        } else {
            format!("  {program} --server {} {rest}", self.server)
        }
    }

    /// A command that works on the folder rather than through the server.
    pub(super) fn local_command(&self, rest: &str) -> String {
        let usual = std::path::absolute(DEFAULT_FOLDER)
            .is_ok_and(|usual| usual.display().to_string() == self.folder.to_string());
        let program = std::env::args().next().unwrap_or_else(|| "usher".into());
        if usual {
            format!("  {program} {rest}")
        } else {
            format!("  {program} {rest} --data {}", self.folder)
        }
    }

    /// The newest mail to an address, as an argument of `accept`.
    pub(super) fn mail_to(&self, email: &str) -> String {
        let envelope = EmailAddress::parse(email)
            .map(|email| email.envelope())
            .unwrap_or_default();
        let files = std::fs::read_dir(self.folder.mails()).into_iter().flatten().flatten();
        let newest = files
            .filter(|file| file.file_name().to_string_lossy().starts_with(&format!("{envelope}--")))
            .max_by_key(|file| file.metadata().and_then(|metadata| metadata.modified()).ok());
        let here = std::env::current_dir().unwrap_or_default();
        match newest {
            Some(file) => file
                .path()
                .strip_prefix(here)
                .unwrap_or(&file.path())
                .display()
                .to_string(),
            None => "LINK".into(),
        }
    }

    fn mail_place(&self) -> String {
        match &self.mails {
            mails if mails.starts_with("files") => self.folder.mails().display().to_string(),
            mails => mails.clone(),
        }
    }
}

/// The tenant's name; the tenant is made if there is none.
async fn ensure_tenant(client: &Client) -> Result<String, Failure> {
    let request = GetTenantRequest {
        tenant_id: DEMO_TENANT.into(),
    };
    let found = client.tenants().get_tenant(request).await.map_err(Failure::from);
    let tenant = match found {
        Ok(answer) => answer.into_inner().tenant,
        Err(failure) if failure.reason() == Some(ErrorReason::TenantNotFound) => {
            let request = CreateTenantRequest {
                tenant: Some(Tenant {
                    tenant_id: DEMO_TENANT.into(),
                    display_name: TENANT_NAME.into(),
                    ..Tenant::default()
                }),
                options: None,
            };
            client.tenants().create_tenant(request).await?.into_inner().tenant
        }
        Err(failure) => return Err(failure),
    };
    Ok(tenant.map(|tenant| tenant.display_name).unwrap_or_default())
}
