//! The caller's devices, and where they get push notifications.

use std::sync::Arc;

use axum::extract::State;
use sendpi_model::{DeviceId, PushAddress, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::JsonAnswer;
use super::caller::Caller;
use super::extract::{At, JsonBody};
use super::schema::Done;
use crate::http_error::HttpError;
use crate::shared::Shared;

/// A device with its push address.
#[derive(Debug, Serialize, ToSchema)]
struct Device {
    /// The device.
    device: DeviceId,
    #[serde(flatten)]
    address: PushAddress,
}

/// The caller's devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Devices {
    devices: Vec<Device>,
}

/// Lists the caller's devices that have a push address.
#[utoipa::path(
    get, path = "/v1/devices", tag = "own", operation_id = "list_devices",
    responses(
        (status = 200, description = "Done", body = Devices),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn list(State(shared): State<Arc<Shared>>, caller: Caller) -> Result<JsonAnswer, HttpError> {
    let devices = shared.sessions.devices(&caller.user).await?.into_iter();
    let devices = devices.map(|(device, address)| Device { device, address }).collect();
    Ok(JsonAnswer::of(&Devices { devices }))
}

/// Sets the push address of one of the caller's devices.
#[utoipa::path(
    put, path = "/v1/devices/{device}", tag = "own", operation_id = "put_device",
    params(("device" = String, Path)), request_body = PushAddress,
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(device): At<String>,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    let address = PushAddress::read(&body.fields()?)?;
    shared.sessions.set_push_address(&caller.user, &device_of(&device)?, Some(address)).await?;
    Ok(JsonAnswer::done())
}

/// Ends the pushes to one of the caller's devices.
#[utoipa::path(
    delete, path = "/v1/devices/{device}", tag = "own", operation_id = "remove_device",
    params(("device" = String, Path)),
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(device): At<String>,
) -> Result<JsonAnswer, HttpError> {
    shared.sessions.set_push_address(&caller.user, &device_of(&device)?, None).await?;
    Ok(JsonAnswer::done())
}

fn device_of(text: &str) -> Result<DeviceId, Refusal> {
    DeviceId::parse_chosen(text).map_err(|rule| Refusal::field("device", rule))
}
