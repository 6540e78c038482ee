//! Files of results: each has its name only when all of it is there.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::client::patiently;
use crate::failure::Failure;

/// Lets `write` fill FILE.part, from the beginning as often as it takes, and gives it its name when it is complete. What had
/// the name before stays until then; Ctrl-C leaves nothing behind. `write` hands the file back with its answer.
pub(crate) async fn complete<T, W>(path: &Path, write: impl Fn(BufWriter<File>) -> W) -> Result<T, Failure>
where
    W: Future<Output = Result<(BufWriter<File>, T), Failure>>,
{
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let failed = |cause| Failure::io(format!("cannot write {}", part.display()), cause);
    let attempt = || async {
        let (file, written) = write(BufWriter::new(File::create(&part).map_err(failed)?)).await?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(written)
    };
    let written = tokio::select! {
        // Listened for before there is a file.
        biased;
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::Interrupted(format!("interrupted: {} was not written", path.display())))
        }
        written = patiently(attempt) => written,
    };
    let written = written.and_then(|written| {
        let failed = |cause| Failure::io(format!("cannot write {}", path.display()), cause);
        std::fs::rename(&part, path).map_err(failed)?;
        Ok(written)
    });
    if written.is_err() {
        // Half a file is of no use; where it cannot be removed, its name says what it is.
        let _ = std::fs::remove_file(&part);
    }
    written
}
