//! Where messages come from: standard input, files and Maildir folders; what begins as an mbox does is one. One message at a time is in memory, and
//! never more of it than counts.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::MAX_MESSAGE;
use crate::failure::Failure;

/// Calls `take` with the name and the bytes of each message behind a path; `-` is standard input. A longer message than
/// counts is cut one byte after.
pub(crate) async fn each_message(
    path: &Path,
    mut take: impl AsyncFnMut(String, Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let name = path.display().to_string();
    let failed = |cause: io::Error| Failure::io(format!("cannot read {name}"), cause);
    if path.as_os_str() == "-" {
        return each_of(&name, BufReader::new(io::stdin()), take).await;
    }
    if path.is_dir() {
        for file in of_maildir(path).map_err(failed)? {
            let message = File::open(&file).and_then(|mut file| bounded(&mut file));
            match message {
                Ok(message) => take(file.display().to_string(), message).await?,
                // Another program took it away meanwhile.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(failed(cause)),
            }
        }
        return Ok(());
    }
    each_of(&name, BufReader::new(File::open(path).map_err(failed)?), take).await
}

/// The messages of an mbox, or the only one.
async fn each_of<R: Read>(
    name: &str,
    mut from: BufReader<R>,
    mut take: impl AsyncFnMut(String, Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::io(format!("cannot read {name}"), cause);
    // A pipe gives as little at a time as it likes.
    let mut start = Vec::new();
    (&mut from)
        .take(SEPARATOR.len() as u64)
        .read_to_end(&mut start)
        .map_err(failed)?;
    let is_mbox = start == SEPARATOR;
    let mut from = io::Cursor::new(start).chain(from);
    if !is_mbox {
        return take(name.to_owned(), bounded(&mut from).map_err(failed)?).await;
    }
    let mut mbox = Mbox::new(from);
    let mut number = 0;
    while let Some(message) = mbox.next().map_err(failed)? {
        number += 1;
        take(format!("{name}:{number}"), message).await?;
    }
    Ok(())
}

/// Begins each message of an mbox, and the mbox.
const SEPARATOR: &[u8] = b"From ";

fn bounded(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    from.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut message)?;
    Ok(message)
}

/// The files in `new` and `cur`, in order of their names, which begin with the time.
fn of_maildir(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in ["new", "cur"] {
        for entry in fs::read_dir(folder.join(part))? {
            let entry = entry?;
            if entry.file_type()?.is_file() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
                files.push(entry.path());
            }
        }
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(files)
}

/// Messages that lines beginning with `From ` part.
#[derive(Debug)]
struct Mbox<R> {
    from: R,
    begun: bool,
}

impl<R: BufRead> Mbox<R> {
    fn new(from: R) -> Self {
        Self { from, begun: false }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut message, mut line) = (Vec::new(), Vec::new());
        let mut at_start = true;
        loop {
            line.clear();
            // Of a line without an end only a piece is in memory.
            let read = (&mut self.from).take(1 << 16).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(std::mem::take(&mut self.begun).then_some(message));
            }
            if at_start && line.starts_with(SEPARATOR) {
                // The rest of a long separator is no message.
                while !line.ends_with(b"\n") && (&mut self.from).take(1 << 16).read_until(b'\n', &mut line)? > 0 {
                    line.drain(..line.len() - 1);
                }
                if std::mem::replace(&mut self.begun, true) {
                    return Ok(Some(message));
                }
                continue;
            }
            at_start = line.ends_with(b"\n");
            // mboxrd: such a line of the message's own was quoted.
            let quotes = line.iter().take_while(|byte| **byte == b'>').count();
            let piece = if quotes > 0 && line[quotes..].starts_with(SEPARATOR) {
                &line[1..]
            } else {
                &line[..]
            };
            let room = (MAX_MESSAGE + 1).saturating_sub(message.len());
            message.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let mut mbox = Mbox::new(text.as_bytes());
        let mut found = Vec::new();
        while let Some(message) = mbox.next().unwrap() {
            found.push(String::from_utf8(message).unwrap());
        }
        found
    }

    #[test]
    fn l13_an_mbox_is_parted_at_its_separators_and_quotes_are_taken_off() {
        let found = messages("From a\nSubject: 1\n\n>From home\n>>From x\n\nFrom b\nSubject: 2\n\nhi");
        assert_eq!(found, ["Subject: 1\n\nFrom home\n>From x\n\n", "Subject: 2\n\nhi"]);
        assert_eq!(messages("From a\n"), [""]);
        assert!(messages("").is_empty());
        let long = format!("From {}\nx\nFrom b\ny\n", "z".repeat(200_000));
        assert_eq!(messages(&long), ["x\n", "y\n"]);
    }

    /// Gives one byte at a time, as a pipe may.
    struct Pipe(&'static [u8]);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = 1.min(self.0.len()).min(buffer.len());
            (&mut self.0).take(length as u64).read(buffer)
        }
    }

    #[tokio::test]
    async fn l13_an_mbox_that_is_piped_is_as_many_messages_as_one_in_a_file() {
        for (piped, expected) in [
            (
                "From a\nSubject: 1\n\nFrom b\nSubject: 2\n",
                vec![("-:1", "Subject: 1\n\n"), ("-:2", "Subject: 2\n")],
            ),
            ("From: ana\n\nFrom b\n", vec![("-", "From: ana\n\nFrom b\n")]),
            ("Fr", vec![("-", "Fr")]),
        ] {
            let mut found = Vec::new();
            each_of("-", BufReader::new(Pipe(piped.as_bytes())), async |name, message| {
                found.push((name, String::from_utf8(message).unwrap()));
                Ok(())
            })
            .await
            .unwrap();
            let expected: Vec<_> = expected
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn l13_a_maildir_gives_what_is_new_and_what_was_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["new", "cur", "tmp"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        for (file, text) in [
            ("new/2.a", "two"),
            ("cur/1.a:2,S", "one"),
            ("tmp/0.a", "not yet"),
            ("new/.x", ""),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let mut found = Vec::new();
        each_message(folder.path(), async |_, message| {
            found.push(String::from_utf8(message).unwrap());
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(found, ["one", "two"]);
        assert!(
            each_message(&folder.path().join("tmp"), async |_, _| Ok(()))
                .await
                .is_err()
        );
    }
}
