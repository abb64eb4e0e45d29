//! Clients without sockets, and a store that holds only order rows.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sendpi_model::{
    Access, ClientFrame, Head, Mark, Millis, Nonce, Notify, Partition, Partitions, Refusal, Role, RoomId, RoomKind,
    UserId,
};
use sendpi_session::{Identity, Session, Transport, UserTier};
use sendpi_store::{
    DeletedRoom, DeviceRow, EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, ReadError, RoomOfUser, RoomRow,
    Row, SettledRow, Stamp, Start, Store, WriteError,
};
use sendpi_tests::until;

/// The first byte of a close frame.
const CLOSE: u8 = 0x88;

/// The bytes that a client has not read, and whether its socket takes no more.
#[derive(Debug, Default)]
pub(crate) struct TestSocket(Mutex<VecDeque<u8>>, AtomicBool);

impl Transport for TestSocket {
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.1.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut bytes = self.0.lock().unwrap();
        let before = bytes.len();
        bufs.iter().for_each(|buf| bytes.extend(buf.iter()));
        Ok(bytes.len() - before)
    }
}

impl TestSocket {
    /// Removes and returns the next frame: its first byte and its payload.
    fn frame(&self) -> Option<(u8, Vec<u8>)> {
        let mut bytes = self.0.lock().unwrap();
        let (length, header) = match *bytes.get(1)? {
            126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
            length => (usize::from(length), 2),
        };
        if bytes.len() < header + length {
            return None;
        }
        let mut frame: Vec<u8> = bytes.drain(..header + length).collect();
        let payload = frame.split_off(header);
        Some((*frame.first()?, payload))
    }

    /// Removes and returns the next text frame.
    fn text(&self) -> Option<String> {
        self.frame().map(|(_, payload)| String::from_utf8_lossy(&payload).into_owned())
    }
}

/// A client without a socket.
pub(crate) struct SocketlessClient {
    pub(crate) session: Session,
    socket: Arc<TestSocket>,
    user: UserId,
}

impl SocketlessClient {
    pub(crate) fn connect(handle: &UserTier, user: &str) -> Self {
        let socket = Arc::new(TestSocket::default());
        let session = handle.open(Arc::clone(&socket) as Arc<dyn Transport>).unwrap();
        Self { session, socket, user: UserId::parse(user).unwrap() }
    }

    pub(crate) fn connect_refused(handle: &UserTier) -> Refusal {
        handle.open(Arc::new(TestSocket::default())).unwrap_err()
    }

    pub(crate) async fn hello(&self, hello: &str) -> Result<(), Refusal> {
        let frame = ClientFrame::parse(hello.as_bytes(), None, nonce).unwrap();
        let sendpi_model::ClientOp::Hello(hello) = frame.op else { panic!("not a hello") };
        let expires_at = Millis::now().after(Duration::from_secs(600));
        let who = Identity { user: self.user.clone(), expires_at, issued_at: None, service: false };
        self.session.hello(frame.id, who, hello).await
    }

    /// Connects a client and signs it in. Returns it with its welcome.
    pub(crate) async fn sign_in(handle: &UserTier, user: &str) -> (Self, serde_json::Value) {
        let client = Self::connect(handle, user);
        client.hello(r#"{"op":"hello","device":"d"}"#).await.unwrap();
        let welcome = client.next().await;
        assert_eq!(welcome["op"], "welcome");
        (client, welcome)
    }

    /// Takes nothing more from the server, or goes on.
    pub(crate) fn read(&self, reading: bool) {
        self.socket.1.store(!reading, Ordering::Relaxed);
    }

    pub(crate) fn say(&self, frame: &str) {
        self.session.frame(ClientFrame::parse(frame.as_bytes(), Some(&self.user), nonce).unwrap());
    }

    /// Waits for the next frame and returns it.
    pub(crate) async fn next(&self) -> serde_json::Value {
        let mut text = None;
        until("a frame", async || {
            text = self.socket.text();
            text.is_some()
        })
        .await;
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    /// Drops the frames that have come so far. Returns the code of the close frame, if there is one among them.
    pub(crate) fn close_code(&self) -> Option<u16> {
        std::iter::from_fn(|| self.socket.frame())
            .find_map(|(first, payload)| (first == CLOSE).then(|| u16::from_be_bytes([payload[0], payload[1]])))
    }

    /// Waits for the next frame of this op and returns it.
    pub(crate) async fn next_of(&self, op: &str) -> serde_json::Value {
        loop {
            let frame = self.next().await;
            if frame["op"] == op {
                return frame;
            }
        }
    }

    /// Waits for the next events and returns their seqs.
    pub(crate) async fn seqs(&self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let frame = self.next().await;
            if frame["op"] == "event" {
                seqs.push(frame["seq"].as_u64().unwrap());
            }
        }
        seqs
    }
}

fn nonce() -> Nonce {
    Nonce::parse("fresh").unwrap()
}

/// A store of order rows, which also records what was written.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) order: Mutex<Vec<OrderRow>>,
    pub(crate) written: Mutex<Vec<Row>>,
    /// Rooms with the rows of their members.
    pub(crate) rooms: Mutex<Vec<(RoomRow, RoomOfUser)>>,
    /// How many writes have begun.
    pub(crate) begun: AtomicU32,
    /// While a test holds this, no write goes on.
    pub(crate) gate: tokio::sync::Mutex<()>,
}

impl Rows {
    pub(crate) fn active(&self, user: &str, room: &str) {
        let (user, room) = (UserId::parse(user).unwrap(), RoomId::parse(room).unwrap());
        self.order.lock().unwrap().push(OrderRow { user, active_at: Millis::now(), room });
    }

    /// Moves a room up in the user's list.
    pub(crate) fn touch(&self, user: &str, room: &str, at: Millis) {
        let mut rooms = self.rooms.lock().unwrap();
        let of = |row: &RoomOfUser| row.user.as_str() == user && row.room.as_str() == room;
        rooms.iter_mut().map(|(_, row)| row).filter(|row| of(row)).for_each(|row| row.active_at = at);
    }

    /// Adds a room that the user is in, with its head and the time of its last message.
    pub(crate) fn member(&self, user: &str, room: &str, seq: u64, at: Millis) {
        let (user, room) = (UserId::parse(user).unwrap(), RoomId::parse(room).unwrap());
        let row = RoomRow {
            room: room.clone(),
            stamp: Stamp::of(seq),
            name: "from its row".to_owned(),
            kind: RoomKind::Group,
            access: Access::Open,
            creator: user.clone(),
            nonce: "made".to_owned(),
            members: 2,
            head: Head { seq, count: seq, at },
            last: None,
            retention_days: None,
            deleted: false,
            listed: None,
        };
        let role = Some(Role::Member);
        let of_user = RoomOfUser { user, room, stamp: Stamp::of(seq), role, joined: Mark::default(), active_at: at };
        self.rooms.lock().unwrap().push((row, of_user));
    }
}

#[async_trait]
impl Store for Rows {
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let _open = self.gate.lock().await;
        self.written.lock().unwrap().extend(rows);
        Ok(())
    }

    async fn partitions(&self) -> Result<Option<u16>, ReadError> {
        Ok(Some(Partitions::DEFAULT.count()))
    }

    async fn fences(&self, _: Partition, _: u64) -> Result<Vec<Fence>, ReadError> {
        Ok(Vec::new())
    }

    async fn starts(&self, _: &RoomId, _: Option<u64>, _: usize) -> Result<Vec<Start>, ReadError> {
        Ok(Vec::new())
    }

    async fn timeline(
        &self,
        _: &RoomId,
        _: RangeInclusive<u64>,
        _: usize,
        _: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        Ok(Vec::new())
    }

    async fn nonces(&self, _: &RoomId, _: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        Ok(Vec::new())
    }

    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, ReadError> {
        let rooms = self.rooms.lock().unwrap();
        Ok(rooms.iter().map(|(row, _)| row).find(|row| row.room == *room).cloned())
    }

    async fn members(&self, _: &RoomId, _: Option<&UserId>, _: usize) -> Result<Vec<MemberRow>, ReadError> {
        Ok(Vec::new())
    }

    /// Every member of a room with rows has chosen to be told of nothing.
    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRow>, ReadError> {
        let rooms = self.rooms.lock().unwrap();
        let row = rooms.iter().map(|(_, row)| row).find(|row| row.room == *room && row.user == *user);
        Ok(row.map(|row| MemberRow {
            room: room.clone(),
            user: user.clone(),
            stamp: row.stamp,
            role: row.role,
            joined: row.joined,
            joined_at: row.active_at,
            notify: Notify::None,
            muted_until: Some(Millis(7)),
            banned: false,
        }))
    }

    async fn rooms_of_user(
        &self,
        user: &UserId,
        after: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError> {
        let rooms = self.rooms.lock().unwrap();
        let place = |row: &RoomOfUser| (Reverse(row.active_at), row.room.clone());
        let after = after.map(|(at, room)| (Reverse(at), room));
        let follows = |row: &&RoomOfUser| after.as_ref().is_none_or(|after| place(row) > *after);
        let of_user = rooms.iter().map(|(_, row)| row).filter(|row| row.user == *user);
        let mut rows: Vec<RoomOfUser> = of_user.filter(follows).cloned().collect();
        rows.sort_by_key(place);
        rows.truncate(limit);
        Ok(rows)
    }

    async fn rooms_of_user_among(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError> {
        let rows = self.rooms_of_user(user, None, usize::MAX).await?;
        Ok(rooms.iter().map(|room| rows.iter().find(|row| row.room == *room).cloned()).collect())
    }

    async fn count_rooms_of_user(&self, user: &UserId, most: usize) -> Result<usize, ReadError> {
        Ok(self.rooms_of_user(user, None, most).await?.len())
    }

    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        _: usize,
    ) -> Result<Vec<OrderRow>, ReadError> {
        assert!(before.is_none());
        let rows = self.order.lock().unwrap();
        Ok(rows.iter().rev().filter(|row| row.user == *user && row.active_at >= since).cloned().collect())
    }

    async fn read_markers(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError> {
        let written = self.written.lock().unwrap();
        let mark = |room: &RoomId, row: &Row| match row {
            Row::Marker(row) if row.user == *user && row.room == *room => Some(row.mark),
            _ => None,
        };
        Ok(rooms.iter().map(|room| written.iter().filter_map(|row| mark(room, row)).max()).collect())
    }

    async fn active_rooms(&self, _: Partition, _: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError> {
        Ok(Vec::new())
    }

    async fn settled(&self, _: Partition) -> Result<Vec<SettledRow>, ReadError> {
        Ok(Vec::new())
    }

    async fn pushed(&self, _: &RoomId) -> Result<Option<PushedRow>, ReadError> {
        Ok(None)
    }

    async fn revoked(&self, _: &UserId) -> Result<Option<Millis>, ReadError> {
        Ok(None)
    }

    async fn rooms_ever(&self, _: &UserId, _: Option<&RoomId>, _: usize) -> Result<Vec<RoomId>, ReadError> {
        Ok(Vec::new())
    }

    async fn deleted_rooms(&self, _: Partition) -> Result<Vec<DeletedRoom>, ReadError> {
        Ok(Vec::new())
    }

    async fn remove_events(&self, _: &RoomId, _: u64) -> Result<usize, WriteError> {
        Ok(0)
    }

    async fn remove_room(&self, _: Partition, _: &RoomId) -> Result<(), WriteError> {
        Ok(())
    }

    async fn devices(&self, _: &UserId) -> Result<Vec<DeviceRow>, ReadError> {
        Ok(Vec::new())
    }
}
