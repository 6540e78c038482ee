//! `usher templates`: what mails say. A template is a folder with three files: subject.txt, text.txt and mail.mjml.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use usher_mail::Mail;
use usher_proto::identity::v1::{
    GetTemplateRequest, ListTemplateVersionsRequest, ListTemplatesRequest, PreviewTemplateRequest,
    PreviewTemplateResponse, ResetTemplateRequest, Template, TemplateContent, TemplateKey, TemplateKind,
    TemplateSource, UpdateTemplateRequest,
};

use super::{Change, Limit, Session, choice};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, short};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Templates {
    /// List the templates that mails are made with, and where each comes from.
    List {
        /// Only of this kind.
        #[arg(long, value_name = "KIND", value_parser = kinds())]
        kind: Option<TemplateKind>,
        /// Only in this language, whether or not there are templates in it.
        #[arg(long, default_value = "", hide_default_value = true)]
        language: String,
    },
    /// Show a template, or write it into a folder as a beginning for one of your own.
    Get {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        saved: Saved,
        /// Write subject.txt, text.txt and mail.mjml into this folder.
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
    /// Save a template from a folder with subject.txt, text.txt and mail.mjml.
    Set {
        #[command(flatten)]
        which: Which,
        /// The folder.
        folder: PathBuf,
        #[command(flatten)]
        expected: Expected,
        #[command(flatten)]
        change: Change,
    },
    /// Show a mail with made-up contents; nothing is sent or saved.
    Preview(Preview),
    /// Go back to what Usher says by itself; what was saved stays among the versions.
    Reset {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        expected: Expected,
        #[command(flatten)]
        change: Change,
    },
    /// List the versions of a template that were saved, the newest first.
    Versions {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        limit: Limit,
    },
}

/// Which template.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// What the mail is about.
    #[arg(value_parser = kinds())]
    kind: TemplateKind,
    /// BCP 47, for example fr or pt-BR.
    language: String,
    /// Of a reminder: from which step of the ladder on.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    step: i32,
}

#[derive(Debug, Args)]
pub(crate) struct Saved {
    /// A version that was saved; 0: the one that mails are made with.
    #[arg(
        long = "saved-version",
        id = "saved_version",
        default_value_t = 0,
        hide_default_value = true,
        value_name = "NUMBER"
    )]
    version: i64,
}

#[derive(Debug, Args)]
pub(crate) struct Expected {
    /// Refuse if the template has another newest version by now.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "NUMBER")]
    expected_version: i64,
}

#[derive(Debug, Args)]
pub(crate) struct Preview {
    #[command(flatten)]
    which: Which,
    /// A draft: a folder with subject.txt, text.txt and mail.mjml.
    #[arg(long, value_name = "FOLDER", conflicts_with = "saved_version")]
    draft: Option<PathBuf>,
    #[command(flatten)]
    saved: Saved,
    /// Replace a made-up value, for example first_name=Zoë or message=Welcome; repeat it for several.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    sample: Vec<(String, String)>,
    /// Write a file, of the form that its name ends in: .eml, .html or .txt; repeat it for several.
    #[arg(long, value_name = "FILE")]
    to: Vec<PathBuf>,
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = TemplateKind> {
    choice!(
        TemplateKind,
        "TEMPLATE_KIND_",
        [
            "invitation",
            "reminder",
            "account-created",
            "fresh-link",
            "expiry-warning",
            "expiry-warning-to-administrators",
            "inactivity-warning",
        ]
    )
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Which {
    fn key(&self) -> TemplateKey {
        TemplateKey {
            kind: self.kind.into(),
            step: if self.kind == TemplateKind::Reminder {
                self.step
            } else {
                0
            },
            language: self.language.clone(),
        }
    }
}

pub(super) async fn run(command: &Templates, session: &Session) -> Result<Exit, Failure> {
    let mut client = session.client.templates();
    let tenant_id = session.client.tenant.clone();
    match command {
        Templates::List { kind, language } => {
            let request = ListTemplatesRequest {
                tenant_id,
                kind: kind.unwrap_or_default().into(),
                language: language.clone(),
            };
            let listed = client.list_templates(request).await?.into_inner();
            session.out.list(&listed.templates)?;
        }
        Templates::Get { which, saved, to } => {
            let request = GetTemplateRequest {
                tenant_id,
                key: Some(which.key()),
                version: saved.version,
            };
            let template = client.get_template(request).await?.into_inner().template;
            let template = template.ok_or_else(|| incomplete("GetTemplate"))?;
            if let (Some(folder), Some(content)) = (to, &template.content) {
                write_folder(folder, content)?;
            }
            show(&template, session)?;
        }
        Templates::Set {
            which,
            folder,
            expected,
            change,
        } => {
            let request = UpdateTemplateRequest {
                tenant_id,
                key: Some(which.key()),
                content: Some(read_folder(folder)?),
                expected_version: expected.expected_version,
                options: Some(change.options()),
            };
            let template = client.update_template(request).await?.into_inner().template;
            show(&template.ok_or_else(|| incomplete("UpdateTemplate"))?, session)?;
        }
        Templates::Preview(preview) => self::preview(preview, session).await?,
        Templates::Reset {
            which,
            expected,
            change,
        } => {
            let request = ResetTemplateRequest {
                tenant_id,
                key: Some(which.key()),
                expected_version: expected.expected_version,
                options: Some(change.options()),
            };
            let template = client.reset_template(request).await?.into_inner().template;
            show(&template.ok_or_else(|| incomplete("ResetTemplate"))?, session)?;
        }
        Templates::Versions { which, limit } => {
            let versions = limit
                .gather(|page_size, page_token| {
                    let request = ListTemplateVersionsRequest {
                        tenant_id: tenant_id.clone(),
                        key: Some(which.key()),
                        page_size,
                        page_token,
                    };
                    let mut client = session.client.templates();
                    async move {
                        let page = client.list_template_versions(request).await?.into_inner();
                        Ok((page.versions, page.next_page_token))
                    }
                })
                .await?;
            session.out.list(&versions)?;
        }
    }
    Ok(Exit::Done)
}

async fn preview(command: &Preview, session: &Session) -> Result<(), Failure> {
    let request = PreviewTemplateRequest {
        tenant_id: session.client.tenant.clone(),
        key: Some(command.which.key()),
        draft: command.draft.as_deref().map(read_folder).transpose()?,
        version: command.saved.version,
        sample: command.sample.iter().cloned().collect::<HashMap<_, _>>(),
    };
    let mail = session.client.templates().preview_template(request).await?.into_inner();
    for path in &command.to {
        let form = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        let octets = match form {
            "eml" => eml(&mail)?,
            "html" => mail.html.clone().into_bytes(),
            "txt" => mail.text.clone().into_bytes(),
            _ => {
                let text = format!("{}: the name must end in .eml, .html or .txt", path.display());
                return Err(Failure::Usage(text));
            }
        };
        write(path, &octets)?;
    }
    if session.out.json {
        return output::lines([output::json(&mail)]);
    }
    let lines = mail.text.lines().map(output::printable);
    output::lines(
        [output::printable(&mail.subject), String::new()]
            .into_iter()
            .chain(lines),
    )
}

/// A mail as it travels, from and to nobody.
fn eml(mail: &PreviewTemplateResponse) -> Result<Vec<u8>, Failure> {
    let nobody = "preview@usher.invalid";
    let mail = Mail {
        from_address: nobody.into(),
        from_name: String::new(),
        reply_to: String::new(),
        unsubscribe_url: String::new(),
        to_address: nobody.into(),
        to_name: String::new(),
        message_id: nobody.into(),
        subject: mail.subject.clone(),
        text: mail.text.clone(),
        html: mail.html.clone(),
        language: mail.language.clone(),
        // The same preview is the same file.
        date: SystemTime::UNIX_EPOCH + Duration::from_hours(490_896),
    };
    let composed = usher_mail::compose(&mail).map_err(|error| Failure::Data(error.to_string()))?;
    Ok(composed.content)
}

const FILES: [&str; 3] = ["subject.txt", "text.txt", "mail.mjml"];

fn read_folder(folder: &Path) -> Result<TemplateContent, Failure> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|error| Failure::Data(format!("{}: {error}", path.display())))
    };
    let [subject, text, mjml] = FILES;
    Ok(TemplateContent {
        subject: read(subject)?.trim_end().to_owned(),
        text: read(text)?,
        mjml: read(mjml)?,
    })
}

fn write_folder(folder: &Path, content: &TemplateContent) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::Data(format!("{}: {error}", folder.display())))?;
    for (name, text) in FILES.iter().zip([&content.subject, &content.text, &content.mjml]) {
        write(
            &folder.join(name),
            format!("{}\n", text.trim_end_matches('\n')).as_bytes(),
        )?;
    }
    Ok(())
}

fn write(path: &Path, octets: &[u8]) -> Result<(), Failure> {
    fs::write(path, octets).map_err(|error| Failure::Data(format!("{}: {error}", path.display())))
}

fn name(key: Option<&TemplateKey>) -> (String, String) {
    let key = key.cloned().unwrap_or_default();
    let mut kind = short(key.kind().as_str_name(), "TEMPLATE_KIND_").to_owned();
    if key.kind() == TemplateKind::Reminder {
        kind = format!("{kind} {}", key.step);
    }
    (kind, key.language)
}

fn source(template: &Template) -> String {
    match template.source() {
        _ if template.reset => "reset".into(),
        TemplateSource::Tenant => {
            let (kind, language) = name(template.found.as_ref());
            format!("own: {kind}, {language}, version {}", template.version)
        }
        TemplateSource::Default | TemplateSource::Unspecified => {
            format!("Usher's: {}", name(template.found.as_ref()).1)
        }
    }
}

impl Show for Template {
    const NAME: &'static str = "usher.identity.v1.Template";
    const COLUMNS: &'static [&'static str] = &["KIND", "LANGUAGE", "FROM", "SAVED", "BY", "REASON"];

    fn cells(&self) -> Vec<String> {
        let (kind, language) = name(self.key.as_ref());
        let from = if self.reset {
            format!("version {}: reset", self.version)
        } else {
            source(self)
        };
        let (saved, by) = (time::show(self.save_time.as_ref()), self.saved_by.clone());
        vec![kind, language, from, saved, by, self.reason.clone()]
    }
}

impl Show for PreviewTemplateResponse {
    const NAME: &'static str = "usher.identity.v1.PreviewTemplateResponse";
    const COLUMNS: &'static [&'static str] = &["SUBJECT", "LANGUAGE"];

    fn cells(&self) -> Vec<String> {
        vec![self.subject.clone(), self.language.clone()]
    }
}

fn show(template: &Template, session: &Session) -> Result<(), Failure> {
    let (kind, language) = name(template.key.as_ref());
    let newest = match template.newest_version {
        0 => String::new(),
        newest => newest.to_string(),
    };
    let content = template.content.clone().unwrap_or_default();
    session.out.one(
        template,
        &[
            ("Kind", kind),
            ("Language", language),
            ("From", source(template)),
            ("Newest version", newest),
            ("Saved", time::show(template.save_time.as_ref())),
            ("By", template.saved_by.clone()),
            ("Reason", template.reason.clone()),
            ("Subject", content.subject.clone()),
        ],
    )?;
    if session.out.json || content.text.is_empty() {
        return Ok(());
    }
    output::lines(std::iter::once(String::new()).chain(content.text.lines().map(output::printable)))
}
