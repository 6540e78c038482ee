//! Finds a server's program, and installs the Debian package that brings it if it is missing and that may be done.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use super::is_root;

/// While this file says so, Debian's packages do not start the system's own server when they are installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// One at a time: apt holds a lock, and the policy file is for all.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The program, out of `PATH` or one of `folders`, after installing `package` if need be.
pub fn program(name: &str, folders: &[PathBuf], package: &str) -> Result<PathBuf> {
    programs(name, || folders.to_vec(), package)
}

/// As [`program`], with folders that may only be there after the installation.
pub fn programs(name: &str, folders: impl Fn() -> Vec<PathBuf>, package: &str) -> Result<PathBuf> {
    if let Some(found) = find(name, &folders()) {
        return Ok(found);
    }
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(found) = find(name, &folders()) {
        return Ok(found);
    }
    install(package).with_context(|| format!("the tests need `{name}`: install the Debian package {package}"))?;
    find(name, &folders()).with_context(|| format!("the package {package} has no `{name}`"))
}

fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    folders
        .iter()
        .cloned()
        .chain(in_path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn install(package: &str) -> Result<()> {
    if !is_root() || find("apt-get", &[]).is_none() {
        bail!("it cannot be installed from here (that takes root and apt-get)");
    }
    eprintln!("installing {package} for the tests");
    let _policy = Policy::set()?;
    // A second try, with fresh package lists, for a machine that has none.
    if removes_something(package)? || apt(&["install", "-y", "--no-install-recommends", package]).is_err() {
        apt(&["update"])?;
        if removes_something(package)? {
            bail!("apt would remove other packages for it");
        }
        apt(&["install", "-y", "--no-install-recommends", package])?;
    }
    Ok(())
}

/// Whether other packages stand in the way (one mail server displaces another, for example).
fn removes_something(package: &str) -> Result<bool> {
    let plan = Command::new("apt-get")
        .args(["-s", "install", "--no-install-recommends", package])
        .output()?;
    Ok(String::from_utf8_lossy(&plan.stdout)
        .lines()
        .any(|line| line.starts_with("Remv ")))
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!(
            "apt-get {}: {}",
            arguments.join(" "),
            error.lines().last().unwrap_or("failed")
        );
    }
    Ok(())
}

/// Denies packages to start their servers, until it is dropped. Leaves alone a policy that is there already.
struct Policy {
    ours: bool,
}

impl Policy {
    fn set() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            std::fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}
