//! The licence of every package that the workspace resolves to, as its manifest states it.

use cargo_metadata::{Metadata, Package};

use super::spdx;

/// Every package whose licence we do not accept.
pub(super) fn findings(metadata: &Metadata) -> Vec<String> {
    metadata.packages.iter().filter_map(finding).collect()
}

fn finding(package: &Package) -> Option<String> {
    let who = format!("{} {}", package.name, package.version);
    let Some(licence) = package.license.as_deref() else {
        return Some(format!("{who} states no licence"));
    };
    match spdx::is_allowed(licence) {
        Some(true) => None,
        Some(false) => {
            Some(format!("{who} is under {licence}, which is not on the list of allowed licences"))
        }
        None => Some(format!("{who} states a licence that cannot be read: {licence:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(licence: Option<&str>) -> Package {
        let text = serde_json::json!({
            "name": "planted", "version": "1.2.3", "id": "planted 1.2.3", "license": licence,
            "dependencies": [], "targets": [], "features": {}, "manifest_path": "Cargo.toml",
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_planted_gpl_crate_is_found() {
        let found = finding(&package(Some("GPL-3.0-or-later"))).unwrap();
        assert!(found.starts_with("planted 1.2.3 is under GPL-3.0-or-later"), "{found}");
        assert_eq!(finding(&package(Some("MIT OR GPL-3.0-or-later"))), None);
    }

    #[test]
    fn a_crate_without_a_licence_is_found() {
        assert_eq!(finding(&package(None)).unwrap(), "planted 1.2.3 states no licence");
    }
}
