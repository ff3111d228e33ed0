//! Runs every test on real servers and adds up the results.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use sluice_testkit::{Addresses, Servers, StandingServers};

use crate::project::{self, Project};

pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    // What the servers need is fetched while the compiler works.
    let fetching = std::thread::spawn(Servers::fetch);
    let build = project::run(project.cargo(cargo_arguments(arguments, true)).stdin(Stdio::null()));
    let fetched = fetching.join().map_err(|_| anyhow::anyhow!("the thread that fetches the servers died"))?;
    if let Err(error) = build.and(fetched) {
        println!("0 passed, 1 failed");
        return Err(error);
    }

    let (addresses, servers) = match find_servers()? {
        Some(addresses) => (addresses, None),
        None => {
            let servers = Servers::start()?;
            (servers.addresses(), Some(servers))
        }
    };
    let totals = run_tests(project, arguments, &addresses);
    drop(servers);
    let totals = totals?;
    println!("{} passed, {} failed", totals.passed, totals.failed);
    if totals.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// The servers named by the environment, else those that `servers up` keeps.
fn find_servers() -> Result<Option<Addresses>> {
    let named = Addresses::from_env();
    if named.is_some() {
        return Ok(named);
    }
    Ok(StandingServers::find()?.map(|standing| standing.addresses))
}

fn run_tests(project: &Project, arguments: &[String], addresses: &Addresses) -> Result<Totals> {
    let mut child = project
        .cargo(cargo_arguments(arguments, false))
        .envs(addresses.env())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run cargo test")?;
    let stdout = child.stdout.take().context("standard output of cargo test")?;
    let mut totals = Totals::default();
    let mut lines = BufReader::new(stdout).split(b'\n');
    while let Some(line) = lines.next().transpose().context("read the output of cargo test")? {
        let line = String::from_utf8_lossy(&line);
        totals.add(&line);
        // Somebody who has stopped reading still wants the tests to end and the servers to stop.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    let status = child.wait().context("wait for cargo test")?;
    // A test binary that dies (abort, stack overflow) prints no result.
    if !status.success() && totals.failed == 0 {
        totals.failed = 1;
    }
    Ok(totals)
}

fn cargo_arguments(arguments: &[String], build_only: bool) -> Vec<String> {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (of_cargo, of_tests) = arguments.split_at(end);
    let mut all = vec!["test".to_owned()];
    let names_package = |a: &String| a.starts_with("-p") || a.starts_with("--package");
    if !of_cargo.iter().any(names_package) {
        all.push("--workspace".to_owned());
    }
    all.push(if build_only { "--no-run" } else { "--no-fail-fast" }.to_owned());
    all.extend_from_slice(of_cargo);
    if !build_only {
        all.extend_from_slice(of_tests);
    }
    all
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
}

impl Totals {
    /// Adds a line such as `test result: FAILED. 3 passed; 1 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        let Some((_, counts)) = result.split_once(". ") else { return };
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        let mut totals = Totals::default();
        for line in [
            "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test a_test_result ... ok",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            totals.add(line);
        }
        assert_eq!(totals, Totals { passed: 10, failed: 2 });
    }

    #[test]
    fn a_named_package_replaces_the_workspace_and_filters_reach_the_tests() {
        assert_eq!(cargo_arguments(&[], false), words("test --workspace --no-fail-fast"));
        assert_eq!(
            cargo_arguments(&words("-p sluice-kafka -- a_law"), false),
            words("test --no-fail-fast -p sluice-kafka -- a_law")
        );
        assert_eq!(
            cargo_arguments(&words("-p sluice-kafka -- a_law"), true),
            words("test --no-run -p sluice-kafka")
        );
    }
}
