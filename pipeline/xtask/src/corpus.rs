//! Runs the connectors over captured provider samples.

use std::path::Path;

use anyhow::{Context, Result};

use crate::project::{self, Project};

pub(crate) fn run(project: &Project, dir: &Path) -> Result<()> {
    let dir = dir.canonicalize().with_context(|| format!("read {}", dir.display()))?;
    let mut command = project.cargo(["run", "--quiet", "-p", "sluice-whatsapp", "--example", "corpus", "--"]);
    project::run(command.arg(dir))
}
