//! The Helm chart and the plain manifests, against the schemas of Kubernetes, without a cluster.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::project::{self, Project};
use crate::tools;

const CHART: &str = "helm/sluice";
const MANIFESTS: &str = "k8s";
/// Kinds of operators that may be in the cluster; Kubernetes itself has no schema of them.
const FOREIGN_KINDS: &str = "ServiceMonitor,PodMonitor,PrometheusRule,ScaledObject";

pub(super) fn check(project: &Project) -> Result<()> {
    prove_validator()?;
    let chart = project.path(CHART);
    if chart.join("Chart.yaml").is_file() {
        check_chart(&chart)?;
    }
    let manifests = yaml_files(&project.path(MANIFESTS))?;
    // A kustomization is an instruction to kubectl, not an object of the cluster.
    let objects = manifests.iter().filter(|path| !path.ends_with("kustomization.yaml"));
    for path in objects {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        validate(&text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The chart with its own values, and with each scenario in `ci/`.
fn check_chart(chart: &Path) -> Result<()> {
    let helm = tools::helm()?;
    let scenarios = yaml_files(&chart.join("ci"))?;
    for values in std::iter::once(None).chain(scenarios.iter().map(Some)) {
        let mut lint = Command::new(&helm);
        let mut template = Command::new(&helm);
        lint.args(["lint", "--strict"]).arg(chart);
        template.args(["template", "sluice"]).arg(chart);
        if let Some(values) = values {
            lint.arg("--values").arg(values);
            template.arg("--values").arg(values);
        }
        let scenario = || values.map_or("its own values".to_owned(), |path| path.display().to_string());
        project::output(&mut lint).with_context(scenario)?;
        let text = project::output(&mut template).with_context(scenario)?;
        validate(text.as_bytes()).with_context(scenario)?;
    }
    Ok(())
}

/// A validator that lets everything pass (no schemas found, a flag misread) would prove nothing.
fn prove_validator() -> Result<()> {
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: proof\n";
    validate(format!("{object}data:\n  a: b\n").as_bytes())?;
    if validate(format!("{object}dat:\n  a: b\n").as_bytes()).is_ok() {
        bail!("kubeconform accepts a field that Kubernetes does not have");
    }
    Ok(())
}

/// Fails when an object is not valid.
fn validate(manifests: &[u8]) -> Result<()> {
    let mut child = Command::new(tools::kubeconform()?)
        .args(["-strict", "-summary", "-kubernetes-version", tools::KUBERNETES, "-skip", FOREIGN_KINDS])
        .args(["-schema-location", &tools::kubernetes_schemas()?, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run kubeconform")?;
    let mut stdin = child.stdin.take().context("standard input of kubeconform")?;
    let output = std::thread::scope(|scope| {
        // Beside reading, or both sides would wait on full pipes.
        scope.spawn(move || stdin.write_all(manifests));
        child.wait_with_output()
    })?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("kubeconform: {told}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The YAML files in `dir`, in order; none when there is no such directory.
fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
