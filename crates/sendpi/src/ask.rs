//! `sendpi push test` and `sendpi why`: questions to a running Sendpi, over its NATS.

use std::path::PathBuf;

use bytes::Bytes;
use sendpi_bus::rights::NatsRole;
use sendpi_bus::{Bus, ConnectError, NatsLoginError, RequestError, subject};
use sendpi_model::{IdError, RoomId, UserId, encode_json};
use sendpi_push::{ControlAnswer, ControlRequest, Explanation};

use crate::nats_args::NatsArgs;
use crate::node::fresh_id;
use crate::output::say;

/// The file in a data folder that says where its NATS is.
const NATS_URL: &str = "nats-url";

/// Where the running Sendpi is.
#[derive(Debug, clap::Args)]
pub(crate) struct WhereArgs {
    /// The NATS server of the Sendpi to ask: nats://host:port. The default is that of the data folder.
    #[arg(long, env = "SENDPI_NATS", hide_env_values = true)]
    nats: Option<String>,
    #[command(flatten)]
    access: NatsArgs,
    /// The data folder of the Sendpi to ask.
    #[arg(long, default_value = ".sendpi", env = "SENDPI_DATA")]
    data: PathBuf,
}

/// The options of `sendpi push`.
#[derive(Debug, clap::Args)]
pub(crate) struct PushCommand {
    #[command(subcommand)]
    command: PushSubcommand,
}

#[derive(Debug, clap::Subcommand)]
enum PushSubcommand {
    /// Post a test notification for a user to the configured webhook.
    Test {
        /// The user.
        #[arg(long)]
        user: String,
        #[command(flatten)]
        place: WhereArgs,
    },
}

/// The options of `sendpi why`.
#[derive(Debug, clap::Args)]
pub(crate) struct WhyCommand {
    /// The room.
    #[arg(long)]
    room: String,
    /// The seq of the event.
    #[arg(long)]
    seq: u64,
    /// The user.
    #[arg(long)]
    user: String,
    /// Print all that is known as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: WhereArgs,
}

/// The reason why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// An id is none.
    #[error("{0} {1}")]
    Id(&'static str, #[source] IdError),
    /// It is not known where NATS is.
    #[error("no Sendpi runs on the data in {0}; start one, or name its NATS with --nats")]
    NoData(PathBuf),
    /// The key for NATS cannot be used.
    #[error(transparent)]
    Login(#[from] NatsLoginError),
    /// NATS cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No push worker answers.
    #[error("no push worker answers: {0}")]
    NoAnswer(#[from] RequestError),
    /// The answer is of another release.
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The question could not be answered.
    #[error("{0}")]
    Failed(String),
}

/// Writes down where the NATS of a data folder is.
pub(crate) fn note_nats(data: &std::path::Path, url: &str) -> std::io::Result<()> {
    std::fs::write(data.join(NATS_URL), url)
}

impl WhereArgs {
    async fn ask(&self, request: &ControlRequest) -> Result<ControlAnswer, AskError> {
        let url = match &self.nats {
            Some(url) => url.clone(),
            None => {
                let known = std::fs::read_to_string(self.data.join(NATS_URL));
                known.map_err(|_| AskError::NoData(self.data.clone()))?
            }
        };
        let config = self.access.config(url.trim(), NatsRole::Operator)?;
        let bus = Bus::connect(&config, fresh_id()).await?;
        let answer = bus.request(subject::CONTROL_PUSH.to_owned(), Bytes::from(encode_json(request))).await;
        bus.close().await;
        Ok(serde_json::from_slice(answer?.payload())?)
    }
}

/// Runs `sendpi push`.
pub(crate) async fn push(args: PushCommand) -> Result<(), AskError> {
    let PushSubcommand::Test { user, place } = args.command;
    let user = UserId::parse_chosen(&user).map_err(|rule| AskError::Id("--user", rule))?;
    match place.ask(&ControlRequest::Test { user }).await? {
        ControlAnswer::Test { taken: true, said } => {
            say(said);
            Ok(())
        }
        ControlAnswer::Test { said: why, .. } | ControlAnswer::Failed { why } => Err(AskError::Failed(why)),
        ControlAnswer::Why(_) => Err(AskError::Failed("the answer is to another question".to_owned())),
    }
}

/// Runs `sendpi why`.
pub(crate) async fn why(args: WhyCommand) -> Result<(), AskError> {
    let room = RoomId::parse(&args.room).map_err(|rule| AskError::Id("--room", rule))?;
    let user = UserId::parse_chosen(&args.user).map_err(|rule| AskError::Id("--user", rule))?;
    match args.place.ask(&ControlRequest::Why { room, seq: args.seq, user }).await? {
        ControlAnswer::Why(explanation) => {
            print(&explanation, args.json)?;
            Ok(())
        }
        ControlAnswer::Failed { why } | ControlAnswer::Test { said: why, .. } => Err(AskError::Failed(why)),
    }
}

fn print(explanation: &Explanation, as_json: bool) -> Result<(), serde_json::Error> {
    if as_json {
        say(serde_json::to_string_pretty(explanation)?);
    } else {
        explanation.because.iter().for_each(say);
    }
    Ok(())
}
