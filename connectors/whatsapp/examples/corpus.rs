//! Runs the connectors over a folder of payload samples and tells what each came to.
//!
//! `cargo run -p sluice-whatsapp --example corpus -- DIR`, where DIR holds `webhooks/PROVIDER/` (bodies that
//! a provider posts) and `answers/PROVIDER/` (bodies that a provider answers to a send). A folder may have an
//! `INDEX.tsv` with the columns file, origin, kind or HTTP status, expected; without one, every file is
//! shown and none can differ. Exit code 1 when any differs from its index.

#[path = "corpus/answers.rs"]
mod answers;
#[path = "corpus/expected.rs"]
mod expected;
#[path = "corpus/index.rs"]
mod index;
#[path = "corpus/webhooks.rs"]
mod webhooks;

use std::path::Path;
use std::process::ExitCode;

use sluice_schemas::Provider;
use sluice_whatsapp::registry;

use index::Row;

/// What a sample came to.
pub(crate) struct Outcome {
    /// In a line.
    pub(crate) shown: String,
    /// Where it differs from its index; `None` when it does not, or when there is no index.
    pub(crate) differs: Option<String>,
}

/// Counts of a run.
#[derive(Default)]
struct Tally {
    ok: usize,
    differs: usize,
    unknown_provider: usize,
}

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1) else {
        eprintln!("usage: corpus DIR   (DIR holds webhooks/PROVIDER/ and answers/PROVIDER/)");
        return ExitCode::from(2);
    };
    match run(Path::new(&root)) {
        Ok(tally) => {
            println!(
                "\n{} ok, {} differ, {} of providers without a connector in this build",
                tally.ok, tally.differs, tally.unknown_provider
            );
            if tally.differs == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(root: &Path) -> Result<Tally, index::Error> {
    let registry = registry();
    let mut tally = Tally::default();
    for kind in ["webhooks", "answers"] {
        for folder in index::folders(&root.join(kind))? {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let connector = provider(&name).and_then(|provider| registry.get(provider));
            let rows = index::rows(&folder)?;
            println!("\n{kind}/{name}: {} files", rows.len());
            let Some(connector) = connector else {
                println!("  no connector in this build");
                tally.unknown_provider += rows.len();
                continue;
            };
            for row in &rows {
                let body = index::body(&folder, row)?;
                let outcome = match kind {
                    "webhooks" => webhooks::judge(connector.as_ref(), row, &body),
                    _ => answers::judge(connector.as_ref(), row, &body),
                };
                report(row, &outcome, &mut tally);
            }
        }
    }
    Ok(tally)
}

fn provider(name: &str) -> Option<Provider> {
    Provider::ALL.iter().copied().find(|provider| provider.as_str().eq_ignore_ascii_case(name))
}

fn report(row: &Row, outcome: &Outcome, tally: &mut Tally) {
    let verdict = match &outcome.differs {
        None => "ok",
        Some(_) => "DIFFERS",
    };
    println!("  {verdict:<8}{}", row.file);
    if !row.expected.is_empty() {
        println!("          expected  {}", row.expected);
    }
    println!("          came to   {}", outcome.shown);
    match &outcome.differs {
        None => tally.ok += 1,
        Some(why) => {
            println!("          because   {why}");
            tally.differs += 1;
        }
    }
}
