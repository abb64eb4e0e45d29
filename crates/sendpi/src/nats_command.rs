//! `sendpi nats`: what an operator needs of a NATS cluster on which each role has a user of its own.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sendpi_bus::rights::{NatsRole, render, variable};
use sendpi_bus::{Bus, ConnectError, NatsLogin, NatsLoginError, SetupError, setup};
use sendpi_model::Partitions;

use crate::nats_args::NatsArgs;
use crate::node::fresh_id;
use crate::output::say;
use crate::serve::STRICT_REPLICAS;

/// The file with the public keys of all users, which `nats/rights.conf` names.
const PUBLIC: &str = "public.conf";

/// The options of `sendpi nats`.
#[derive(Debug, clap::Args)]
pub(crate) struct NatsCommand {
    #[command(subcommand)]
    action: NatsAction,
}

#[derive(Debug, clap::Subcommand)]
enum NatsAction {
    /// Print the part of a NATS server's configuration that says what each role may do.
    Rights,
    /// Make the key of each role's NATS user: ROLE.nk with its seed, and public.conf with the public keys. A key that
    /// is there stays.
    Keys {
        /// The folder of the keys.
        folder: PathBuf,
    },
    /// Make the buckets and streams that are missing. Nodes whose NATS user may do so make them by themselves.
    Setup {
        /// The servers of the NATS cluster: nats://host:port, with commas.
        #[arg(long, default_value = "nats://127.0.0.1:4222", env = "SENDPI_NATS", hide_env_values = true)]
        nats: String,
        #[command(flatten)]
        access: NatsArgs,
        /// How many NATS servers keep each bucket and stream.
        #[arg(long, default_value_t = STRICT_REPLICAS as u8, value_parser = clap::value_parser!(u8).range(1..=5))]
        nats_replicas: u8,
        /// The number of partitions of a new cluster.
        #[arg(long, default_value_t = Partitions::DEFAULT.count(), value_parser = clap::value_parser!(u16).range(1..))]
        partition_count: u16,
    },
}

/// The reason why `sendpi nats` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NatsCommandError {
    /// A file of the keys cannot be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Login(#[from] NatsLoginError),
    /// NATS cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The buckets and streams could not be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Runs `sendpi nats`.
pub(crate) async fn run(command: NatsCommand) -> Result<(), NatsCommandError> {
    match command.action {
        NatsAction::Rights => say(render().trim_end()),
        NatsAction::Keys { folder } => make_keys(&folder)?,
        NatsAction::Setup { nats, access, nats_replicas, partition_count } => {
            let bus = Bus::connect(&access.config(&nats, NatsRole::Operator)?, fresh_id()).await?;
            let partitions = Partitions::new(partition_count).unwrap_or(Partitions::DEFAULT);
            setup(&bus, partitions, usize::from(nats_replicas)).await?;
            bus.close().await;
            say("the buckets and streams are there");
        }
    }
    Ok(())
}

fn make_keys(folder: &Path) -> Result<(), NatsCommandError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| NatsCommandError::File { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut public = String::from("# The public keys of the users in rights.conf.\n");
    for role in NatsRole::ALL {
        let path = folder.join(role.name()).with_extension("nk");
        let login = if path.exists() {
            NatsLogin::read(&path)?
        } else {
            let login = NatsLogin::generate();
            write_whole(&path, login.seed(), 0o600).map_err(failed(&path))?;
            login
        };
        public += &format!("{}: \"{}\"\n", variable(role), login.public_key());
    }
    let path = folder.join(PUBLIC);
    write_whole(&path, public.trim_end(), 0o644).map_err(failed(&path))?;
    say(format_args!("the keys are in {}", folder.display()));
    Ok(())
}

/// Writes a file so that it is whole, or not there.
fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        make_keys(folder.path()).unwrap();
        let public = std::fs::read_to_string(folder.path().join(PUBLIC)).unwrap();
        make_keys(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(PUBLIC)).unwrap(), public);
        for role in NatsRole::ALL {
            let path = folder.path().join(format!("{}.nk", role.name()));
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let key = NatsLogin::read(&path).unwrap().public_key();
            assert!(public.contains(&format!("{}: \"{key}\"", variable(role))), "{public}");
        }
    }
}
