//! Receives the notices about this node's users.

use std::sync::Arc;

use sendpi_bus::UserMessage;
use tokio::sync::mpsc;

use crate::context::NodeContext;
use crate::markers::notice::{Notice, VERSION, session_key};

/// Receives the messages on the subjects of this node's users until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>, mut messages: mpsc::Receiver<UserMessage>) {
    while let Some(Some(message)) = node.shutdown.run_until_cancelled(messages.recv()).await {
        match serde_json::from_slice::<Notice>(&message.payload) {
            Ok(notice) if notice.v == VERSION => receive(&node, &message, notice),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "ignored an unreadable notice about a user"),
        }
    }
}

fn receive(node: &Arc<NodeContext>, message: &UserMessage, notice: Notice) {
    let session = session_key(node.bus.node(), &notice.session);
    if let Some(marker) = notice.marker {
        node.with(|state, effects| state.send_marker(&message.user, &marker, session, effects));
    }
    // If the device signed in on this node, its older sessions were closed at the sign-in itself.
    if let (Some(device), None) = (notice.replaced, session) {
        node.with(|state, effects| state.replaced(&message.user, &device, notice.at, effects));
    }
}
