//! The command line: every command, its arguments and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::output::Format;

/// Shown at the end of `sluice --help`.
const AFTER: &str = "\
Exit codes: 0 ok · 1 failed · 2 usage · 3 not found · 4 refused by a check

Settings: built-in defaults, then the file (--config or SLUICE_CONFIG), then SLUICE__SECTION__NAME
variables. `sluice config` prints what holds, secrets masked.";

/// Kafka-native delivery pipeline for WhatsApp.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = AFTER, max_term_width = 110)]
pub(crate) struct Cli {
    /// Settings file (TOML)
    #[arg(long, global = true, env = "SLUICE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Form of the output
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value_t = Format::Text, value_name = "FORM")]
    pub(crate) output: Format,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run roles in this process until SIGTERM
    ///
    /// Roles: edge, sender, processor, reducer, query. Any set may share a process.
    #[command(after_help = "Example: sluice run edge,query --config sluice.toml")]
    Run(RunArgs),
    /// Everything in one process, with no server to set up
    ///
    /// All roles on an in-process Kafka, with a message store in memory, a simulated provider and 20 sessions.
    /// Prints a curl line to send a message with. What it holds is gone when it ends.
    #[command(after_help = "\
Examples:
  sluice dev
  sluice dev --demo 1000        exit 0 only if every message is accounted for
  sluice dev --port-base 18080 --kafka localhost:9092")]
    Dev(DevArgs),
    /// Create, check or print the topics
    #[command(subcommand)]
    Topics(Topics),
    /// Register, check or print the schemas
    #[command(subcommand)]
    Schemas(Schemas),
    /// Create or check the tables of the message store
    #[command(subcommand)]
    Store(Store),
    /// Print the settings that hold, secrets masked
    Config,
    /// Sessions: WhatsApp numbers that messages are sent from
    #[command(subcommand)]
    Session(Session),
    /// Accounts: credentials and address at a provider
    #[command(subcommand)]
    Account(Account),
    /// Put one message on the requests topic
    #[command(after_help = "\
Examples:
  sluice send --session demo-01 --to +15551234567 --text 'Hello'
  sluice send --session demo-01 --to +15551234567 --text 'Hello' --key order-17 --wait DELIVERED

The same --key sends once, however often the command is run. Without --key a fresh one is made and printed.")]
    Send(SendArgs),
    /// Look at or cancel a message
    #[command(subcommand)]
    Message(Message),
    /// Records the pipeline could not process
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Check settings, brokers, topics, registry and store, with a remedy for each finding
    #[command(after_help = "Exits 0 when nothing stands in the way, 4 when something does.")]
    Doctor,
    /// Run a simulated provider over real HTTP
    Simulate(SimulateArgs),
    /// Print the OpenAPI 3.1 document of the HTTP API
    Openapi,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Roles, separated by commas
    #[arg(value_name = "ROLE,…", value_delimiter = ',', required = true)]
    pub(crate) roles: Vec<String>,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Send this many messages with mixed faults, wait until all settle, and check the books; at most 10,000 on the
    /// built-in Kafka
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) demo: Option<u32>,
    /// Seed of the demo's messages and faults
    #[arg(long, value_name = "S", default_value_t = 1, requires = "demo")]
    pub(crate) seed: u64,
    /// How long the demo's messages may take to settle once sent, seconds [default: 120 and 1 for each 40]
    #[arg(long, value_name = "S", requires = "demo")]
    pub(crate) settle_s: Option<u64>,
    /// Brokers to use instead of the built-in one
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) kafka: Option<String>,
    /// Schema registry to use instead of the built-in one
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Option<String>,
    /// CQL contact points to use instead of the in-memory store
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) scylla: Option<String>,
    /// Listen on this port and the four after it instead of the usual ones
    #[arg(long, value_name = "N", conflicts_with = "ephemeral_ports")]
    pub(crate) port_base: Option<u16>,
    /// Listen on any free ports; the addresses are printed
    #[arg(long)]
    pub(crate) ephemeral_ports: bool,
    /// Log more: -v what goes on, -vv every step
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Form of `topics print`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopicForm {
    /// Columns for people.
    Table,
    /// One JSON array.
    Json,
    /// `KafkaTopic` resources for the Strimzi operator.
    Strimzi,
}

/// Commands on topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// Create what is missing and set what differs; never changes a partition count
    Apply,
    /// Compare the brokers with the table; exit 4 when a role would refuse to start
    Check,
    /// Print the table
    Print {
        /// Form of the table
        #[arg(long, value_enum, default_value_t = TopicForm::Table)]
        format: TopicForm,
    },
}

/// Commands on schemas.
#[derive(Debug, Subcommand)]
pub(crate) enum Schemas {
    /// Register this version's schemas in the registry
    Register,
    /// Ask the registry whether this version's schemas fit what it holds; exit 4 when one does not
    Check,
    /// Print the schemas
    Print {
        /// Only the schema of this topic (for example messages.status)
        topic: Option<String>,
    },
}

/// Commands on the store.
#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Create the keyspace and run the migrations that are missing
    Migrate,
    /// Compare the store with this version's migrations; exit 4 when some are missing
    Check,
}

/// Commands on sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// Create a session or replace it
    #[command(after_help = "\
The document is what `PUT /v1/sessions/{s}` takes: account_id, tenant_id, provider_session_id,
phone_number, secrets, limits. `-` reads it from standard input.

Example:
  echo '{\"tenant_id\":\"acme\",\"account_id\":\"wa-1\",\"secrets\":{\"api_key\":\"env:KEY\"}}' \\
    | sluice session put s1 --file -")]
    Put {
        /// Session id
        session: String,
        /// JSON document; `-` is standard input
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete a session; its waiting messages become FAILED(session_deleted)
    Delete {
        /// Session id
        session: String,
    },
    /// List the sessions
    List,
    /// Show a session and its condition
    Show {
        /// Session id
        session: String,
    },
    /// Hold a session's messages until it is resumed
    Pause {
        /// Session id
        session: String,
        /// Why, for those who find it paused
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let a paused session go on
    Resume {
        /// Session id
        session: String,
    },
}

/// Commands on accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Create an account or replace it
    #[command(after_help = "\
The document is what `PUT /v1/accounts/{a}` takes: tenant_id, provider, base_url, secrets.
`-` reads it from standard input.")]
    Put {
        /// Account id
        account: String,
        /// JSON document; `-` is standard input
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete an account
    Delete {
        /// Account id
        account: String,
    },
    /// List the accounts
    List,
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Session to send from
    #[arg(long)]
    pub(crate) session: String,
    /// Recipient: E.164 number, group id (…@g.us) or @username
    #[arg(long)]
    pub(crate) to: String,
    /// Text
    #[arg(long)]
    pub(crate) text: String,
    /// Idempotency key: the same key sends once
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Wait until the message has come to this status or can no longer
    #[arg(long, value_name = "STATUS")]
    pub(crate) wait: Option<String>,
    /// How long to wait, seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) timeout_s: u64,
}

/// Commands on messages.
#[derive(Debug, Subcommand)]
pub(crate) enum Message {
    /// Show a message from the store
    Get {
        /// Message id
        id: String,
    },
    /// Ask for a message to be canceled; it may be too late (status CANCEL_TOO_LATE)
    Cancel {
        /// Message id
        id: String,
        /// Session of the message
        #[arg(long)]
        session: String,
    },
}

/// Commands on dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List dead letters, newest last
    List {
        /// At most this many of each partition, the newest
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Only of this reason (for example UNDECODABLE)
        #[arg(long)]
        reason: Option<String>,
    },
    /// Show one dead letter whole
    Show {
        /// Its place, `partition/offset` as `list` prints it
        place: String,
    },
}

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "HOST:PORT")]
    pub(crate) listen: String,
    /// Settings of the simulated provider (TOML): sessions, limits, webhooks, seed
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_help() {
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no help");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
            }
            for sub in command.get_subcommands() {
                look(sub, &path);
            }
        }
        look(&Cli::command(), "");
    }
}
