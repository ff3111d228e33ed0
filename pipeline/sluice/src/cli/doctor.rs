//! `sluice doctor`: looks at everything a role needs and says what stands in the way and what to do about it.

use std::time::Duration;

use serde::Serialize;
use sluice_kafka::registry::{Registry, subjects};
use sluice_kafka::topics::Topics;

use super::args::Cli;
use super::failure::Failure;
use super::output::Printer;
use crate::sealing::Sealer;
use crate::sender::disk::{Disk, Holding};
use crate::settings::Settings;

/// How long each thing looked at may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Right,
    /// Works, but the operator may not want it so.
    Note,
    Wrong,
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Finding {
    area: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn right(area: &'static str, detail: impl Into<String>) -> Self {
        Self { area, state: State::Right, detail: detail.into(), remedy: None }
    }

    fn note(area: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, state: State::Note, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn wrong(area: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { area, state: State::Wrong, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

pub(super) async fn run(cli: &Cli) -> Result<(), Failure> {
    let settings = cli.settings()?;
    let mut findings = vec![Finding::right("settings", "they load and go together")];
    findings.extend(credentials(&settings));
    findings.extend(kafka(&settings).await);
    findings.extend(registry(&settings).await);
    findings.push(store(&settings).await);
    findings.push(local_state(&settings));
    Printer::new(cli.output).print(&findings, |findings| text(findings)).map_err(anyhow::Error::from)?;
    let wrong = findings.iter().filter(|finding| finding.state == State::Wrong).count();
    if wrong == 0 { Ok(()) } else { Err(Failure::Refused(format!("{wrong} things stand in the way"))) }
}

fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let mark = match finding.state {
            State::Right => "ok   ",
            State::Note => "note ",
            State::Wrong => "WRONG",
        };
        out.push_str(&format!("{mark}  {:<12} {}\n", finding.area, finding.detail));
        if let Some(remedy) = &finding.remedy {
            out.push_str(&format!("       {:<12} → {remedy}\n", ""));
        }
    }
    out
}

fn credentials(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match Sealer::new(&settings.credentials) {
        Err(error) => {
            Finding::wrong("credentials", error.to_string(), "see [credentials] in `sluice config`")
        }
        Ok(sealer) if sealer.can_seal() => {
            Finding::right("credentials", "the active sealing key can be read")
        }
        Ok(_) => Finding::note(
            "credentials",
            "no sealing key is active: credentials can be given by reference only (env:NAME, file:/path)",
            "make a key with `openssl rand -base64 32` and set credentials.keys and credentials.active_key",
        ),
    });
    if settings.auth.tokens.is_empty() {
        let remedy = "add an entry to auth.tokens: its sha256 is `printf %s \"$TOKEN\" | sha256sum`";
        findings.push(Finding::note("auth", "no bearer token is set: nobody can use the HTTP API", remedy));
    }
    findings
}

async fn kafka(settings: &Settings) -> Vec<Finding> {
    let bootstrap = &settings.kafka.bootstrap_servers;
    let unreachable = |detail: String| {
        let remedy =
            "check that the brokers run, and kafka.bootstrap_servers, TLS and SASL in kafka.properties";
        vec![Finding::wrong("kafka", format!("{bootstrap}: {detail}"), remedy)]
    };
    let topics = match Topics::open(&settings.kafka) {
        Ok(topics) => topics,
        Err(error) => return unreachable(error.to_string()),
    };
    let reports = match tokio::time::timeout(PATIENCE, topics.check()).await {
        Err(_) => return unreachable("no answer".to_owned()),
        Ok(Err(error)) => return unreachable(error.to_string()),
        Ok(Ok(reports)) => reports,
    };
    let mut findings = vec![Finding::right("kafka", format!("{bootstrap} answers"))];
    for report in reports.iter().filter(|report| !report.is_right()) {
        let mut detail = format!("{}: {}", report.topic, format!("{:?}", report.state).to_lowercase());
        for one in &report.differences {
            detail.push_str(&format!("; {} is {}, should be {}", one.what, one.found, one.wanted));
        }
        let fixed = report.differences.iter().all(|one| one.applicable);
        let remedy = if fixed {
            "run `sluice topics apply`"
        } else {
            "an operator must change it: a partition count is never changed in place, and copies are reassigned"
        };
        findings.push(Finding::wrong("topics", detail, remedy));
    }
    if findings.len() == 1 {
        findings.push(Finding::right("topics", format!("all {} are as they must be", reports.len())));
    }
    findings
}

async fn registry(settings: &Settings) -> Vec<Finding> {
    let Some(url) = &settings.registry.url else {
        let remedy = "set registry.url if other programs read or write the topics with a schema registry";
        return vec![Finding::note("registry", "none is set: schemas have fixed ids", remedy)];
    };
    let unreachable = |detail: String| {
        let remedy = "check that the registry runs, and registry.url, username, password and ca_file";
        vec![Finding::wrong("registry", format!("{url}: {detail}"), remedy)]
    };
    let registry = match Registry::open(&settings.registry) {
        Ok(registry) => registry,
        Err(error) => return unreachable(error.to_string()),
    };
    match tokio::time::timeout(PATIENCE, subjects::check(&registry, &settings.kafka.names())).await {
        Err(_) => unreachable("no answer".to_owned()),
        Ok(Err(error)) => unreachable(error.to_string()),
        Ok(Ok(found)) => {
            let wrong: Vec<_> = found.iter().filter(|subject| !subject.is_right()).collect();
            if wrong.is_empty() {
                return vec![Finding::right("registry", format!("{url} has every schema"))];
            }
            let remedy = "run `sluice schemas register`";
            let finding = |subject: &&subjects::Subject| {
                let state = format!("{:?}", subject.state).to_lowercase();
                Finding::wrong("schemas", format!("{}: {state}", subject.subject), remedy)
            };
            wrong.iter().map(finding).collect()
        }
    }
}

async fn store(settings: &Settings) -> Finding {
    let points = settings.store.contact_points.join(", ");
    match tokio::time::timeout(PATIENCE, sluice_scylla::check(&settings.store)).await {
        Ok(Ok(())) => Finding::right(
            "store",
            format!("{points}: keyspace {} has every migration", settings.store.keyspace),
        ),
        Ok(Err(error @ sluice_scylla::Error::NotMigrated { .. })) => {
            Finding::wrong("store", error.to_string(), "run `sluice store migrate`")
        }
        Ok(Err(error)) => {
            let remedy = "check that the nodes run, and store.contact_points, user, password and tls";
            Finding::wrong("store", format!("{points}: {error}"), remedy)
        }
        Err(_) => Finding::wrong("store", format!("{points}: no answer"), "check store.contact_points"),
    }
}

/// What the sender keeps on disk here.
fn local_state(settings: &Settings) -> Finding {
    let store = &settings.sender.store;
    let directory = store.directory.display();
    if store.directory.as_os_str().is_empty() {
        let remedy = "set sender.store.directory, or every start reads the whole ledger";
        return Finding::note("local state", "is kept in memory", remedy);
    }
    if !store.directory.exists() {
        return Finding::right("local state", format!("{directory}: nothing yet; the sender makes it"));
    }
    match Disk::open(store).and_then(|disk| disk.partitions()) {
        Ok(holdings) => Finding::right("local state", holdings_text(&directory.to_string(), &holdings)),
        Err(error) => Finding::note(
            "local state",
            format!("{error:#}"),
            "if a sender is running here it has the state to itself, and its metrics tell what it holds; else \
             check the directory, or delete it: it is rebuilt from the ledger",
        ),
    }
}

fn holdings_text(directory: &str, holdings: &[Holding]) -> String {
    let sum = |of: fn(&Holding) -> u64| holdings.iter().map(of).sum::<u64>();
    let mut text = format!(
        "{directory}: {} partitions, {} open messages, {} done, {} MiB",
        holdings.len(),
        sum(|holding| holding.open as u64),
        sum(|holding| holding.done as u64),
        sum(|holding| holding.bytes) / (1024 * 1024),
    );
    for holding in holdings.iter().filter(|holding| holding.open > 0) {
        let upto = holding.mark.as_ref().map_or("nothing whole".to_owned(), |mark| {
            format!("ledger below {} at {} ms", mark.next_offset, mark.at_ms)
        });
        text.push_str(&format!("; partition {}: {} open, {upto}", holding.partition, holding.open));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_that_do_not_answer_are_each_found_with_a_remedy() {
        let mut settings = Settings::default();
        settings.kafka.bootstrap_servers = "127.0.0.1:1".to_owned();
        settings.kafka.request_timeout_ms = 300;
        settings.registry.url = Some("http://127.0.0.1:1".to_owned());
        settings.store.contact_points = vec!["127.0.0.1:1".to_owned()];
        let mut findings = kafka(&settings).await;
        findings.extend(registry(&settings).await);
        findings.push(store(&settings).await);
        let areas: Vec<_> = findings.iter().map(|finding| (finding.area, finding.state)).collect();
        assert_eq!(areas, [("kafka", State::Wrong), ("registry", State::Wrong), ("store", State::Wrong)]);
        assert!(findings.iter().all(|finding| finding.remedy.is_some()), "{findings:?}");
        assert!(text(&findings).contains("127.0.0.1:1"));
    }

    #[test]
    fn what_is_merely_unset_is_a_note_and_not_in_the_way() {
        let findings = credentials(&Settings::default());
        assert!(findings.iter().all(|finding| finding.state == State::Note), "{findings:?}");
    }
}
