//! Catching up: reads what sessions missed from the owners of their rooms.

pub(crate) mod attach_later;
pub(crate) mod attach_queue;
pub(crate) mod gap_fill;
pub(crate) mod head_check;
pub(crate) mod resume;
pub(crate) mod resync;
