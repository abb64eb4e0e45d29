//! This node's side towards the owners of rooms: flows up, links down, and what each answer is for.

pub(crate) mod answer;
pub(crate) mod downlink;
pub(crate) mod flows;
pub(crate) mod inbound_links;
pub(crate) mod patience;
pub(crate) mod peek;
pub(crate) mod reply_to;
pub(crate) mod retries;
pub(crate) mod uplink;
