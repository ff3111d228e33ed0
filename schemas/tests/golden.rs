//! Bytes written by every released schema version still decode, and every version can read every other.
//!
//! `schemas/golden/vN/` holds, per record: `NAME.avsc` (the schema as released), `NAME.bin` (a datum with
//! every field set, written by the Avro library) and `NAME.json` (what it says). After a release is cut:
//! `cargo test -p sluice-schemas --test golden -- --ignored write`, with the new folder's name in
//! `SLUICE_GOLDEN`. Files of a released version never change.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::{Schema, to_avro_datum};
use sluice_schemas::codec::{Decoder, Record, SchemaRef};
use support::{names, sample};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn versions() -> Vec<PathBuf> {
    let mut versions: Vec<_> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    versions.sort();
    assert!(!versions.is_empty(), "there is at least one released version");
    versions
}

/// A record that a version did not have yet has no files there.
fn file(version: &Path, name: &str, extension: &str) -> Option<Vec<u8>> {
    std::fs::read(version.join(format!("{name}.{extension}"))).ok()
}

fn golden_bytes_still_decode<T: Record + PartialEq + serde::de::DeserializeOwned>() {
    for version in versions() {
        let Some(schema) = file(&version, T::NAME, "avsc") else { continue };
        let schema = String::from_utf8(schema).unwrap();
        let datum = file(&version, T::NAME, "bin").unwrap();
        let expected: T = serde_json::from_slice(&file(&version, T::NAME, "json").unwrap()).unwrap();
        let mut decoder = Decoder::<T>::new(1);
        decoder.learn(SchemaRef::Id(2), &schema).unwrap();
        let value = [&[0, 0, 0, 0, 2][..], &datum].concat();
        let decoded = decoder.decode(&value, None).unwrap_or_else(|e| panic!("{} {version:?}: {e}", T::NAME));
        assert_eq!(decoded, expected, "{} of {version:?}", T::NAME);
    }
}

#[test]
fn bytes_of_every_released_version_still_decode() {
    for_every_record!(golden_bytes_still_decode);
    let first = versions().remove(0);
    assert!(file(&first, "OutboundCommand", "bin").is_some_and(|datum| datum.len() > 100));
}

fn versions_read_each_other<T: Record>() {
    let current = Schema::parse_str(T::SCHEMA).unwrap();
    for version in versions() {
        let Some(schema) = file(&version, T::NAME, "avsc") else { continue };
        let released = Schema::parse_str(&String::from_utf8(schema).unwrap()).unwrap();
        SchemaCompatibility::mutual_read(&released, &current)
            .unwrap_or_else(|e| panic!("{} is not FULL_TRANSITIVE with {version:?}: {e}", T::NAME));
    }
}

#[test]
fn every_version_reads_every_other() {
    for_every_record!(versions_read_each_other);
}

/// What compatibility checkers do not look at and readers rely on.
fn defaults_are_there<T: Record>() {
    let schema: serde_json::Value = serde_json::from_str(T::SCHEMA).unwrap();
    check_docs_and_defaults(&schema, T::NAME);
}

fn check_docs_and_defaults(schema: &serde_json::Value, path: &str) {
    match schema {
        serde_json::Value::Array(branches) => {
            assert!(branches.len() == 2 && branches[0] == "null", "{path}: a union is null or one thing");
            branches.iter().for_each(|branch| check_docs_and_defaults(branch, path));
        }
        serde_json::Value::Object(object) => {
            for (key, child) in [("items", "[]"), ("values", "{}"), ("type", "")] {
                if let Some(inner) = object.get(key).filter(|inner| inner.is_object() || inner.is_array()) {
                    check_docs_and_defaults(inner, &format!("{path}{child}"));
                }
            }
            if object.get("type") == Some(&"enum".into()) {
                assert_eq!(object["default"], "UNKNOWN", "{path}: an enum has a default for newer symbols");
                assert_eq!(object["symbols"][0], "UNKNOWN", "{path}");
            }
            for field in object.get("fields").and_then(|fields| fields.as_array()).into_iter().flatten() {
                let name = format!("{path}.{}", field["name"].as_str().unwrap());
                assert!(field["doc"].as_str().is_some_and(|doc| !doc.is_empty()), "{name} has a doc");
                if field["type"].is_array() {
                    assert_eq!(field.get("default"), Some(&serde_json::Value::Null), "{name}");
                }
                check_docs_and_defaults(&field["type"], &name);
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_has_a_doc_and_every_option_and_enum_a_default() {
    for_every_record!(defaults_are_there);
}

fn write_one<T: Record + serde::Serialize>() {
    let version = golden().join(std::env::var("SLUICE_GOLDEN").expect("SLUICE_GOLDEN names the new version"));
    std::fs::create_dir_all(&version).unwrap();
    let path = |extension: &str| version.join(format!("{}.{extension}", T::NAME));
    assert!(!path("avsc").exists(), "a released version never changes");
    let schema = Schema::parse_str(T::SCHEMA).unwrap();
    let datum = to_avro_datum(&schema, sample(&schema, &names(&schema), T::NAME)).unwrap();
    let decoded = Decoder::<T>::new(1).decode(&[&[0, 0, 0, 0, 1][..], &datum].concat(), None).unwrap();
    std::fs::write(path("avsc"), T::SCHEMA).unwrap();
    std::fs::write(path("bin"), &datum).unwrap();
    std::fs::write(path("json"), format!("{}\n", serde_json::to_string_pretty(&decoded).unwrap())).unwrap();
}

#[test]
#[ignore = "writes the files of a new version"]
fn write() {
    for_every_record!(write_one);
}
