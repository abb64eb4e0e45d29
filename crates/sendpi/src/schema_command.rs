//! `sendpi schema`: the tables in the database.

use clap::Subcommand;
use sendpi_store::cql::{CqlOpenError, Replication, schema};

use crate::cql_args::CqlArgs;
use crate::output::say;

/// The tables in the database.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaCommand {
    #[command(subcommand)]
    action: SchemaAction,
}

#[derive(Debug, Subcommand)]
enum SchemaAction {
    /// Make the keyspace and the tables that are missing. It can be run again, and by several at once.
    Apply {
        #[command(flatten)]
        cql: CqlArgs,
        /// How many nodes of the datacenter keep each row, if the keyspace is made now.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        replication: u8,
    },
    /// Say whether the tables are those of this release.
    Check {
        #[command(flatten)]
        cql: CqlArgs,
    },
}

/// The reason why the schema is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaCommandError {
    /// The database cannot be reached.
    #[error(transparent)]
    Connect(#[from] CqlOpenError),
    /// The tables are of another version, or the database did not take them.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
}

/// Runs the command.
pub(crate) async fn run(command: SchemaCommand) -> Result<(), SchemaCommandError> {
    match command.action {
        SchemaAction::Apply { cql, replication } => {
            let config = cql.config();
            config.create_keyspace(Replication { nodes: replication }).await?;
            schema::apply(&config.connect().await?).await?;
            say(format_args!("the tables in {} are of version {}", config.keyspace, schema::VERSION));
        }
        SchemaAction::Check { cql } => {
            let config = cql.config();
            schema::check(&config.connect().await?).await?;
            say(format_args!("the tables in {} are of version {}", config.keyspace, schema::VERSION));
        }
    }
    Ok(())
}
