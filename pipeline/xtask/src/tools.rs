//! Tools that the checks need, installed into the cache when they are not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use sluice_testkit::{cache, program};

use crate::project;

const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.19.0";
const KUBECONFORM: &str = "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0";
/// Bundles the schemas of every Kubernetes version since 1.25.
const SCHEMAS: &str = "kubernetes-validate==1.37.0";
/// The Kubernetes version that manifests are checked against.
pub(crate) const KUBERNETES: &str = "1.33.0";

const INSTALL_GO: &str = "see https://go.dev/doc/install (1.24 or later)";
const INSTALL_PYTHON: &str = "apt-get install -y python3 python3-pip";

pub(crate) fn helm() -> Result<PathBuf> {
    go_tool("helm", HELM)
}

/// helm, unless there is neither one in the cache nor a Go to build it with.
pub(crate) fn helm_if_possible() -> Result<Option<PathBuf>> {
    if program("go", INSTALL_GO).is_err() && !cache::dir()?.join(go_tool_dir("helm", HELM)).is_dir() {
        return Ok(None);
    }
    helm().map(Some)
}

pub(crate) fn kubeconform() -> Result<PathBuf> {
    go_tool("kubeconform", KUBECONFORM)
}

/// Where in the cache that tool is.
fn go_tool_dir(name: &str, package: &str) -> String {
    format!("tools/{name}-{}", package.rsplit('@').next().unwrap_or_default())
}

/// A tool of that version; it is compiled once, which takes minutes for helm.
fn go_tool(name: &str, package: &str) -> Result<PathBuf> {
    let dir = cache::filled(&go_tool_dir(name, package), |dir| {
        let go = program("go", INSTALL_GO)?;
        eprintln!("installing {package}");
        project::output(Command::new(go).args(["install", package]).env("GOBIN", dir)).map(|_| ())
    })
    .with_context(|| format!("install {name}"))?;
    Ok(dir.join(name))
}

/// Schemas for `kubeconform -strict`, from a Python package that bundles them, so that the check needs no network
/// once they are here. The value is for `-schema-location`.
pub(crate) fn kubernetes_schemas() -> Result<String> {
    let dir = cache::filled(&format!("tools/kubernetes-schemas-{KUBERNETES}"), |dir| {
        let python = program("python3", INSTALL_PYTHON)?;
        let work = tempfile::tempdir().context("make a directory")?;
        project::output(
            Command::new(&python)
                .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", SCHEMAS])
                .arg("--dest")
                .arg(work.path()),
        )?;
        let wheel = only_file(work.path())?;
        let unpacked = work.path().join("unpacked");
        project::output(Command::new(&python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked))?;
        let bundled = format!("kubernetes_validate/kubernetes-json-schema/v{KUBERNETES}-local-strict");
        copy_schemas(&unpacked.join(bundled), dir)
    })
    .context("get the Kubernetes schemas")?;
    Ok(format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", dir.display()))
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    let entry = std::fs::read_dir(dir)?.next().with_context(|| format!("{} is empty", dir.display()))?;
    Ok(entry?.path())
}

/// The bundle names its definitions by a URL path that only its own program resolves; kubeconform reads files that
/// refer to each other by name.
fn copy_schemas(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().context("file name")?;
        let text = std::fs::read_to_string(&path)?.replace("/api/_definitions.json#", "_definitions.json#");
        let mut schema: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        if let Some(object) = schema.as_object_mut() {
            object.remove("$id");
        }
        std::fs::write(to.join(name), serde_json::to_vec(&schema)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_refer_to_the_file_beside_them() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let schema = r##"{"$id": "https://x/api/pod", "$ref": "/api/_definitions.json#/$defs/Pod"}"##;
        std::fs::write(from.path().join("pod-v1.json"), schema).unwrap();
        copy_schemas(from.path(), to.path()).unwrap();
        let copied = std::fs::read_to_string(to.path().join("pod-v1.json")).unwrap();
        assert_eq!(copied, r##"{"$ref":"_definitions.json#/$defs/Pod"}"##);
    }
}
