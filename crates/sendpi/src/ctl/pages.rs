//! `sendpi ctl pages`: the fleet as a page for browsers, on a port and with a token of its own.
//!
//! It is a process beside the nodes, as the operator's user of NATS: nodes have no right to ask and move workers.

mod listener;
mod operator_token;
mod routes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sendpi_bus::Bus;

use self::listener::serve;
use self::operator_token::{OperatorToken, OperatorTokenError};
use super::CtlError;
use super::fleet_history::FleetHistory;
use super::fleet_reader::looks;
use super::fleet_view::FleetView;
use crate::output::say;
use crate::signals::EndSignals;

/// The options of `sendpi ctl pages`.
#[derive(Debug, clap::Args)]
pub(super) struct PagesArgs {
    /// The address on which browsers reach the page. What goes there is not encrypted.
    #[arg(long, default_value = "127.0.0.1:8090", env = "SENDPI_PAGES_LISTEN")]
    listen: SocketAddr,
    /// A file with the token that browsers ask their users for, as a password, and that scripts send as a bearer token.
    /// Without it, a new one is made and printed at each start.
    #[arg(long, value_name = "FILE", env = "SENDPI_OPERATOR_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// The reason why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PagesError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] OperatorTokenError),
    /// The address cannot be used.
    #[error("cannot listen on {0}: {1}; choose another address with --listen")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// What the requests of browsers share.
#[derive(Debug)]
struct Pages {
    bus: Bus,
    token: OperatorToken,
    history: Mutex<FleetHistory>,
}

impl Pages {
    fn history(&self) -> MutexGuard<'_, FleetHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was seen last.
    fn view(&self) -> Result<Arc<FleetView>, CtlError> {
        self.history().view.clone().ok_or(CtlError::Unseen)
    }

    /// Notes what each look at the fleet shows.
    async fn look(&self) {
        let mut looks = looks(&self.bus);
        while let Some(view) = looks.recv().await {
            self.history().look(view);
        }
    }
}

/// Serves the page until a signal ends it.
pub(super) async fn run(bus: &Bus, args: &PagesArgs) -> Result<(), CtlError> {
    let token = OperatorToken::of(args.token_file.as_deref()).map_err(PagesError::from)?;
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|error| PagesError::Listen(args.listen, error))?;
    let mut signals = EndSignals::receive().map_err(PagesError::Signals)?;
    if let Some(made) = token.made() {
        say(format_args!("the token of this start is {made}"));
    }
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "nothing that goes over the network is encrypted: put a proxy with TLS before it");
    }
    say(format_args!("listening on http://{address}"));
    let pages = Arc::new(Pages { bus: bus.clone(), token, history: Mutex::default() });
    tokio::select! {
        () = pages.look() => {}
        () = serve(listener, routes::router(&pages)) => {}
        signal = signals.next() => tracing::info!(signal, "stopping"),
    }
    Ok(())
}
