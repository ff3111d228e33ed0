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
    /// Attempts nobody knows the outcome of
    #[command(subcommand)]
    InDoubt(InDoubt),
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
phone_number, secrets, limits, pair_limits. `-` reads it from standard input.

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
The document is what `PUT /v1/accounts/{a}` takes: tenant_id, provider, base_url, secrets, limits.
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
    /// Tell a message's story from the topics: request, ledger, statuses, webhooks, state, in order of time
    #[command(after_help = "\
Without --session the session is looked up in messages.state. The ledger keeps what is open,
and what ended within the dedupe window; the other topics keep what their retention allows.

Exit codes: 0 found · 1 failed · 2 usage · 3 no topic knows the message

Example: sluice message trace 0198… --session s1")]
    Trace(TraceArgs),
    /// Ask for a message to be canceled; it may be too late (status CANCEL_TOO_LATE)
    Cancel {
        /// Message id
        id: String,
        /// Session of the message
        #[arg(long)]
        session: String,
    },
}

/// Arguments of `message trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Message id
    pub(crate) id: String,
    /// Session of the message
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// How far back statuses and webhooks are read: a time or a span before now
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = super::when::when)]
    pub(crate) since: super::when::When,
}

/// Commands on attempts in doubt.
#[derive(Debug, Subcommand)]
pub(crate) enum InDoubt {
    /// List the attempts in doubt, oldest first, as the ledger has them
    #[command(after_help = "\
Examples:
  sluice in-doubt list
  sluice in-doubt list --session s1 --older-than 15m -o json")]
    List {
        /// Only of this session; reads one partition of the ledger instead of all
        #[arg(long)]
        session: Option<String>,
        /// Only those claimed so long ago: 90s, 15m, 2h, 7d
        #[arg(long, value_name = "SPAN", value_parser = super::when::span_ms)]
        older_than: Option<i64>,
    },
    /// Settle an attempt in doubt, also one that its policy holds
    #[command(after_help = "\
Look at the phone or ask the provider first: nobody else knows. `resend` may send the message
twice; the IN_DOUBT stays on record. The word names the very attempt: if evidence settles it
first, or it was sent again meanwhile, the word changes nothing.

Exit codes: 0 the word stands in the log (with --wait: the sender has done as it says)
  1 failed, or not settled in time · 2 usage · 3 the ledger knows no such message
  4 it is not in doubt, or was settled otherwise

Examples:
  sluice in-doubt resolve 0198… --session s1 --as sent --provider-message-id 4711 --wait
  sluice in-doubt resolve 0198… --session s1 --as resend --note 'customer says nothing came'")]
    Resolve(ResolveArgs),
}

/// Arguments of `in-doubt resolve`.
#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    /// Message id
    pub(crate) id: String,
    /// Session of the message
    #[arg(long)]
    pub(crate) session: String,
    /// What came of the attempt, or what is to be done
    #[arg(long = "as", value_enum, value_name = "VERDICT")]
    pub(crate) verdict: Verdict,
    /// The provider's id of the message, if you know it; receipts are then matched by it
    #[arg(long, value_name = "X")]
    pub(crate) provider_message_id: Option<String>,
    /// Why, for those who read the trace
    #[arg(long)]
    pub(crate) note: Option<String>,
    /// Wait until a sender has settled it
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) timeout_s: u64,
}

/// What an operator says of an attempt in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verdict {
    /// It was sent.
    Sent,
    /// Send it no more.
    Failed,
    /// Send it again.
    Resend,
}

impl Verdict {
    /// As the command line writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Resend => "resend",
        }
    }

    /// The status that says so.
    pub(crate) fn status(self) -> sluice_schemas::Status {
        match self {
            Self::Sent => sluice_schemas::Status::Submitted,
            Self::Failed => sluice_schemas::Status::Failed,
            Self::Resend => sluice_schemas::Status::Retrying,
        }
    }
}

/// Commands on dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List dead letters, newest last
    #[command(after_help = "\
Examples:
  sluice dead-letters list
  sluice dead-letters list --topic outbound.requests --reason UNKNOWN_SCHEMA --since 2h -o json")]
    List {
        /// At most this many of each partition, the newest
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Which.
        #[command(flatten)]
        filter: LetterFilter,
    },
    /// Show one dead letter whole
    Show {
        /// Its place, `partition/offset` as `list` prints it
        place: String,
    },
    /// Put dead records back on the topics they came from
    ///
    /// Each goes back with its key, value, headers and partition, and says where it comes from and how often it was
    /// replayed. A request keeps its idempotency key, so that it cannot be sent twice; facts and webhooks keep the
    /// ids of their events. Remove the cause first, or they die again.
    #[command(after_help = "\
Examples:
  sluice dead-letters replay 3/17
  sluice dead-letters replay --topic outbound.requests --reason UNKNOWN_SCHEMA --since 2h --dry-run
  sluice dead-letters replay --all --rate 50

Exit codes: 0 all that matched are back (or nothing matched)
  1 failed on the way; what went back is printed · 2 usage · 3 no letter at a place given")]
    Replay(ReplayArgs),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(crate) struct LetterFilter {
    /// Only from this topic, with or without the prefix (for example outbound.requests)
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Only of this reason (for example UNDECODABLE)
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only of this session, where the record named one
    #[arg(long)]
    pub(crate) session: Option<String>,
    /// Only of this tenant, where the record named one
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Only those that died since: a time (2026-01-31T12:00:00Z) or a span before now (2h)
    #[arg(long, value_name = "TIME", value_parser = super::when::when)]
    pub(crate) since: Option<super::when::When>,
    /// Only those that died before: a time or a span before now
    #[arg(long, value_name = "TIME", value_parser = super::when::when)]
    pub(crate) until: Option<super::when::When>,
}

impl LetterFilter {
    /// Whether it lets everything through.
    pub(crate) fn is_empty(&self) -> bool {
        let texts = [&self.topic, &self.reason, &self.session, &self.tenant];
        texts.iter().all(|text| text.is_none()) && self.since.is_none() && self.until.is_none()
    }
}

/// Arguments of `dead-letters replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Places of the letters, `partition/offset` as `list` prints them; else those the filters find
    #[arg(value_name = "PLACE")]
    pub(crate) places: Vec<String>,
    /// Which, when no place is given.
    #[command(flatten)]
    pub(crate) filter: LetterFilter,
    /// All of them: needed when neither a place nor a filter is given
    #[arg(long)]
    pub(crate) all: bool,
    /// Records a second, at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Leave out what was replayed so often already
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) replays_max: u32,
    /// Only say what would be replayed
    #[arg(long)]
    pub(crate) dry_run: bool,
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
