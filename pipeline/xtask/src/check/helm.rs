//! The Helm chart and the plain manifests, against the schemas of Kubernetes, without a cluster.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{chart_settings, laws, none_found};
use crate::project::{self, Project};
use crate::tools;

const CHART: &str = "helm/sluice";
const MANIFESTS: &str = "k8s";
/// Kinds of operators that may be in the cluster; Kubernetes itself has no schema of them.
const FOREIGN_KINDS: &str = "ServiceMonitor,PodMonitor,PrometheusRule,ScaledObject,KafkaTopic";
const DEFAULTS: &str = "pipeline/sluice/src/settings/defaults.toml";

pub(super) fn check(project: &Project) -> Result<()> {
    prove_validator()?;
    let chart = project.path(CHART);
    if chart.join("Chart.yaml").is_file() {
        check_chart(project, &chart)?;
    }
    let manifests = yaml_files(&project.path(MANIFESTS))?;
    // A kustomization is an instruction to kubectl, not an object of the cluster.
    let objects = manifests.iter().filter(|path| !path.ends_with("kustomization.yaml"));
    let mut whole = String::new();
    for path in objects {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        validate(text.as_bytes()).with_context(|| path.display().to_string())?;
        whole.push_str("---\n");
        whole.push_str(&text);
    }
    // Together, because what one file mounts another may hold.
    none_found(laws::findings(&objects_of(&whole)?)).context(MANIFESTS)
}

/// What the chart must refuse, as `--set` takes it: unknown values, and secrets that would stand in a ConfigMap.
const REFUSED: &[&str] = &[
    "unknown=1",
    "roles.sender.unknown=1",
    "settings.unknown.a=1",
    "settings.kafka.properties.sasl\\.password=x",
    "settings.store.password=x",
    "settings.registry.password=x",
    "settings.credentials.keys.k1=x",
    "secrets.kafka.password=x",
];

fn refuses(helm: &Path, chart: &Path) -> Result<()> {
    for set in REFUSED {
        let mut template = Command::new(helm);
        template.args(["template", "sluice"]).arg(chart).args(["--set", set]);
        if project::output(&mut template).is_ok() {
            bail!("the chart takes {set}");
        }
    }
    Ok(())
}

/// The chart with its own values, and with each scenario in `ci/`.
fn check_chart(project: &Project, chart: &Path) -> Result<()> {
    let helm = tools::helm()?;
    let read =
        |path: PathBuf| std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()));
    let defaults = read(project.path(DEFAULTS))?;
    let known_keys = chart_settings::known_keys(&defaults)?;
    none_found(chart_settings::closed_sections(&defaults, &read(chart.join("values.schema.json"))?)?)?;
    refuses(&helm, chart)?;
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
        let objects = objects_of(&text).with_context(scenario)?;
        let mut found = laws::findings(&objects);
        found.extend(laws::scientific(&text));
        found.extend(chart_settings::findings(&objects, &known_keys).with_context(scenario)?);
        none_found(found).with_context(scenario)?;
    }
    Ok(())
}

/// Turns YAML into a JSON object a line. Helm reads YAML, so that we need no reader of our own.
const TO_JSON: &str = r#"{{- range regexSplit "(?m)^---[ ]*$" (.Files.Get "objects.yaml") -1 }}
{{- with fromYaml . }}
{{ toJson . }}
{{- end }}
{{- end }}
"#;

/// The objects in `manifests`.
fn objects_of(manifests: &str) -> Result<Vec<Value>> {
    let chart = tempfile::tempdir().context("make a directory")?;
    let file = |name: &str, text: &str| {
        std::fs::write(chart.path().join(name), text).with_context(|| format!("write {name}"))
    };
    file("Chart.yaml", "apiVersion: v2\nname: objects\nversion: 0.0.0\n")?;
    file("objects.yaml", manifests)?;
    std::fs::create_dir(chart.path().join("templates")).context("make a directory")?;
    file("templates/objects.yaml", TO_JSON)?;
    let text =
        project::output(Command::new(tools::helm()?).arg("template").arg("objects").arg(chart.path()))?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let objects = lines
        .map(|line| serde_json::from_str::<Value>(line).context("an object"))
        .collect::<Result<Vec<Value>>>()?;
    let wanted = manifests.lines().filter(|line| line.starts_with("kind: ")).count();
    // What Helm cannot read it turns into an object that says so.
    if objects.len() != wanted || objects.iter().any(|object| !object["kind"].is_string()) {
        bail!("{} objects were read and {wanted} are there", objects.len());
    }
    Ok(objects)
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
