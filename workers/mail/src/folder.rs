//! Mails as files: what a developer, a demonstration or a small installation without a mail server looks at. Each mail
//! is an `.eml` file that any mail program opens, named after its recipient: `ana@example.org--<id>.eml`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::{Mail, Phase, Progress, SendOutcome, Transport, compose, one_line};

/// Puts mails into a folder. A mail is there whole or not at all, and a repeat of it is the same file.
#[derive(Debug, Clone)]
pub struct FolderTransport {
    folder: PathBuf,
}

impl FolderTransport {
    /// Into a folder, which is created if there is none.
    pub fn new(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// The file of a mail.
    pub fn path(&self, mail: &Mail) -> PathBuf {
        let id = mail.message_id.split('@').next().unwrap_or_default();
        self.folder
            .join(format!("{}--{}.eml", file_name(&mail.to_address), file_name(id)))
    }
}

#[async_trait]
impl Transport for FolderTransport {
    async fn send(&self, mail: &Mail, progress: &dyn Progress) -> SendOutcome {
        let content = match compose(mail) {
            Ok(composed) => composed.content,
            Err(error) => {
                return SendOutcome::Failed {
                    phase: Phase::Mail,
                    code: 0,
                    response: one_line(&error.to_string()),
                };
            }
        };
        let path = self.path(mail);
        let draft = path.with_extension("eml.part");
        let write = {
            let draft = draft.clone();
            blocking(move || write_durably(&draft, &content))
        };
        if let Err(error) = write.await {
            return SendOutcome::Unreachable {
                response: fault(&self.folder, &error),
            };
        }
        if progress.transmitting().await.is_err() {
            // Left over at worst: a draft is no mail, and the next attempt overwrites it.
            let _ = blocking(move || fs::remove_file(draft)).await;
            return SendOutcome::Withheld;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.folder.clone();
        let publish = blocking(move || {
            fs::rename(draft, path)?;
            Ok(File::open(folder).and_then(|folder| folder.sync_all()))
        });
        match publish.await {
            Ok(Ok(())) => SendOutcome::Sent {
                code: 250,
                response: one_line(&format!("written to {name}")),
            },
            // It is there, but a power cut might take it back.
            Ok(Err(error)) => SendOutcome::Uncertain {
                response: fault(&self.folder, &error),
            },
            Err(error) => SendOutcome::Deferred {
                phase: Phase::Content,
                code: 0,
                response: fault(&self.folder, &error),
            },
        }
    }
}

fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn fault(folder: &Path, error: &io::Error) -> String {
    one_line(&format!(
        "the mail folder {} cannot be written: {error}",
        folder.display()
    ))
}

/// A text as a part of a file name: what file systems or shells could take for something else becomes `_`.
fn file_name(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "@.+-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars()
        .map(plain)
        .take(110)
        .collect::<String>()
        .trim_start_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::Refused;

    use super::*;

    struct Answer(Result<(), Refused>);

    #[async_trait]
    impl Progress for Answer {
        async fn transmitting(&self) -> Result<(), Refused> {
            self.0
        }
    }

    fn mail(to: &str) -> Mail {
        Mail {
            from_address: "no-reply@school.example".into(),
            from_name: String::new(),
            reply_to: String::new(),
            unsubscribe_url: String::new(),
            to_address: to.into(),
            to_name: String::new(),
            message_id: "0192ab@usher.example".into(),
            subject: "Hello".into(),
            text: "Hello\n".into(),
            html: "<p>Hello</p>\n".into(),
            language: String::new(),
            date: SystemTime::UNIX_EPOCH,
        }
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_mail_is_a_file_named_after_its_recipient_and_a_repeat_is_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let transport = FolderTransport::new(folder.path().join("mail")).unwrap();
        for _ in 0..2 {
            let outcome = transport.send(&mail("ana+1@example.org"), &Answer(Ok(()))).await;
            assert_eq!(outcome.name(), "sent");
        }
        assert_eq!(files(&folder.path().join("mail")), ["ana+1@example.org--0192ab.eml"]);
        let content = fs::read_to_string(transport.path(&mail("ana+1@example.org"))).unwrap();
        assert!(content.contains("Subject: Hello"), "{content}");
    }

    #[tokio::test]
    async fn a_mail_that_must_not_be_sent_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let transport = FolderTransport::new(folder.path()).unwrap();
        let outcome = transport.send(&mail("ana@example.org"), &Answer(Err(Refused))).await;
        assert_eq!(outcome, SendOutcome::Withheld);
        assert!(files(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_is_a_server_that_cannot_be_reached() {
        let folder = tempfile::tempdir().unwrap();
        let transport = FolderTransport::new(folder.path().join("mail")).unwrap();
        fs::remove_dir(folder.path().join("mail")).unwrap();
        let outcome = transport.send(&mail("ana@example.org"), &Answer(Ok(()))).await;
        assert_eq!(outcome.name(), "unreachable");
    }

    #[test]
    fn a_file_name_cannot_leave_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(file_name("o'brien@example.org"), "o_brien@example.org");
    }
}
