//! What no file of the tree may hold.

use std::path::Path;

use anyhow::{Context, Result};

use crate::project::Project;

const LINES_MAX: usize = 700;

/// Everything found, as `file:line: what`.
pub(super) fn findings(project: &Project) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in project.files()? {
        let bytes = std::fs::read(project.path(&file)).with_context(|| format!("read {}", file.display()))?;
        // A file that is not text has no lines to look at.
        if let Ok(text) = String::from_utf8(bytes) {
            found.extend(in_file(&file, &text));
        }
    }
    Ok(found)
}

fn in_file(file: &Path, text: &str) -> Vec<String> {
    let is_rust = file.extension().is_some_and(|extension| extension == "rs");
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let mut tell = |what: String| found.push(format!("{}:{number}: {what}", file.display()));
        if let Some(path) = machine_path(line) {
            tell(format!("a path of somebody's machine: {path}"));
        }
        if let Some(kind) = secret(line) {
            // Not the line: it would carry the secret into the log.
            tell(format!("looks like {kind}"));
        }
        if is_rust && let Some(mark) = unfinished(line) {
            tell(format!("unfinished: {mark}"));
        }
        if is_rust
            && file.starts_with(PURE_DIR)
            && let Some(call) = impure(line)
        {
            tell(format!("the core decides from its input only: {call}"));
        }
    }
    let lines = text.lines().count();
    let is_generated = text.lines().next().is_some_and(|line| line.contains("@generated"));
    if is_rust && lines > LINES_MAX && !is_generated {
        found.push(format!("{}: {lines} lines, more than {LINES_MAX}", file.display()));
    }
    found
}

/// Directories in which only people, and the machines they work on, keep files. In pieces, so as not to be found here.
const MACHINE_DIRS: &[&str] = &[
    concat!("/", "root/"),
    concat!("/", "home/"),
    concat!("/", "Users/"),
    concat!("/", "work/"),
    concat!("C:", "\\Users\\"),
];

fn machine_path(line: &str) -> Option<&str> {
    MACHINE_DIRS.iter().find_map(|dir| {
        line.match_indices(dir).find_map(|(at, _)| {
            // After a name, a dot or a brace it is the middle of another path or of a URL.
            let before = line[..at].chars().next_back();
            let is_start = !before.is_some_and(|c| c.is_alphanumeric() || "._-}~/".contains(c));
            let rest = &line[at..];
            let end = rest.find(|c: char| c.is_whitespace() || "\"'`)>,;".contains(c)).unwrap_or(rest.len());
            // The directory alone names no place on a machine.
            (is_start && end > dir.len()).then_some(&rest[..end])
        })
    })
}

/// How a secret begins, how many characters of its own follow at least, and what it is.
const SECRETS: &[(&str, usize, &str)] = &[
    (concat!("AK", "IA"), 16, "an AWS access key id"),
    (concat!("gh", "p_"), 30, "a GitHub token"),
    (concat!("github", "_pat_"), 30, "a GitHub token"),
    (concat!("gl", "pat-"), 20, "a GitLab token"),
    (concat!("xo", "xb-"), 20, "a Slack token"),
    (concat!("xo", "xp-"), 20, "a Slack token"),
    (concat!("AI", "za"), 35, "a Google API key"),
    (concat!("sk_", "live_"), 16, "a Stripe key"),
    (concat!("EA", "A"), 80, "a Meta access token"),
    (concat!("ey", "JhbGciOi"), 60, "a signed JSON web token"),
];

fn secret(line: &str) -> Option<&'static str> {
    let is_key = line.contains(concat!("-----BEG", "IN")) && line.contains(concat!("PRIVATE", " KEY-----"));
    if is_key {
        return Some("a private key");
    }
    SECRETS.iter().find_map(|(prefix, length_min, kind)| {
        line.match_indices(prefix).find_map(|(at, _)| {
            let is_start = !line[..at].chars().next_back().is_some_and(char::is_alphanumeric);
            let own = line[at + prefix.len()..].chars();
            let length = own.take_while(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).count();
            (is_start && length >= *length_min).then_some(*kind)
        })
    })
}

const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
];

fn unfinished(line: &str) -> Option<&'static str> {
    UNFINISHED.iter().find(|mark| line.contains(**mark)).copied()
}

/// Sources that may not reach a clock, a network, a disk or a source of chance. The manifest keeps crates out that do;
/// these are in the standard library, and in crates used for other things.
const PURE_DIR: &str = "pipeline/core/src";
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "Uuid::new_v4",
    "Uuid::now_v7",
];

fn impure(line: &str) -> Option<&'static str> {
    let is_comment = line.trim_start().starts_with("//");
    IMPURE.iter().find(|call| !is_comment && line.contains(**call)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        in_file(Path::new(file), text)
    }

    #[test]
    fn a_planted_path_of_a_machine_is_found() {
        let text = format!("one\nrun \"{}\" now\n", concat!("/", "home/ann/src/x.rs"));
        let told =
            format!("README.md:2: a path of somebody's machine: {}", concat!("/", "home/ann/src/x.rs"));
        assert_eq!(found("README.md", &text), [told]);
        assert_eq!(found("a.yaml", concat!("dir: /", "root/.cache")).len(), 1);
    }

    #[test]
    fn a_path_inside_a_url_or_below_another_directory_is_not() {
        for text in [
            concat!("https://example.com/", "home/x"),
            concat!("$HOME/", "work/x"),
            concat!("../", "work/x"),
            concat!("~/", "work/x"),
            "/var/lib/sluice",
        ] {
            assert_eq!(found("a.md", text), [] as [String; 0], "{text}");
        }
    }

    #[test]
    fn a_planted_secret_is_found_and_not_repeated() {
        let key = format!("{}{}", concat!("AK", "IA"), "ABCDEFGHIJKLMNOP");
        let found_key = found("a.toml", &format!("key = \"{key}\""));
        assert_eq!(found_key, ["a.toml:1: looks like an AWS access key id"]);
        let pem = concat!("-----BEG", "IN RSA PRIVATE", " KEY-----");
        assert_eq!(found("a.pem", pem), ["a.pem:1: looks like a private key"]);
    }

    #[test]
    fn unfinished_work_is_found_in_sources() {
        let text = concat!("    to", "do!()");
        assert_eq!(found("a.rs", text).len(), 1);
        assert_eq!(found("a.md", text), [] as [String; 0]);
    }

    #[test]
    fn a_clock_in_the_core_is_found_and_elsewhere_is_not() {
        let text = "let now = std::time::Instant::now();";
        assert_eq!(found("pipeline/core/src/a.rs", text).len(), 1);
        assert_eq!(found("pipeline/sluice/src/a.rs", text), [] as [String; 0]);
    }

    #[test]
    fn a_file_too_long_is_found_unless_generated() {
        let long = "//\n".repeat(LINES_MAX + 1);
        assert_eq!(found("a.rs", &long), ["a.rs: 701 lines, more than 700"]);
        assert_eq!(found("a.rs", &format!("// @generated by x\n{long}")), [] as [String; 0]);
    }
}
