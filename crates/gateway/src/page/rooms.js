// What one user knows about the rooms: the list with unread counts, and the timelines of the rooms that were opened.

const PAGE = 50;

export class Rooms {
  /// `user` is the one who is signed in. `request` sends a request and resolves with its answer. `changed(room)` is
  /// called when a room has changed.
  constructor(user, request, changed) {
    Object.assign(this, { user, request, changed });
    this.list = new Map();
    this.next = null;
  }

  /// Returns the rooms to resume: at most 100 with a timeline, each with the last seq up to which nothing is missing.
  open() {
    const opened = [...this.list.values()].filter((room) => room.events).slice(0, 100);
    return Object.fromEntries(opened.map((room) => [room.info.room, room.seq]));
  }

  sorted() {
    return [...this.list.values()].sort((a, b) => b.info.last_at - a.info.last_at);
  }

  put(info) {
    const known = this.list.get(info.room);
    // A page may be older than the live events that arrived while it was on its way.
    if (known) info.seq >= known.info.seq && Object.assign(known.info, info);
    else this.list.set(info.room, { info, seq: 0, events: null, more: false });
    this.changed(info.room);
  }

  async loadMore() {
    const page = await this.request({ op: "rooms", cursor: this.next ?? undefined, limit: 100 });
    this.next = page.next;
    page.rooms.forEach((info) => this.put(info));
  }

  /// Loads the newest page of a room's timeline, unless the room has a timeline already.
  async load(id) {
    const room = this.list.get(id);
    if (!room || room.events || room.loading) return;
    room.loading = true;
    try {
      const page = await this.request({ op: "history", room: id, limit: PAGE });
      room.events = new Map(page.events.map((event) => [event.seq, event]));
      room.seq = Math.max(0, ...room.events.keys());
      room.more = page.more;
      // Fetch the events that came live while the page was on its way.
      if (room.info.seq > room.seq) await this.fill(room);
    } finally {
      room.loading = false;
    }
    this.changed(id);
  }

  async loadEarlier(id) {
    const room = this.list.get(id);
    const before = Math.min(...room.events.keys());
    const page = await this.request({ op: "history", room: id, before, limit: PAGE });
    page.events.forEach((event) => room.events.set(event.seq, event));
    room.more = page.more;
    this.changed(id);
  }

  /// Reads the events after the last seq up to which nothing is missing.
  async fill(room) {
    if (room.filling) return;
    room.filling = true;
    try {
      for (let more = true; more; ) {
        const page = await this.request({ op: "history", room: room.info.room, after: room.seq, limit: 200 });
        page.events.forEach((event) => this.place(room, event));
        more = page.more && page.events.length > 0;
      }
    } finally {
      room.filling = false;
    }
    this.changed(room.info.room);
  }

  place(room, event) {
    room.events.set(event.seq, event);
    while (room.events.has(room.seq + 1)) room.seq++;
  }

  /// Receives a frame that the server sent on its own.
  take(frame) {
    switch (frame.op) {
      case "welcome":
        frame.rooms.forEach((info) => this.put(info));
        this.next = frame.next;
        return;
      case "resumed":
        for (const [id, state] of Object.entries(frame.rooms)) this.resumed(id, state);
        return;
      case "event":
        return this.event(frame);
      case "room_added":
        return this.put(frame.info);
      case "room_removed":
        return this.remove(frame.room);
      case "marker":
        return this.marker(frame.room, frame);
      case "heads":
        for (const id of Object.keys(frame.rooms)) {
          const room = this.list.get(id);
          if (room?.events) this.fill(room).catch(() => {});
          else this.peek().catch(() => {});
        }
    }
  }

  resumed(id, { truncated, gone }) {
    const room = this.list.get(id);
    if (gone) return this.remove(id);
    if (!room || !truncated) return;
    // Too much was missed to replay it. Begin again at the newest page.
    room.events = null;
    this.load(id).catch(() => {});
  }

  remove(id) {
    this.list.delete(id);
    this.changed(id);
  }

  /// Fetches the newest rooms from the server.
  async peek() {
    const page = await this.request({ op: "rooms", limit: PAGE });
    page.rooms.forEach((info) => this.put(info));
  }

  event(event) {
    const room = this.list.get(event.room);
    if (!room) return this.peek().catch(() => {});
    if (event.seq === undefined) return;
    const { info } = room;
    if (event.seq > info.seq) {
      Object.assign(info, { seq: event.seq, count: event.count });
      if (["message", "system"].includes(event.kind)) info.last_at = event.at;
      // Who sends a message has read what is before it, whatever the device.
      if (event.kind === "message" && event.from === this.user) info.marker = { seq: event.seq, count: event.count };
      if (event.kind === "changed") Object.assign(info, event.name && { name: event.name });
      info.unread = Math.max(0, info.count - info.marker.count);
    }
    if (room.events) {
      this.place(room, event);
      if (event.seq > room.seq) this.fill(room).catch(() => {});
    }
    this.changed(event.room);
  }

  marker(id, { seq, count }) {
    const room = this.list.get(id);
    if (!room || seq <= room.info.marker.seq) return;
    room.info.marker = { seq, count };
    room.info.unread = Math.max(0, room.info.count - count);
    this.changed(id);
  }

  /// Marks all events of a room as read.
  async read(id) {
    const { info } = this.list.get(id);
    if (info.marker.seq >= info.seq) return;
    // The answer tells where the marker is now, which is further on if another device has read more.
    this.marker(id, await this.request({ op: "read", room: id, seq: info.seq }));
  }
}
