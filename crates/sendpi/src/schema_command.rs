//! `sendpi schema`: the tables in the database.

use clap::{Subcommand, ValueEnum};
use sendpi_store::cql::{CqlOpenError, DatabaseKind, Replication, schema, tune};

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
    /// Set what only one of the databases knows: how the tables are compacted. It can be run again.
    Tune {
        #[command(flatten)]
        cql: CqlArgs,
        /// The database.
        #[arg(long = "for", value_enum)]
        database: TunedDatabase,
    },
    /// Say whether the tables are those of this release.
    Check {
        #[command(flatten)]
        cql: CqlArgs,
    },
}

/// A database with settings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TunedDatabase {
    /// ScyllaDB, 2025.4 or newer.
    Scylla,
    /// Apache Cassandra 5.
    Cassandra,
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
        SchemaAction::Tune { cql, database } => {
            let config = cql.config();
            let kind = match database {
                TunedDatabase::Scylla => DatabaseKind::Scylla,
                TunedDatabase::Cassandra => DatabaseKind::Cassandra,
            };
            let session = config.connect().await?;
            schema::check(&session).await?;
            let tables = tune(&session, kind).await?;
            say(format_args!("{tables} tables in {} are tuned", config.keyspace));
        }
        SchemaAction::Check { cql } => {
            let config = cql.config();
            schema::check(&config.connect().await?).await?;
            say(format_args!("the tables in {} are of version {}", config.keyspace, schema::VERSION));
        }
    }
    Ok(())
}
