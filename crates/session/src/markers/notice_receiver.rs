//! Receives what other nodes tell about this node's users.

use std::sync::Arc;

use sendpi_bus::UserMessage;
use tokio::sync::mpsc;

use crate::context::NodeContext;
use crate::markers::notice::{Notice, VERSION, session_key};

/// Receives what comes on the subjects of this node's users until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>, mut messages: mpsc::Receiver<UserMessage>) {
    while let Some(Some(message)) = node.shutdown.run_until_cancelled(messages.recv()).await {
        match serde_json::from_slice::<Notice>(&message.payload) {
            Ok(notice) if notice.v == VERSION => receive(&node, &message, notice),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a notice about a user cannot be read"),
        }
    }
}

fn receive(node: &Arc<NodeContext>, message: &UserMessage, notice: Notice) {
    let session = session_key(node.bus.node(), &notice.session);
    if let Some(marker) = notice.marker {
        node.with(|state, effects| state.send_marker(&message.user, &marker, session, effects));
    }
    // The sessions of the node where the device signed in were ended there.
    if let (Some(device), None) = (notice.replaced, session) {
        node.with(|state, effects| state.replaced(&message.user, &device, notice.at, effects));
    }
}
