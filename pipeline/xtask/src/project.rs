//! The checkout, and the commands that run in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// The checkout that this program was built from or is run in.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    /// The workspace around the working directory.
    pub(crate) fn find() -> Result<Self> {
        let output = cargo()
            .args(["locate-project", "--workspace", "--message-format", "plain"])
            .output()
            .context("run cargo")?;
        let manifest = String::from_utf8(output.stdout).context("cargo locate-project")?;
        let root = Path::new(manifest.trim()).parent().context("not in a cargo workspace")?;
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// `cargo` at the root, with `arguments`.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = cargo();
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// What cargo knows of the workspace and of every package it resolves to.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        MetadataCommand::new().current_dir(&self.root).exec().context("cargo metadata")
    }

    /// Every file that git tracks or would add, relative to the root.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut command = Command::new("git");
        command
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(&self.root);
        let listing = output(&mut command)?;
        let files = listing.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // A file that is deleted but still in the index is not there to be read.
        Ok(files.filter(|file| self.path(file).is_file()).collect())
    }
}

fn cargo() -> Command {
    // Set by cargo for what it runs, to itself.
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs it with our standard output and error; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {}", name(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", text(command));
    }
    Ok(())
}

/// Its standard output; an error, with its standard error, when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {}", name(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        bail!("`{}` failed ({}):\n{stdout}{stderr}", text(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", name(command)))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn text(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
