//! Fetches the jars of a server with Maven, into the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache;

/// Pinned, since the version a distribution's Maven falls back to is a decade old.
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// What to install when `java` is missing.
const INSTALL_JAVA: &str = "apt-get install -y openjdk-17-jre-headless";
/// What to install when `mvn` is missing.
const INSTALL_MAVEN: &str = "apt-get install -y openjdk-17-jdk-headless maven";

/// How the artifacts of a pom are laid out in the cache entry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    /// Jars beside each other.
    Jars,
    /// Archives unpacked.
    Unpacked,
}

/// The directory with what the dependencies of `pom` are; `name` is its cache entry and holds the version.
pub(crate) fn artifacts(name: &str, pom: &str, layout: Layout) -> Result<PathBuf> {
    java()?;
    cache::filled(&format!("servers/{name}"), |dir| fetch(dir, pom, layout))
        .with_context(|| format!("fetch {name} with Maven"))
}

fn fetch(dir: &Path, pom: &str, layout: Layout) -> Result<()> {
    let mvn = program("mvn", INSTALL_MAVEN)?;
    let work = tempfile::tempdir().context("make a directory for the pom")?;
    std::fs::write(work.path().join("pom.xml"), pom)?;
    let goal = match layout {
        Layout::Jars => "copy-dependencies",
        Layout::Unpacked => "unpack-dependencies",
    };
    let output = Command::new(mvn)
        .current_dir(work.path())
        .args(["--batch-mode", "--no-transfer-progress", &format!("{PLUGIN}:{goal}")])
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", dir.display()))
        .output()
        .context("run mvn")?;
    if !output.status.success() {
        bail!("mvn {goal} failed:\n{}", String::from_utf8_lossy(&output.stdout));
    }
    if std::fs::read_dir(dir)?.next().is_none() {
        bail!("mvn {goal} wrote nothing:\n{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// The Java virtual machine that runs the servers.
pub(crate) fn java() -> Result<PathBuf> {
    program("java", INSTALL_JAVA)
}

/// The path of `name` in `$PATH`.
///
/// # Errors
/// When there is none: tells the command that installs it.
pub fn program(name: &str, install: &str) -> Result<PathBuf> {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("`{name}` is not installed. To install it: {install}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_program_is_told_with_the_command_that_installs_it() {
        let error = super::program("sluice-no-such-program", "apt-get install -y it").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sluice-no-such-program` is not installed. To install it: apt-get install -y it"
        );
    }
}
