//! What a change must keep. Every check runs, so one run tells all that is wrong.

mod chart_settings;
mod direction;
mod helm;
mod laws;
mod licences;
mod spdx;
mod tree;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::generate;
use crate::project::{self, Project};

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// No secret, no path of somebody's machine, no unfinished mark, no file too long.
    Tree,
    /// Sources as `cargo fmt` leaves them.
    Format,
    /// Each crate depends only on what its layer may.
    Direction,
    /// Every dependency has a licence we accept.
    Licences,
    /// Generated files are what their generators write.
    Generated,
    /// clippy without a warning.
    Clippy,
    /// The Helm chart and the plain manifests are valid Kubernetes.
    Helm,
}

/// Runs the checks in `only`, or all when it is empty.
pub(crate) fn run(project: &Project, only: &[Name]) -> Result<()> {
    let mut failed = Vec::new();
    for name in Name::value_variants() {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        let label = name.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let start = Instant::now();
        let result = one(project, *name);
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("check {label}: ok ({seconds:.1} s)"),
            Err(error) => {
                println!("check {label}: FAILED ({seconds:.1} s)\n{error:#}");
                failed.push(label);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn one(project: &Project, name: Name) -> Result<()> {
    match name {
        Name::Tree => none_found(tree::findings(project)?),
        Name::Format => project::run(&mut project.cargo(["fmt", "--all", "--check"])),
        Name::Direction => none_found(direction::findings(&project.metadata()?)),
        Name::Licences => none_found(licences::findings(&project.metadata()?)),
        Name::Generated => generate::check(project),
        Name::Clippy => project::run(&mut project.cargo([
            "clippy",
            "--quiet",
            "--keep-going",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])),
        Name::Helm => helm::check(project),
    }
}

fn none_found(findings: Vec<String>) -> Result<()> {
    if findings.is_empty() { Ok(()) } else { bail!("{}", findings.join("\n")) }
}
