//! Sendpi, a chat backend. One binary holds every role.
//!
//! # Map
//! - `dev`: `sendpi dev`, everything on one machine. `nats_server`: the NATS server that it runs.
//!   `free_space`: the space that both need. `cql_address`: a keyspace in place of its embedded store.
//! - `serve`: `sendpi serve`, one node on a cluster. `config_file`: its options in a file. `schema_command`: `sendpi
//!   schema`. `cql_args`: the options for the database.
//! - `migrate`: `sendpi migrate`. `progress_bar`: how far it is.
//! - `node`: one node and its roles, from start to stop. `node_args`: its options.
//! - `process_metrics`: what a process uses. `logging`: logs. `output`: lines for people. `signals`: the signals that
//!   end a process.
//! - `chat`: `sendpi chat`, a client in the terminal.
//! - `ctl`: `sendpi ctl`, with `ctl/fleet_view`, what is seen of the fleet, `ctl/watch` and `ctl/pages`, which show
//!   that to people, and `ctl/control`, what they ask of workers.
//! - `nats_command`: `sendpi nats`, for clusters of NATS with rights. `nats_args`: how a process signs in there.
//! - `admin`: `sendpi admin`. `ask`: `sendpi push test` and `sendpi why`. `push_args`, `rate_args`: the options for
//!   push notifications and for rates.
//! - `token`: `sendpi token`. `token_args`: the options for keys. `token_key`: the key of a data folder's tokens.

mod admin;
mod ask;
mod chat;
mod config_file;
mod cql_address;
mod cql_args;
mod ctl;
mod dev;
mod free_space;
mod logging;
mod migrate;
mod nats_args;
mod nats_command;
mod nats_server;
mod node;
mod node_args;
mod output;
mod process_metrics;
mod progress_bar;
mod push_args;
mod rate_args;
mod schema_command;
mod serve;
mod signals;
mod token;
mod token_args;
mod token_key;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::output::complain;

/// Sendpi, a chat backend.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// The form of log lines.
    #[arg(long, value_enum, default_value = "text", env = "SENDPI_LOG_FORMAT", global = true)]
    log_format: logging::LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: a NATS server, every role in one process, and the embedded store.
    Dev(Box<dev::DevArgs>),
    /// Run one node, with some of the roles, on a running NATS cluster and a running ScyllaDB or Cassandra.
    Serve(Box<serve::ServeArgs>),
    /// Make or check the tables in the database.
    Schema(schema_command::SchemaCommand),
    /// Chat in the terminal.
    Chat(chat::ChatArgs),
    /// Print a token with which a user, or a service, signs in at a `sendpi dev`.
    Token(token::TokenCommand),
    /// Push notifications.
    Push(ask::PushCommand),
    /// Tell what became of an event for a user: who has it, whether it was pushed, or why not.
    Why(ask::WhyCommand),
    /// Copy everything from the store of one machine into ScyllaDB or Cassandra, and verify it.
    Migrate(migrate::MigrateArgs),
    /// Ask something of a running Sendpi as its operator.
    Admin(admin::AdminCommand),
    /// See and change what workers own.
    Ctl(ctl::CtlCommand),
    /// Set up a NATS cluster on which each role has a user of its own.
    Nats(nats_command::NatsCommand),
    /// Measure Sendpi beside a bare broadcast server on this machine.
    Bench(sendpi_bench::BenchArgs),
}

/// Reads the command line. If that names a configuration file, what it says is read as the default of each option.
fn parse() -> Result<Cli, config_file::ConfigFileError> {
    let cli = Cli::parse();
    let Command::Serve(args) = &cli.command else { return Ok(cli) };
    let Some(path) = &args.config else { return Ok(cli) };
    let mut command = Cli::command();
    if let Some(serve) = command.find_subcommand_mut("serve") {
        *serve = config_file::apply(std::mem::take(serve), path)?;
    }
    let parsed = Cli::from_arg_matches(&command.get_matches());
    Ok(parsed.unwrap_or_else(|error| error.exit()))
}

fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            complain(error);
            return ExitCode::FAILURE;
        }
    };
    logging::start(cli.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result: Result<(), Box<dyn std::error::Error + Send + Sync>> = match cli.command {
        Command::Dev(args) => runtime.block_on(dev::run(*args)).map_err(Into::into),
        Command::Serve(args) => runtime.block_on(serve::run(*args)).map_err(Into::into),
        Command::Schema(command) => runtime.block_on(schema_command::run(command)).map_err(Into::into),
        Command::Chat(args) => runtime.block_on(chat::run(args)).map_err(Into::into),
        Command::Token(args) => token::run(&args).map_err(Into::into),
        Command::Push(args) => runtime.block_on(ask::push(args)).map_err(Into::into),
        Command::Why(args) => runtime.block_on(ask::why(args)).map_err(Into::into),
        Command::Migrate(args) => runtime.block_on(migrate::run(args)).map_err(Into::into),
        Command::Admin(command) => runtime.block_on(admin::run(command)).map_err(Into::into),
        Command::Ctl(command) => runtime.block_on(ctl::run(command)).map_err(Into::into),
        Command::Nats(command) => runtime.block_on(nats_command::run(command)).map_err(Into::into),
        Command::Bench(args) => runtime.block_on(sendpi_bench::run(args)).map_err(Into::into),
    };
    // Everything has ended in order by now, except for a read of standard input, which cannot be ended.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}
