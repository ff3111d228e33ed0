//! Which crate may depend on which, from the manifests as cargo reads them: sluice → connectors, kafka → core →
//! schemas, and each outside system named by one crate only.

use cargo_metadata::{DependencyKind, Metadata, Package};

/// What a crate of ours may depend on among ours, also for its tests. A crate that is not here may use none.
const OURS: &[(&str, &[&str])] = &[
    ("sluice-schemas", &[]),
    ("sluice-core", &["sluice-schemas"]),
    ("sluice-kafka", &["sluice-core", "sluice-schemas"]),
    ("sluice-whatsapp", &["sluice-core", "sluice-schemas"]),
    ("sluice-scylla", &["sluice-core", "sluice-schemas"]),
    ("sluice-simulation", &["sluice-core", "sluice-schemas"]),
    ("sluice", &["sluice-schemas", "sluice-core", "sluice-kafka", "sluice-whatsapp", "sluice-scylla"]),
    ("sluice-testkit", &["sluice-schemas"]),
    ("xtask", &["sluice-testkit", "sluice-schemas"]),
    (
        "sluice-benches",
        &[
            "sluice",
            "sluice-schemas",
            "sluice-core",
            "sluice-kafka",
            "sluice-whatsapp",
            "sluice-scylla",
            "sluice-testkit",
        ],
    ),
];

/// What only these crates of ours may name. The benches measure the bare libraries as the floor.
const RESERVED: &[(&str, &[&str])] = &[
    ("rdkafka", &["sluice-kafka", "sluice-benches"]),
    ("reqwest", &["sluice-whatsapp", "sluice-kafka", "sluice-benches"]),
    ("scylla", &["sluice-scylla"]),
    // The connectors' simulated providers are HTTP servers.
    ("axum", &["sluice", "sluice-whatsapp", "sluice-benches"]),
];

/// Crates that decide, and so must not reach a clock, a network, a disk, a runtime or a source of chance.
const PURE: &[&str] = &["sluice-core", "sluice-schemas"];
const IMPURE: &[&str] =
    &["tokio", "futures", "chrono", "rand", "rustix", "rdkafka", "reqwest", "scylla", "axum", "tempfile"];

/// Every dependency that its crate may not have.
pub(super) fn findings(metadata: &Metadata) -> Vec<String> {
    let members = metadata.workspace_packages();
    let ours: Vec<&str> = members.iter().map(|package| package.name.as_str()).collect();
    members.iter().flat_map(|package| of_package(package, &ours)).collect()
}

fn of_package(package: &Package, ours: &[&str]) -> Vec<String> {
    let uses = package.dependencies.iter().map(|dependency| (dependency.name.as_str(), dependency.kind));
    uses.filter_map(|(name, kind)| {
        let reason = forbidden(&package.name, name, kind, ours.contains(&name))?;
        Some(format!("{} may not depend on {name}: {reason}", package.name))
    })
    .collect()
}

fn forbidden(package: &str, dependency: &str, kind: DependencyKind, is_ours: bool) -> Option<&'static str> {
    let test_only = kind == DependencyKind::Development;
    if PURE.contains(&package) {
        if IMPURE.contains(&dependency) {
            return Some("it decides, without clock, IO or runtime");
        }
    } else if test_only && dependency == "sluice-testkit" {
        return None;
    }
    if is_ours {
        let allowed = OURS.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, allowed)| allowed);
        return (!allowed.contains(&dependency)).then_some("the layers go one way");
    }
    let reserved = RESERVED.iter().find(|(name, _)| *name == dependency);
    // A test may be the client or the server on the other side.
    let is_reserved = reserved.is_some_and(|(_, allowed)| !allowed.contains(&package));
    (is_reserved && !test_only).then_some("it is named by one crate only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(package: &str, dependency: &str, is_ours: bool) -> Option<&'static str> {
        forbidden(package, dependency, DependencyKind::Normal, is_ours)
    }

    #[test]
    fn a_layer_may_use_those_below_and_none_above() {
        assert_eq!(normal("sluice-kafka", "sluice-core", true), None);
        assert!(normal("sluice-core", "sluice-kafka", true).is_some());
        assert!(normal("sluice-kafka", "sluice-whatsapp", true).is_some());
        assert!(normal("sluice-testkit", "sluice", true).is_some());
        assert!(normal("a-new-crate", "sluice", true).is_some());
    }

    #[test]
    fn an_outside_system_is_named_by_its_crate() {
        assert_eq!(normal("sluice-kafka", "rdkafka", false), None);
        assert!(normal("sluice", "rdkafka", false).is_some());
        assert!(normal("sluice-scylla", "reqwest", false).is_some());
        assert_eq!(forbidden("sluice", "reqwest", DependencyKind::Development, false), None);
        assert_eq!(normal("sluice", "serde", false), None);
    }

    #[test]
    fn decisions_stay_pure_even_in_tests() {
        assert!(normal("sluice-core", "tokio", false).is_some());
        assert!(forbidden("sluice-core", "tokio", DependencyKind::Development, false).is_some());
        assert!(forbidden("sluice-core", "sluice-testkit", DependencyKind::Development, true).is_some());
        assert_eq!(forbidden("sluice-core", "proptest", DependencyKind::Development, false), None);
        assert_eq!(forbidden("sluice", "sluice-testkit", DependencyKind::Development, true), None);
        assert!(normal("sluice", "sluice-testkit", true).is_some());
    }
}
