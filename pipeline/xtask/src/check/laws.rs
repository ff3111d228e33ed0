//! What must hold of the manifests beyond their form: laws over the objects of one rendering.

use serde_json::Value;

/// Workloads whose pods keep something on a disk or in a log of their own, so that each needs a name that stays.
const STATEFUL: &[&str] = &["edge", "sender"];
/// Parts of names of what only a Secret may hold.
const SECRET_NAMES: &[&str] = &["password", "secret", "token", "credentials__keys", "private"];

/// Everything found wrong in `objects`.
pub(super) fn findings(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for object in objects {
        let mut tell = |what: &str| found.push(format!("{}: {what}", name(object)));
        match kind(object) {
            "Secret" => tell("a rendered Secret ends up where renderings are kept"),
            "Service" => service(object, objects, &mut tell),
            "PodDisruptionBudget" if !selects(&object["spec"]["selector"]["matchLabels"], objects) => {
                tell("selects no pod");
            }
            "Ingress" => ingress(object, objects, &mut tell),
            _ => {}
        }
        if let Some(pod) = pod(object) {
            secured(pod, &mut tell);
            without_secrets(pod, &mut tell);
            mounted(object, pod, objects, &mut tell);
        }
        if ["Deployment", "StatefulSet"].contains(&kind(object)) {
            workload(object, objects, &mut tell);
        }
    }
    found
}

/// Numbers that lost their form on the way through YAML, by line.
pub(super) fn scientific(text: &str) -> Vec<String> {
    let is_scientific = |word: &str| {
        word.split_once(['e', 'E']).is_some_and(|(mantissa, exponent)| {
            let (signs, digits) = exponent.split_at(exponent.len().min(1));
            ["+", "-"].contains(&signs)
                && !digits.is_empty()
                && digits.chars().all(|c| c.is_ascii_digit())
                && !mantissa.is_empty()
                && mantissa.chars().all(|c| c.is_ascii_digit() || c == '.')
        })
    };
    let of_line = |line: &str| line.split(|c: char| " \t\"',[]{}=:".contains(c)).any(is_scientific);
    text.lines().filter(|line| of_line(line)).map(|line| format!("a number as {}", line.trim())).collect()
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn name(object: &Value) -> String {
    format!("{} {}", kind(object), object["metadata"]["name"].as_str().unwrap_or_default())
}

/// The specification of the pods that an object makes, or is.
fn pod(object: &Value) -> Option<&Value> {
    match kind(object) {
        "Deployment" | "StatefulSet" | "Job" => Some(&object["spec"]["template"]["spec"]),
        "Pod" => Some(&object["spec"]),
        _ => None,
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn secured(pod: &Value, tell: &mut impl FnMut(&str)) {
    let whole = &pod["securityContext"];
    if whole["runAsNonRoot"] != true || whole["runAsUser"].as_u64().is_none_or(|user| user == 0) {
        tell("may run as root");
    }
    if whole["seccompProfile"]["type"] != "RuntimeDefault" {
        tell("has no seccomp profile");
    }
    if pod["automountServiceAccountToken"] != false {
        tell("gets a token of the cluster");
    }
    for container in items(&pod["containers"]) {
        let own = &container["securityContext"];
        let drops_all = items(&own["capabilities"]["drop"]).any(|capability| capability == "ALL");
        if own["readOnlyRootFilesystem"] != true || own["allowPrivilegeEscalation"] != false || !drops_all {
            tell("has a container with more rights than it needs");
        }
        if container["resources"]["limits"]["memory"].is_null() {
            tell("has a container without a memory limit");
        }
    }
}

fn without_secrets(pod: &Value, tell: &mut impl FnMut(&str)) {
    for variable in items(&pod["containers"]).flat_map(|container| items(&container["env"])) {
        let name = variable["name"].as_str().unwrap_or_default().to_lowercase();
        if variable["value"].is_string() && SECRET_NAMES.iter().any(|part| name.contains(part)) {
            tell(&format!("has the value of {name} in the clear"));
        }
    }
}

/// ConfigMaps that it mounts must be rendered too; those of a hook must be there before the release is.
fn mounted(object: &Value, pod: &Value, objects: &[Value], tell: &mut impl FnMut(&str)) {
    let hook = |object: &Value| object["metadata"]["annotations"]["helm.sh/hook"].as_str().map(str::to_owned);
    let is_early = hook(object).is_some_and(|hook| hook.starts_with("pre-"));
    let has = |wanted_kind: &str, wanted: &Value, early: bool| {
        objects.iter().any(|other| {
            kind(other) == wanted_kind
                && other["metadata"]["name"] == *wanted
                && (!early || hook(other) == hook(object))
        })
    };
    for volume in items(&pod["volumes"]) {
        let config = &volume["configMap"]["name"];
        if config.is_string() && !has("ConfigMap", config, is_early) {
            tell(&format!("mounts {config}, which is not there by then"));
        }
    }
    let account = &pod["serviceAccountName"];
    if is_early && has("ServiceAccount", account, false) && !has("ServiceAccount", account, true) {
        tell("runs, as a hook, as an account of the release");
    }
}

fn workload(object: &Value, objects: &[Value], tell: &mut impl FnMut(&str)) {
    let template = &object["spec"]["template"];
    let component =
        template["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default();
    if STATEFUL.contains(&component) != (kind(object) == "StatefulSet") {
        tell("is the wrong kind of workload for its role");
    }
    let container = &template["spec"]["containers"][0];
    for (probe, path) in
        [("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
    {
        if container[probe]["httpGet"]["path"] != path || container[probe]["httpGet"]["port"] != "admin" {
            tell(&format!("has no {probe} on {path}"));
        }
    }
    if template["metadata"]["annotations"]["checksum/config"].is_null() {
        tell("would not notice new settings");
    }
    if items(&template["spec"]["topologySpreadConstraints"]).next().is_none() {
        tell("is not spread over nodes");
    }
    let named = |other: &&Value| {
        kind(other) == "Service" && other["metadata"]["name"] == object["spec"]["serviceName"]
    };
    if kind(object) == "StatefulSet" && !objects.iter().any(|other| named(&other)) {
        tell("has no Service that names its pods");
    }
}

/// Whether a workload's pods have these labels.
fn selects(labels: &Value, objects: &[Value]) -> bool {
    objects.iter().any(|object| !pods_ports(labels, object).is_empty())
}

/// The ports of the pods of `object`, if they have these labels.
fn pods_ports<'a>(labels: &Value, object: &'a Value) -> Vec<&'a Value> {
    let template = &object["spec"]["template"];
    let Some(labels) = labels.as_object().filter(|labels| !labels.is_empty()) else { return Vec::new() };
    if !labels.iter().all(|(key, value)| template["metadata"]["labels"][key] == *value) {
        return Vec::new();
    }
    items(&template["spec"]["containers"]).flat_map(|container| items(&container["ports"])).collect()
}

fn service(object: &Value, objects: &[Value], tell: &mut impl FnMut(&str)) {
    let selector = &object["spec"]["selector"];
    for port in items(&object["spec"]["ports"]) {
        let target = &port["targetPort"];
        let found =
            objects.iter().flat_map(|other| pods_ports(selector, other)).any(|p| p["name"] == *target);
        if !found {
            tell(&format!("leads to {target}, which no pod listens on"));
        }
    }
}

fn ingress(object: &Value, objects: &[Value], tell: &mut impl FnMut(&str)) {
    for path in items(&object["spec"]["rules"]).flat_map(|rule| items(&rule["http"]["paths"])) {
        let backend = &path["backend"]["service"];
        let found = objects.iter().any(|other| {
            kind(other) == "Service"
                && other["metadata"]["name"] == backend["name"]
                && items(&other["spec"]["ports"]).any(|port| port["name"] == backend["port"]["name"])
        });
        if !found {
            tell(&format!("leads {} to a Service that is not there", path["path"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sender() -> Value {
        json!({
            "kind": "StatefulSet", "metadata": {"name": "sender"},
            "spec": {"serviceName": "sender-admin", "template": {
                "metadata": {
                    "labels": {"app.kubernetes.io/component": "sender"},
                    "annotations": {"checksum/config": "1"},
                },
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "topologySpreadConstraints": [{}],
                    "containers": [{
                        "env": [{"name": "SLUICE__X__PASSWORD", "valueFrom": {}}],
                        "ports": [{"name": "admin", "containerPort": 9090}],
                        "startupProbe": {"httpGet": {"path": "/livez", "port": "admin"}},
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
                        "livenessProbe": {"httpGet": {"path": "/livez", "port": "admin"}},
                        "resources": {"limits": {"memory": "1Gi"}},
                        "securityContext": {
                            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            }},
        })
    }

    fn admin() -> Value {
        json!({
            "kind": "Service", "metadata": {"name": "sender-admin"},
            "spec": {
                "selector": {"app.kubernetes.io/component": "sender"},
                "ports": [{"name": "admin", "targetPort": "admin"}],
            },
        })
    }

    #[test]
    fn good_objects_pass() {
        assert_eq!(findings(&[sender(), admin()]), [] as [String; 0]);
    }

    #[test]
    fn every_planted_fault_is_found() {
        let pod = "/spec/template/spec";
        let faults = [
            (format!("{pod}/securityContext/runAsNonRoot"), json!(false), "root"),
            (format!("{pod}/securityContext/runAsUser"), json!(0), "root"),
            (format!("{pod}/securityContext/seccompProfile/type"), json!("Unconfined"), "seccomp"),
            (format!("{pod}/automountServiceAccountToken"), json!(true), "token"),
            (format!("{pod}/containers/0/securityContext/readOnlyRootFilesystem"), json!(false), "rights"),
            (format!("{pod}/containers/0/securityContext/capabilities/drop/0"), json!("CHOWN"), "rights"),
            (format!("{pod}/containers/0/resources/limits/memory"), json!(null), "memory"),
            (format!("{pod}/containers/0/livenessProbe/httpGet/path"), json!("/readyz"), "livenessProbe"),
            (format!("{pod}/containers/0/readinessProbe"), json!(null), "readinessProbe"),
            (format!("{pod}/containers/0/env/0/value"), json!("hunter2"), "in the clear"),
            (format!("{pod}/containers/0/ports/0/name"), json!("other"), "no pod listens"),
            (format!("{pod}/topologySpreadConstraints"), json!([]), "spread"),
            ("/spec/template/metadata/annotations".to_owned(), json!({}), "new settings"),
            ("/spec/serviceName".to_owned(), json!("other"), "names its pods"),
            ("/kind".to_owned(), json!("Deployment"), "wrong kind"),
        ];
        for (path, value, told) in faults {
            let mut planted = sender();
            let (parent, key) = path.rsplit_once('/').unwrap();
            match planted.pointer_mut(parent).unwrap() {
                Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
                other => other[key] = value,
            }
            let found = findings(&[planted, admin()]);
            assert!(found.iter().any(|line| line.contains(told)), "{path}: {found:?}");
            assert!(!found.iter().any(|line| line.contains("hunter2")), "{found:?}");
        }
    }

    #[test]
    fn a_hook_that_needs_what_the_release_brings_is_found() {
        let job = |volume: &str, account: &str| {
            let mut job = sender();
            job["kind"] = json!("Job");
            job["metadata"] = json!({"name": "j", "annotations": {"helm.sh/hook": "pre-install"}});
            job["spec"]["template"]["spec"]["volumes"] = json!([{"configMap": {"name": volume}}]);
            job["spec"]["template"]["spec"]["serviceAccountName"] = json!(account);
            job
        };
        let early = json!({
            "kind": "ConfigMap",
            "metadata": {"name": "early", "annotations": {"helm.sh/hook": "pre-install"}},
        });
        let late = json!({"kind": "ConfigMap", "metadata": {"name": "late"}});
        let account = json!({"kind": "ServiceAccount", "metadata": {"name": "sluice"}});
        let found = |job| findings(&[job, early.clone(), late.clone(), account.clone()]);
        assert_eq!(found(job("early", "default")), [] as [String; 0]);
        assert!(found(job("late", "default"))[0].contains("not there by then"));
        assert!(found(job("early", "sluice"))[0].contains("account of the release"));
    }

    #[test]
    fn what_leads_nowhere_is_found() {
        let mut service = admin();
        service["spec"]["ports"][0]["targetPort"] = json!("api");
        let ingress = json!({
            "kind": "Ingress", "metadata": {"name": "i"},
            "spec": {"rules": [{"http": {"paths": [
                {"path": "/v1", "backend": {"service": {"name": "gone", "port": {"name": "http"}}}},
            ]}}]},
        });
        let budget = json!({
            "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
            "spec": {"selector": {"matchLabels": {"app.kubernetes.io/component": "gone"}}},
        });
        let secret = json!({"kind": "Secret", "metadata": {"name": "s"}});
        assert_eq!(findings(&[sender(), admin(), service]).len(), 1);
        assert_eq!(findings(&[ingress, budget, secret]).len(), 3);
    }

    #[test]
    fn a_number_in_scientific_notation_is_found_and_a_word_is_not() {
        for text in ["ttl_ms = 2.592e+08", "replicas: 1e+06", "- \"8.388608e+06\"", "[6.0472e+08]"] {
            assert_eq!(scientific(text).len(), 1, "{text}");
        }
        for text in ["checksum/config: 12e4567", "image: a@sha256:1e+", "example+1", "name: 2e-commerce"] {
            assert_eq!(scientific(text), [] as [String; 0], "{text}");
        }
    }
}
