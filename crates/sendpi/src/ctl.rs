//! `sendpi ctl`: what operators see and change of the workers, over NATS.

mod control;
mod fleet_history;
mod fleet_reader;
mod fleet_view;
mod pages;
mod table;
mod watch;

use std::time::Duration;

use sendpi_bus::rights::NatsRole;
use sendpi_bus::{Bus, ConnectError, NatsLoginError, PutError, RequestError};
use sendpi_model::control::LiveRooms;
use sendpi_model::{NodeId, Partition};
use serde_json::json;

use self::fleet_reader::FleetReader;
use self::table::TextTable;
use crate::nats_args::NatsArgs;
use crate::node::fresh_id;
use crate::output::say;

/// How long a worker may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The options of `sendpi ctl`.
#[derive(Debug, clap::Args)]
pub(crate) struct CtlCommand {
    /// The servers of a NATS cluster: nats://host:port, with commas.
    #[arg(long, default_value = "nats://127.0.0.1:4222", env = "SENDPI_NATS", hide_env_values = true, global = true)]
    nats: String,
    #[command(flatten)]
    access: NatsArgs,
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: CtlAction,
}

#[derive(Debug, clap::Subcommand)]
enum CtlAction {
    #[command(flatten)]
    Once(OnceAction),
    /// Show the fleet as it changes: who owns what, what happens there, and which partitions changed hands.
    Watch,
    /// Serve all of this as a page for browsers.
    Pages(pages::PagesArgs),
}

/// What looks at the fleet once.
#[derive(Debug, clap::Subcommand)]
enum OnceAction {
    /// List the workers, with what they own.
    Workers,
    /// List the partitions, with who owns them.
    Partitions,
    /// List the live rooms of a partition, the busiest first.
    Rooms {
        /// The partition.
        #[arg(value_parser = partition)]
        partition: Partition,
    },
    /// Have a worker hand over all that it owns, as before it is stopped. It goes on to run.
    Drain {
        /// The worker, by the beginning of its id.
        worker: String,
        /// Let it take part again.
        #[arg(long)]
        undo: bool,
    },
    /// Move a partition to a worker, for as long as that one lives.
    Move {
        /// The partition.
        #[arg(value_parser = partition)]
        partition: Partition,
        /// The worker, by the beginning of its id.
        #[arg(required_unless_present = "back", conflicts_with = "back")]
        worker: Option<String>,
        /// Let the partition go back to where it belongs.
        #[arg(long)]
        back: bool,
    },
}

fn partition(text: &str) -> Result<Partition, std::num::ParseIntError> {
    text.parse().map(Partition)
}

/// The reason why `sendpi ctl` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// The key for NATS cannot be used.
    #[error(transparent)]
    Login(#[from] NatsLoginError),
    /// NATS cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The nodes could not be listed.
    #[error("NATS lists no node of a Sendpi")]
    NoNodes,
    /// The leases could not be read.
    #[error("NATS does not tell who owns what: {0}")]
    Leases(#[source] RequestError),
    /// The fleet was not looked at yet.
    #[error("nothing was seen of the fleet yet")]
    Unseen,
    /// No worker, or more than one, has an id that begins so.
    #[error("{found} workers have an id that begins with {named}")]
    Worker {
        /// What was named.
        named: String,
        /// How many there are.
        found: usize,
    },
    /// Nobody owns the partition now.
    #[error("nobody owns partition {0} now")]
    NoOwner(Partition),
    /// There is no such partition.
    #[error("there is no partition {0}")]
    NoSuchPartition(Partition),
    /// A worker does not answer.
    #[error("{node} does not answer: {source}")]
    Silent {
        /// The worker.
        node: NodeId,
        /// What NATS reported.
        source: RequestError,
    },
    /// A worker refused.
    #[error("{node}: {error}")]
    Refused {
        /// The worker.
        node: NodeId,
        /// Why.
        error: String,
    },
    /// There is no terminal to show it in.
    #[error("watch needs a terminal; --json prints what it shows, once a second")]
    NoTerminal,
    /// The terminal cannot be used.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[source] std::io::Error),
    /// The pages cannot be served.
    #[error(transparent)]
    Pages(#[from] pages::PagesError),
    /// It is not known whether a move was noted.
    #[error("the move was not noted: {0}")]
    Move(#[from] PutError),
}

/// Runs `sendpi ctl`.
pub(crate) async fn run(command: CtlCommand) -> Result<(), CtlError> {
    let config = command.access.config_within(&command.nats, NatsRole::Operator, ANSWER)?;
    let bus = Bus::connect(&config, fresh_id()).await?;
    let ran = match command.action {
        CtlAction::Watch => watch::run(&bus, command.json).await,
        CtlAction::Pages(args) => pages::run(&bus, &args).await,
        CtlAction::Once(once) => run_once(&bus, once, command.json).await,
    };
    bus.close().await;
    ran
}

/// Looks at the fleet, and shows or changes something.
async fn run_once(bus: &Bus, action: OnceAction, as_json: bool) -> Result<(), CtlError> {
    let view = FleetReader::new(bus).look().await?;
    match action {
        OnceAction::Workers => show(as_json, &view.workers_json(), || view.workers_table()),
        OnceAction::Partitions => show(as_json, &view.partitions_json(), || view.partitions_table()),
        OnceAction::Rooms { partition } => {
            let rooms = control::rooms(bus, &view, partition).await?;
            show(as_json, &json!(rooms), || rooms_table(&rooms));
        }
        OnceAction::Drain { worker, undo } => {
            let node = control::drain(bus, &view, &worker, undo).await?;
            let what = if undo { "takes part again" } else { "hands over what it owns" };
            show(as_json, &json!({"node": node, "draining": !undo}), || TextTable::line(format!("{node} {what}")));
        }
        OnceAction::Move { partition, worker, .. } => {
            let to = control::move_to(bus, &view, partition, worker.as_deref()).await?;
            show(as_json, &json!({"partition": partition, "to": to}), || match &to {
                Some(node) => TextTable::line(format!("partition {partition} moves to {node}")),
                None => TextTable::line(format!("partition {partition} goes back to where it belongs")),
            });
        }
    }
    Ok(())
}

fn show(as_json: bool, value: &serde_json::Value, table: impl FnOnce() -> TextTable) {
    if as_json { say(value) } else { say(table()) }
}

fn rooms_table(rooms: &LiveRooms) -> TextTable {
    let mut table = TextTable::new(&["ROOM", "STATE", "MEMBERS", "ONLINE", "QUEUE", "EVENTS/S"]);
    for room in &rooms.rooms {
        let state = if room.active { "active" } else { "open" };
        table.row([
            room.room.to_string(),
            state.to_owned(),
            room.members.to_string(),
            room.online.to_string(),
            room.queue.to_string(),
            format!("{:.2}", room.events),
        ]);
    }
    if rooms.all > rooms.rooms.len() {
        table.note(format!("{} more", rooms.all - rooms.rooms.len()));
    }
    table
}
