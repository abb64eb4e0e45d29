//! What operators ask of workers, and what they change.

use sendpi_bus::lease::Leases;
use sendpi_bus::{Bus, subject};
use sendpi_model::control::{ControlDone, ControlRefusal, ControlVerb, LiveRooms, VERSION, WorkerRequest};
use sendpi_model::{NodeId, Partition, encode_json};
use serde::de::DeserializeOwned;

use super::CtlError;
use super::fleet_view::FleetView;

/// Asks a worker.
pub(super) async fn ask<T: DeserializeOwned>(bus: &Bus, node: &NodeId, verb: ControlVerb) -> Result<T, CtlError> {
    let request = encode_json(&WorkerRequest { v: VERSION, verb });
    let answer = bus.request(subject::control_worker(node), request.into()).await;
    let answer = answer.map_err(|source| CtlError::Silent { node: node.clone(), source })?;
    serde_json::from_slice(answer.payload()).map_err(|error| {
        let refusal = serde_json::from_slice::<ControlRefusal>(answer.payload());
        let error = refusal.map_or_else(|_| format!("its answer cannot be read: {error}"), |refusal| refusal.error);
        CtlError::Refused { node: node.clone(), error }
    })
}

/// Returns the live rooms of a partition.
pub(super) async fn rooms(bus: &Bus, view: &FleetView, partition: Partition) -> Result<LiveRooms, CtlError> {
    let owner = view.owner(partition).ok_or(CtlError::NoOwner(partition))?;
    ask(bus, owner, ControlVerb::Rooms { partition }).await
}

/// Has the worker whose id begins so hand over all that it owns, or take part again. Returns which one that is.
pub(super) async fn drain(bus: &Bus, view: &FleetView, worker: &str, undo: bool) -> Result<NodeId, CtlError> {
    let node = view.worker(worker)?;
    let ControlDone { .. } = ask(bus, &node, ControlVerb::Drain { undo }).await?;
    Ok(node)
}

/// Moves a partition to the worker whose id begins so, or lets it go back to where it belongs. Returns which one that
/// is.
pub(super) async fn move_to(
    bus: &Bus,
    view: &FleetView,
    partition: Partition,
    worker: Option<&str>,
) -> Result<Option<NodeId>, CtlError> {
    if !view.has(partition) {
        return Err(CtlError::NoSuchPartition(partition));
    }
    let to = worker.map(|worker| view.worker(worker)).transpose()?;
    Leases::new(bus).pin(partition, to.as_ref()).await?;
    Ok(to)
}
