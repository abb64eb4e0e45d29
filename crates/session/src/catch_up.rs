//! Catching up: whatever a session missed is read from the owners of its rooms.

pub(crate) mod gap_fill;
pub(crate) mod head_check;
pub(crate) mod resume;
pub(crate) mod resync;
