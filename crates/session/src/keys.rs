//! The keys under which a node's state holds its sessions, users, rooms and retried requests. A key is never
//! reused: the key of something that is gone never means anything else.

slotmap::new_key_type! {
    /// A session of this node.
    pub(crate) struct SessionKey;
    /// A user who has sessions, or is in an audience, on this node.
    pub(crate) struct UserKey;
    /// A room with a user on this node.
    pub(crate) struct RoomKey;
    /// A request that is retried until it is confirmed.
    pub(crate) struct RetryKey;
}

/// The number of one incarnation of one worker's link. It is unique among all incarnations of all links of this node.
pub(crate) type LinkId = u32;
