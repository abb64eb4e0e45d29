// The JavaScript client of Sendpi: a module without dependencies, for browsers and for Node.
//
//   import { connect } from "https://chat.example.org/v1/sendpi.js";
//   const sendpi = connect({ url: "https://chat.example.org", token: () => fetchToken() });
//   sendpi.on("room", async (room) => { await room.open(); });
//   sendpi.on("event", (event, room) => console.log(room.name, event.seq, event.body?.text));
//
// Types and descriptions are in sendpi.d.ts, the protocol beneath in docs/protocol.md.

import { Connection, RequestError, unique } from "./sendpi/connection.js";
import { Outbox } from "./sendpi/outbox.js";
import { Room } from "./sendpi/room.js";

export { RequestError };

/** The most rooms that one resume takes. */
const RESUME_ROOMS = 100;
/** How many rooms are caught up at a time. */
const CATCH_UP = 4;
/** After this time the newest rooms are read again if there is one that is not known. */
const REFRESH_AFTER = 2_000;
/** The kinds of events that move a room up in the list. */
const LISTED = ["message", "system", "joined"];

export function connect(options) {
  return new Sendpi(options);
}

class Sendpi {
  #rooms = new Map();
  #listeners = new Map();
  #connection;
  #outbox;
  #next = null;
  #catchUps = [];
  #catchingUp = 0;
  #refreshing;
  #ready;

  constructor({ url, token, device, storage, WebSocket, rooms = 50 }) {
    WebSocket ??= globalThis.WebSocket;
    if (!WebSocket) throw new TypeError("there is no WebSocket here: use Node 22, or pass a class as `WebSocket`");
    storage ??= globalThis.sessionStorage ?? memory();
    this.state = "connecting";
    this.user = undefined;
    this.reason = undefined;
    const refused = (message, error) => this.emit("refused", message, error);
    this.#outbox = new Outbox(storage, (frame) => this.request(frame), refused);
    this.#ready = Promise.withResolvers?.() ?? resolvers();
    this.#ready.promise.catch(() => {});
    this.#connection = new Connection({
      url,
      token,
      device: device ?? ownDevice(storage),
      newDevice: () => storage.setItem("sendpi.device", `js-${unique()}`),
      WebSocket,
      rooms,
      resume: () => this.#toResume(),
      on: { frame: (frame) => this.#take(frame), state: (state, reason) => this.#changeState(state, reason) },
    });
  }

  /** Resolves with the first welcome, and rejects if the session ends before. */
  get ready() {
    return this.#ready.promise;
  }

  /** The rooms that are known, newest message first. */
  get rooms() {
    return [...this.#rooms.values()].sort((a, b) => b.lastAt - a.lastAt || (a.id < b.id ? -1 : 1));
  }

  /** Whether there are further rooms that `moreRooms` would fetch. */
  get hasMoreRooms() {
    return this.#next !== null;
  }

  room(id) {
    return this.#rooms.get(id);
  }

  /** Calls `listener` for each `name`, until the function that is returned is called. */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Sends a request of the protocol, and resolves with its answer. Rejects with a `RequestError`. */
  request(frame) {
    return this.#connection.request(frame);
  }

  async moreRooms(limit = 100) {
    const page = await this.request({ op: "rooms", cursor: this.#next ?? undefined, limit });
    this.#next = page.next;
    page.rooms.forEach((info) => this.#put(info));
  }

  async create(fields) {
    const { info } = await this.#again({ op: "create", nonce: unique(), ...fields });
    return this.#put(info);
  }

  async join(id) {
    await this.#again({ op: "join", room: id });
    return this.#rooms.get(id) ?? this.#find(id);
  }

  /** Ends the session for good. */
  close() {
    this.#connection.stop();
  }

  /** Tells listeners. One that throws stops nobody else. */
  emit(name, ...args) {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(...args);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  /** Sends a message of a room. What is not answered is sent again, also after a reload. */
  enqueue(room, body, options) {
    return this.#outbox.add({ room: room.id, seq: room.head, nonce: unique(), body, ...options });
  }

  /** The messages of a room that are not answered yet. */
  unsent(id) {
    return this.#outbox.of(id);
  }

  /** Sends a frame that is not answered. */
  tell(frame) {
    this.#connection.put(frame);
  }

  /** Sends a request until it is answered. Only for requests that may be done twice. */
  async #again(frame) {
    for (;;) {
      try {
        return await this.request(frame);
      } catch (error) {
        if (!error.isTemporary) throw error;
        await this.#connection.pause(error.retryIn);
      }
    }
  }

  async #find(id) {
    const page = await this.request({ op: "rooms", limit: 50 });
    page.rooms.forEach((info) => this.#put(info));
    return id && this.#rooms.get(id);
  }

  /** Reads the newest rooms again, once for all that ask within a few seconds. */
  #refresh() {
    this.#refreshing ??= setTimeout(() => {
      this.#refreshing = undefined;
      this.#find().catch(() => {});
    }, REFRESH_AFTER);
  }

  #changeState(state, reason) {
    this.state = state;
    this.reason = reason;
    if (state === "ended") clearTimeout(this.#refreshing);
    if (state === "ended") this.#ready.reject(new RequestError({ code: "ended", message: reason }));
    if (state === "online") this.#outbox.flush();
    this.emit("state", state, reason);
  }

  #take(frame) {
    switch (frame.op) {
      case "welcome":
        return this.#welcome(frame);
      case "event":
        return this.#event(frame);
      case "room_added":
        return this.#put(frame.info);
      case "room_removed":
        return this.#remove(frame.room, frame.reason);
      case "marker":
        return this.#rooms.get(frame.room)?.noteMarker(frame);
      case "resumed":
        for (const [id, state] of Object.entries(frame.rooms)) {
          if (state.gone) this.#remove(id, "left");
          else if (state.truncated) this.#catchUp(this.#rooms.get(id));
        }
        return;
      case "heads":
        for (const [id, seq] of Object.entries(frame.rooms)) {
          const room = this.#rooms.get(id);
          room?.noteHead(seq);
          if (room?.isOpen) this.#catchUp(room);
          else this.#refresh();
        }
    }
  }

  #welcome(frame) {
    this.user = frame.user;
    this.#outbox.open(frame.user);
    frame.rooms.forEach((info) => this.#put(info));
    // The list of a client that was away goes on where it was.
    this.#next ??= frame.next;
    const resumed = this.#toResume();
    for (const room of this.#rooms.values()) {
      if (room.isOpen && !(room.id in resumed)) this.#catchUp(room);
    }
    this.#ready.resolve(this);
    this.emit("welcome", frame);
  }

  #event(frame) {
    const room = this.#rooms.get(frame.room);
    if (frame.seq === undefined) return room?.noteTyping(frame);
    // Its `room_added` may have been missed, or it is far down in the list.
    if (!room) return LISTED.includes(frame.kind) ? this.#refresh() : undefined;
    room.take(frame);
    if (room.hasGap) this.#catchUp(room);
  }

  #put(info) {
    let room = this.#rooms.get(info.room);
    const isNew = !room;
    if (isNew) this.#rooms.set(info.room, (room = new Room(this, info)));
    else room.noteInfo(info);
    this.emit(isNew ? "room" : "changed", room);
    if (room.hasGap) this.#catchUp(room);
    return room;
  }

  #remove(id, reason) {
    const room = this.#rooms.get(id);
    if (!room || !this.#rooms.delete(id)) return;
    room.end();
    this.emit("removed", room, reason);
  }

  /** Reads what a room misses, a few rooms at a time. */
  #catchUp(room) {
    if (!room?.isOpen || this.#catchUps.includes(room)) return;
    this.#catchUps.push(room);
    this.#catchUpNext();
  }

  async #catchUpNext() {
    if (this.#catchingUp >= CATCH_UP) return;
    const room = this.#catchUps.shift();
    if (!room) return;
    this.#catchingUp++;
    try {
      await room.fill();
    } catch {
      // The connection broke, or the room is gone. The next welcome begins again.
    }
    this.#catchingUp--;
    this.#catchUpNext();
  }

  /** The rooms that are open, the newest ones first, each with the last seq up to which nothing is missing. */
  #toResume() {
    const open = this.rooms.filter((room) => room.isOpen).slice(0, RESUME_ROOMS);
    return Object.fromEntries(open.map((room) => [room.id, room.seq]));
  }
}

/** Each tab is a device of its own, and stays the same device after a reload. */
function ownDevice(storage) {
  const known = storage.getItem("sendpi.device");
  if (!known) storage.setItem("sendpi.device", `js-${unique()}`);
  return () => storage.getItem("sendpi.device");
}

function memory() {
  const values = new Map();
  return { getItem: (key) => values.get(key) ?? null, setItem: (key, value) => values.set(key, value) };
}

function resolvers() {
  let resolve, reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}
