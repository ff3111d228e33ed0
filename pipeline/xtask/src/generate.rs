//! Files written from a source of truth elsewhere in the tree, and the check that they are current.
//!
//! To add one, write a function that makes its text and add a line to [`ALL`]. What only the binary knows (settings,
//! HTTP API) is asked of it: `project::output(&mut project.cargo(["run", "-q", "-p", "sluice", "--", …]))`.

mod manifests;
mod types;

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::project::Project;

struct Generator {
    /// The file, relative to the root.
    path: &'static str,
    /// Its whole text; nothing when this machine lacks what it takes, of which the reader is told.
    text: fn(&Project) -> Result<Option<String>>,
}

const ALL: &[Generator] = &[
    Generator { path: "schemas/src/generated.rs", text: record_types },
    Generator { path: "k8s/config.yaml", text: manifests::config },
    Generator { path: "k8s/setup.yaml", text: manifests::setup },
    Generator { path: "k8s/sluice.yaml", text: manifests::roles },
    Generator { path: "k8s/topics-strimzi.yaml", text: manifests::topics },
];

/// Writes every generated file that is not current.
pub(crate) fn write(project: &Project) -> Result<()> {
    for generator in ALL {
        let Some(text) = text(project, generator)? else { continue };
        if !is_current(project, generator, &text) {
            let path = project.path(generator.path);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            println!("wrote {}", generator.path);
        }
    }
    Ok(())
}

/// Fails when a generated file is not what its generator writes.
pub(crate) fn check(project: &Project) -> Result<()> {
    let mut stale = Vec::new();
    for generator in ALL {
        let Some(text) = text(project, generator)? else { continue };
        if !is_current(project, generator, &text) {
            stale.push(generator.path);
        }
    }
    if !stale.is_empty() {
        bail!("not current: {}. Run `cargo xtask generate`", stale.join(", "));
    }
    Ok(())
}

fn text(project: &Project, generator: &Generator) -> Result<Option<String>> {
    let text = (generator.text)(project).with_context(|| format!("generate {}", generator.path))?;
    if text.is_none() {
        println!("{}: neither made nor checked here", generator.path);
    }
    Ok(text)
}

fn is_current(project: &Project, generator: &Generator, text: &str) -> bool {
    std::fs::read(project.path(generator.path)).is_ok_and(|old| old == text.as_bytes())
}

fn record_types(project: &Project) -> Result<Option<String>> {
    rustfmt(project, &types::rust_types(&project.path("schemas/avro"))?).map(Some)
}

/// `source` as `cargo fmt` leaves it, so that the format check has no exceptions.
fn rustfmt(project: &Project, source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--config-path"])
        .arg(project.path("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run rustfmt (to install it: rustup component add rustfmt)")?;
    let mut stdin = child.stdin.take().context("standard input of rustfmt")?;
    let output = std::thread::scope(|scope| {
        // Beside reading, or both sides would wait on full pipes.
        scope.spawn(move || stdin.write_all(source.as_bytes()));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        bail!("rustfmt failed ({})", output.status);
    }
    String::from_utf8(output.stdout).context("output of rustfmt")
}
