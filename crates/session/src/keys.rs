//! The keys under which a node's state holds its sessions, users, rooms and retried requests. The key of something that is gone never
//! means something else.

slotmap::new_key_type! {
    /// A session of this node.
    pub(crate) struct SessionKey;
    /// A user with sessions, or with a place in an audience, on this node.
    pub(crate) struct UserKey;
    /// A room that matters on this node.
    pub(crate) struct RoomKey;
    /// A request that is retried until it is confirmed.
    pub(crate) struct RetryKey;
}

/// One incarnation of one worker's link, numbered among all incarnations of all links of this node.
pub(crate) type LinkId = u32;
