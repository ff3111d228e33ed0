//! Runs every test on real servers, then the torture run and the simulation, and adds up the results.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use sluice_testkit::{Addresses, Servers, StandingServers};

use crate::project::{self, Project};
use crate::{simulate, torture};

/// Longer than any one test takes.
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);
const LINES_WAITING_MAX: usize = 1024;

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
    let totals = run_on_servers(project, arguments, &addresses);
    drop(servers);
    let mut totals = totals?;
    if arguments.is_empty() {
        totals.count(simulate::run(project, &["--seeds".to_owned(), simulate::SEEDS_IN_CI.to_string()]));
    }
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

/// The tests asked for; when all are, the torture run too.
fn run_on_servers(project: &Project, arguments: &[String], addresses: &Addresses) -> Result<Totals> {
    let mut totals = Totals::default();
    run_tests(project.cargo(cargo_arguments(arguments, false)), addresses, &mut totals)?;
    if arguments.is_empty() {
        run_tests(torture::Options::in_ci().command(project), addresses, &mut totals)?;
    }
    Ok(totals)
}

/// Runs a command that runs tests, and adds what they came to.
fn run_tests(mut command: Command, addresses: &Addresses, totals: &mut Totals) -> Result<()> {
    let failed_before = totals.failed;
    let mut child = command
        .envs(addresses.env())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run cargo test")?;
    let stdout = child.stdout.take().context("standard output of cargo test")?;
    let lines = lines_of(stdout);
    loop {
        match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => {
                totals.add(&line);
                // Somebody who has stopped reading still wants the tests to end and the servers to stop.
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("no test has ended for {SILENCE_MAX:?}: killing what runs");
                kill_with_descendants(child.id())?;
                totals.failed += 1;
                break;
            }
        }
    }
    let status = child.wait().context("wait for cargo test")?;
    // A test binary that dies (abort, stack overflow) prints no result.
    if !status.success() && totals.failed == failed_before {
        totals.failed += 1;
    }
    Ok(())
}

/// The lines of `output` as they come.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(LINES_WAITING_MAX);
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Kills a process of ours and what it started: cargo does not take its test binaries with it.
fn kill_with_descendants(pid: u32) -> Result<()> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let raw = i32::try_from(pid).context("a pid")?;
    if let Some(raw) = Pid::from_raw(raw) {
        // It may have ended by itself since.
        let _ = kill_process(raw, Signal::KILL);
    }
    for child in children.split_whitespace() {
        kill_with_descendants(child.parse().context("a pid")?)?;
    }
    Ok(())
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
    /// Adds a test that is no cargo test.
    fn count(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("error: {error:#}");
                self.failed += 1;
            }
        }
    }

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
    fn a_run_that_hangs_is_killed_with_all_it_started() {
        let script = "sh -c 'sleep 600; true' & echo $!; wait";
        let mut command = std::process::Command::new("sh");
        let mut shell = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(shell.stdout.take().unwrap());
        let inner: u32 = lines.recv_timeout(Duration::from_secs(30)).unwrap().parse().unwrap();
        // The inner shell has started its own when the kernel lists it.
        let children = format!("/proc/{inner}/task/{inner}/children");
        while std::fs::read_to_string(&children).unwrap().trim().is_empty() {
            std::thread::yield_now();
        }
        kill_with_descendants(shell.id()).unwrap();
        assert!(!shell.wait().unwrap().success());
        // The pipe ends when the last that holds it is dead.
        assert_eq!(lines.recv_timeout(Duration::from_secs(30)), Err(RecvTimeoutError::Disconnected));
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
