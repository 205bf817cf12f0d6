//! Where our own `streamer` binary is.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The release binary of this workspace, built afresh unless nothing changed, so that no
/// figures are of yesterday's code. Where the sources are gone (a copied executable): the
/// `streamer` beside this executable.
///
/// # Errors
/// If it does not build.
pub fn build_streamer() -> anyhow::Result<PathBuf> {
    let executable = env::current_exe().context("finding this executable")?;
    let beside = executable.with_file_name("streamer");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let profile = executable.parent().and_then(Path::parent);
    let (true, Some(target)) = (manifest.is_file(), profile) else {
        return Ok(beside);
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned());
    let status = Command::new(&cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "streamer-cli",
            "--manifest-path",
        ])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(target)
        .status()
        .with_context(|| format!("running {}", cargo.display()))?;
    ensure!(
        status.success(),
        "building streamer: cargo ended with {status}"
    );
    Ok(target.join("release/streamer"))
}
