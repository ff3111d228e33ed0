//! Numbered migrations of the keyspace, embedded in the binary.
//!
//! Every statement is repeatable (`IF NOT EXISTS`), so a run that was cut short is simply run again. Run them
//! from one place at a time: schema changes of two clients at once can disagree.

use scylla::client::session::Session;
use sha2::{Digest, Sha256};

use crate::cql::connect_without_keyspace;
use crate::error::Error;
use crate::settings::Settings;

/// The table that says which migrations a keyspace has.
const TABLE: &str = "schema_migrations";

struct Source {
    number: i32,
    name: &'static str,
    cql: &'static str,
}

const SOURCES: &[Source] = &[
    Source { number: 1, name: "0001_messages", cql: include_str!("../migrations/0001_messages.cql") },
    Source { number: 2, name: "0002_received", cql: include_str!("../migrations/0002_received.cql") },
    Source { number: 3, name: "0003_sessions", cql: include_str!("../migrations/0003_sessions.cql") },
];

/// A migration and what `migrate` did about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migration {
    /// Number and name.
    pub name: String,
    /// True when this run applied it; false when the keyspace had it.
    pub applied_now: bool,
}

impl Source {
    fn checksum(&self) -> String {
        hex::encode(Sha256::digest(self.cql.as_bytes()))
    }

    /// The statements of the file: comments go to the end of a line, statements to a semicolon.
    fn statements(&self) -> Vec<String> {
        let code: Vec<&str> =
            self.cql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
        let statements = code.join("\n");
        statements.split(';').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
    }
}

/// Creates the keyspace if it is not there, and applies what it lacks. For `sluice store migrate`.
pub async fn migrate(settings: &Settings) -> Result<Vec<Migration>, Error> {
    settings.validate()?;
    let session = connect_without_keyspace(settings).await?;
    if !keyspace_exists(&session, &settings.keyspace).await? {
        create_keyspace(&session, settings).await?;
    }
    session.use_keyspace(&settings.keyspace, true).await?;
    run(&session, "create schema_migrations", CREATE_TABLE).await?;
    let known = applied(&session, &settings.keyspace).await?;
    let mut done = Vec::with_capacity(SOURCES.len());
    for source in SOURCES {
        let applied_now = !is_applied(&known, source, &settings.keyspace)?;
        if applied_now {
            for statement in source.statements() {
                run(&session, source.name, &statement).await?;
            }
            record(&session, source).await?;
        }
        done.push(Migration { name: source.name.to_owned(), applied_now });
    }
    Ok(done)
}

/// Whether the keyspace has every migration that this version needs. Later ones are no hindrance: migrations
/// only add. For `sluice doctor`.
pub async fn check(settings: &Settings) -> Result<(), Error> {
    settings.validate()?;
    let session = connect_without_keyspace(settings).await?;
    check_session(&session, &settings.keyspace).await
}

pub(crate) async fn check_session(session: &Session, keyspace: &str) -> Result<(), Error> {
    let known = match table_exists(session, keyspace).await? {
        true => applied(session, keyspace).await?,
        false => Vec::new(),
    };
    let mut missing = Vec::new();
    for source in SOURCES {
        if !is_applied(&known, source, keyspace)? {
            missing.push(source.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::NotMigrated { keyspace: keyspace.to_owned(), missing: missing.join(", ") })
}

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    number int PRIMARY KEY, name text, checksum text, applied_at timestamp)";

/// A migration as the keyspace records it: number and checksum.
type Applied = (i32, String);

fn is_applied(known: &[Applied], source: &Source, keyspace: &str) -> Result<bool, Error> {
    match known.iter().find(|(number, _)| *number == source.number) {
        None => Ok(false),
        Some((_, checksum)) if *checksum == source.checksum() => Ok(true),
        Some(_) => {
            Err(Error::MigrationChanged { keyspace: keyspace.to_owned(), name: source.name.to_owned() })
        }
    }
}

async fn run(session: &Session, what: &str, statement: &str) -> Result<(), Error> {
    session.query_unpaged(statement, ()).await.map_err(|error| Error::statement(what, error))?;
    Ok(())
}

async fn record(session: &Session, source: &Source) -> Result<(), Error> {
    let insert = format!(
        "INSERT INTO {TABLE} (number, name, checksum, applied_at) VALUES (?, ?, ?, toTimestamp(now()))"
    );
    let row = (source.number, source.name, source.checksum());
    session
        .query_unpaged(insert, row)
        .await
        .map_err(|error| Error::statement("record a migration", error))?;
    Ok(())
}

async fn applied(session: &Session, keyspace: &str) -> Result<Vec<Applied>, Error> {
    // The name is checked by Settings::validate: it needs no quoting.
    let select = format!("SELECT number, checksum FROM {keyspace}.{TABLE}");
    rows(session, select, ()).await
}

async fn keyspace_exists(session: &Session, keyspace: &str) -> Result<bool, Error> {
    let select = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    Ok(!rows::<(String,)>(session, select.to_owned(), (keyspace,)).await?.is_empty())
}

async fn table_exists(session: &Session, keyspace: &str) -> Result<bool, Error> {
    let select =
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?".to_owned();
    Ok(!rows::<(String,)>(session, select, (keyspace, TABLE)).await?.is_empty())
}

async fn create_keyspace(session: &Session, settings: &Settings) -> Result<(), Error> {
    let datacenter = match settings.datacenter.as_str() {
        "" => {
            let found: Vec<(String,)> =
                rows(session, "SELECT data_center FROM system.local".to_owned(), ()).await?;
            found.into_iter().next().map(|(name,)| name).unwrap_or_default()
        }
        given => given.to_owned(),
    };
    if datacenter.is_empty() || datacenter.contains(['\'', '"']) {
        return Err(Error::settings("datacenter", "give the name of the datacenter to replicate in"));
    }
    let create = format!(
        "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = \
         {{'class': 'NetworkTopologyStrategy', '{datacenter}': {}}}",
        settings.keyspace, settings.replication_factor
    );
    run(session, "create the keyspace", &create).await
}

/// Runs a statement once; its rows are few.
async fn rows<T>(
    session: &Session,
    statement: String,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<Vec<T>, Error>
where
    T: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
{
    let answer = session
        .query_unpaged(statement, values)
        .await
        .map_err(|error| Error::statement("read the schema", error))?;
    crate::cql::read_rows(TABLE, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps_and_repeatable() {
        for (index, source) in SOURCES.iter().enumerate() {
            assert_eq!(usize::try_from(source.number).unwrap(), index + 1);
            assert!(source.name.starts_with(&format!("{:04}_", source.number)));
            assert!(!source.statements().is_empty());
            for statement in source.statements() {
                assert!(statement.contains("IF NOT EXISTS"), "{statement}");
            }
        }
    }

    /// Released migrations never change: this test's figures are only ever added to.
    #[test]
    fn a_keyspace_whose_migration_differs_is_refused() {
        let known = [(1, "another".to_owned())];
        assert!(matches!(is_applied(&known, &SOURCES[0], "k"), Err(Error::MigrationChanged { .. })));
        let known = [(1, SOURCES[0].checksum())];
        assert!(is_applied(&known, &SOURCES[0], "k").unwrap());
        assert!(!is_applied(&known, &SOURCES[1], "k").unwrap());
    }
}
