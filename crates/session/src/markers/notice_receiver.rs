//! Receives the notices about this node's users. Those of this node itself come back too, and are ignored.

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
    // The devices on this node were told when the marker moved.
    let from_here = session_key(node.bus.node(), &notice.session).is_some();
    if let Some(marker) = notice.marker.filter(|_| !from_here) {
        node.hear_markers(&message.user, std::slice::from_ref(&marker));
    }
}
