// One room: what its list entry shows, and once it is open its events, in order, without gaps and repeats.

const PAGE = 50;
const FILL_PAGE = 200;
/** What is further behind is not caught up: the room begins again at its newest page. */
const CATCH_UP_MOST = 5_000;
/** The most events that are kept. The oldest are let go as new ones come, and can be loaded again. */
const KEEP = 2_000;
const TYPING_EVERY = 2_000;
const TYPING_LASTS = 5_000;
const READ_EVERY = 1_000;

export class Room {
  #sendpi;
  #events = new Map();
  #later = new Map();
  #filling;
  #opening;
  #typists = new Map();
  #typed = 0;
  #reading;
  #readUpTo = 0;
  #heard = 0;

  constructor(sendpi, info) {
    this.#sendpi = sendpi;
    this.info = info;
    this.id = info.room;
    /** The seq up to which nothing is missing, once the room is open. */
    this.seq = 0;
    this.isOpen = false;
    this.hasEarlier = false;
    this.isGone = false;
  }

  get name() {
    return this.info.name;
  }

  get head() {
    return this.info.seq;
  }

  get lastAt() {
    return this.info.last_at;
  }

  get unread() {
    return this.info.unread;
  }

  /** The events that were loaded, in order. Edits and deletions are applied to the messages before them. */
  get events() {
    return [...this.#events.values()];
  }

  /** The messages of one's own that are not answered yet. */
  get unsent() {
    return this.#sendpi.unsent(this.id);
  }

  /** Who is typing now, without oneself. */
  get typists() {
    return [...this.#typists.keys()];
  }

  /** Whether events are known to be missing. */
  get hasGap() {
    return this.isOpen && !this.isGone && this.#last() > this.seq;
  }

  /** The last seq that was heard of. */
  #last() {
    return Math.max(this.info.seq, this.#heard);
  }

  event(seq) {
    return this.#events.get(seq);
  }

  /** Loads the newest events, or those after `after`. From then on each event is told once, in order. */
  open({ after } = {}) {
    if (this.isOpen) return Promise.resolve(this);
    this.#opening ??= this.#load(after).finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  async #load(after, fills = true) {
    const newest = after === undefined;
    const last = this.#last();
    const page = newest
      ? await this.#ask({ op: "history", limit: PAGE })
      : await this.#ask({ op: "history", after, limit: FILL_PAGE });
    // Where there are no events at all, all have expired.
    this.seq = newest ? (page.events[0]?.seq ?? last + 1) - 1 : after;
    for (const seq of this.#later.keys()) if (seq <= this.seq) this.#later.delete(seq);
    this.hasEarlier = newest ? page.more : after > 0;
    this.isOpen = true;
    this.#placePage(page, last, newest);
    if (!fills) return this;
    if (this.hasGap || (!newest && page.more)) await this.fill();
    this.#sendpi.emit("opened", this);
    return this;
  }

  /** Loads the events before those that are loaded. */
  async earlier(limit = PAGE) {
    // Without any, all that were newer have expired.
    const before = this.#events.size ? Math.min(...this.#events.keys()) : this.seq + 1;
    const page = await this.#ask({ op: "history", before, limit });
    const known = this.#events;
    this.#events = new Map(page.events.map((event) => [event.seq, event]));
    for (const [seq, event] of known) this.#events.set(seq, event);
    this.hasEarlier = page.more;
    for (const event of this.#events.values()) this.#apply(event);
    this.#sendpi.emit("changed", this);
  }

  /** Reads what is missing up to the head. */
  fill() {
    this.#filling ??= this.#fill().finally(() => (this.#filling = undefined));
    return this.#filling;
  }

  async #fill() {
    if (this.#last() - this.seq > CATCH_UP_MOST) {
      this.#events.clear();
      this.#later.clear();
      // It stays open if this fails, so that the next connection tries again.
      await this.#load(undefined, false);
      this.#sendpi.emit("reset", this);
    }
    for (let more = true; more && !this.isGone; ) {
      const [before, last] = [this.seq, this.#last()];
      const page = await this.#ask({ op: "history", after: before, limit: FILL_PAGE });
      this.#placePage(page, last);
      more = page.more && this.seq > before;
    }
  }

  /** Takes an event that came live. */
  take(event) {
    this.#noteEvent(event);
    if (this.isOpen) this.#place(event);
    else this.#sendpi.emit("changed", this);
  }

  /** Takes the events of a page that was asked for when `last` was the last seq. What it leaves out has expired. */
  #placePage({ events, more }, last, isSilent = false) {
    for (const event of events) {
      this.#skipTo(event.seq - 1);
      this.#place(event, isSilent);
    }
    if (!more) {
      this.#skipTo(last);
      this.#placeLater(isSilent);
    }
  }

  #skipTo(seq) {
    this.seq = Math.max(this.seq, seq);
    for (const later of this.#later.keys()) if (later <= this.seq) this.#later.delete(later);
  }

  #place(event, isSilent = false) {
    if (event.seq <= this.seq) return;
    this.#later.set(event.seq, event);
    this.#placeLater(isSilent);
  }

  #placeLater(isSilent) {
    for (let next; (next = this.#later.get(this.seq + 1)); ) {
      this.#later.delete(next.seq);
      this.seq = next.seq;
      this.#events.set(next.seq, next);
      this.#apply(next);
      this.#forgetOldest();
      if (next.seq > this.info.seq) this.#noteEvent(next);
      this.#forgetTypist(next.from);
      if (!isSilent) this.#sendpi.emit("event", next, this);
    }
  }

  #forgetOldest() {
    if (this.#events.size <= KEEP) return;
    for (const seq of this.#events.keys()) {
      if (this.#events.size <= (KEEP * 3) / 4) break;
      this.#events.delete(seq);
    }
    this.hasEarlier = true;
  }

  /** Applies an edit, a deletion or a reaction to its message, if that is loaded. */
  #apply(event) {
    const message = event.ref && this.#events.get(event.ref);
    if (!message) return;
    // A later revision took its place.
    if (event.edited || event.deleted) return;
    const revised = Math.max(message.edited ?? 0, message.deleted ?? 0);
    if (event.kind === "edited" && event.seq > revised) Object.assign(message, { body: event.body, edited: event.seq });
    if (event.kind === "deleted" && event.seq > revised) {
      Object.assign(message, { body: {}, mentions: undefined, edited: undefined, deleted: event.seq });
    }
    if (event.kind === "reaction") {
      // Without a prototype: an emoji may be any text, also the name of one of its methods.
      const reactions = (message.reactions ??= Object.create(null));
      const users = new Map(reactions[event.emoji] ?? []);
      if ((users.get(event.from)?.seq ?? 0) >= event.seq) return;
      users.set(event.from, { seq: event.seq, remove: Boolean(event.remove) });
      reactions[event.emoji] = users;
    }
  }

  /** The reactions to a message: for each emoji the users who reacted. */
  reactions(message) {
    const entries = Object.entries(message.reactions ?? {}).map(([emoji, users]) => [
      emoji,
      [...users].filter(([, { remove }]) => !remove).map(([user]) => user),
    ]);
    return Object.fromEntries(entries.filter(([, users]) => users.length));
  }

  #noteEvent(event) {
    const { info } = this;
    if (event.seq <= info.seq) return;
    info.seq = event.seq;
    info.count = event.count;
    if (event.kind === "message" || event.kind === "system") {
      info.last_at = event.at;
      info.last = { seq: event.seq, kind: event.kind, from: event.from, at: event.at, text: event.body?.text };
      // Who sends a message has read what is before it, whatever the device.
      if (event.kind === "message" && event.from === this.#sendpi.user) info.marker = { seq: event.seq, count: event.count };
    }
    if (event.kind === "joined") info.members += event.users.length;
    if (event.kind === "left") info.members = Math.max(0, info.members - event.users.length);
    if (event.kind === "changed") {
      if (event.name !== undefined) info.name = event.name;
      if (event.access !== undefined) info.access = event.access;
      if (event.role?.user === this.#sendpi.user) info.role = event.role.role;
    }
    if (event.ref && event.ref === info.last?.seq) {
      if (event.kind === "edited") info.last.text = event.body?.text;
      if (event.kind === "deleted") info.last.text = undefined;
    }
    info.unread = Math.max(0, info.count - info.marker.count);
  }

  /** Takes what a list said. It may be older than what came live. */
  noteInfo(info) {
    const marker = info.marker.seq > this.info.marker.seq ? info.marker : this.info.marker;
    if (info.seq >= this.info.seq) Object.assign(this.info, info);
    this.info.marker = marker;
    this.info.unread = Math.max(0, this.info.count - marker.count);
  }

  /** Notes that there are events up to `seq`. What they changed is known once they are read. */
  noteHead(seq) {
    this.#heard = Math.max(this.#heard, seq);
  }

  noteMarker({ seq, count }) {
    if (seq <= this.info.marker.seq) return;
    this.info.marker = { seq, count };
    this.info.unread = Math.max(0, this.info.count - count);
    this.#sendpi.emit("changed", this);
  }

  noteTyping({ from }) {
    if (from === this.#sendpi.user) return;
    clearTimeout(this.#typists.get(from));
    this.#typists.set(from, setTimeout(() => this.#forgetTypist(from), TYPING_LASTS));
    this.#sendpi.emit("typing", this);
  }

  #forgetTypist(user) {
    if (!this.#typists.has(user)) return;
    clearTimeout(this.#typists.get(user));
    this.#typists.delete(user);
    this.#sendpi.emit("typing", this);
  }

  end() {
    this.isGone = true;
    this.isOpen = false;
    [...this.#typists.keys()].forEach((user) => this.#forgetTypist(user));
  }

  /** Sends a message: a text, or any JSON object. Resolves with its seq once it is stored. */
  send(body, { mentions } = {}) {
    this.#typed = 0;
    return this.#sendpi.enqueue(this, typeof body === "string" ? { text: body } : body, { mentions });
  }

  edit(seq, body) {
    return this.#ask({ op: "edit", ref: seq, body: typeof body === "string" ? { text: body } : body });
  }

  delete(seq) {
    return this.#ask({ op: "delete", ref: seq });
  }

  react(seq, emoji, remove = false) {
    return this.#ask({ op: "react", ref: seq, emoji, remove });
  }

  /** Tells that the user is typing, at most every two seconds. It ends by itself. */
  typing() {
    if (Date.now() - this.#typed < TYPING_EVERY) return;
    this.#typed = Date.now();
    this.#sendpi.tell({ op: "typing", room: this.id });
  }

  /** Marks everything up to `seq` as read. One request is under way at a time, and at most one a second. */
  read(seq = this.isOpen ? this.seq : this.info.seq) {
    this.#readUpTo = Math.max(this.#readUpTo, seq);
    this.#reading ??= this.#read().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #read() {
    while (this.#readUpTo > this.info.marker.seq && !this.isGone) {
      this.noteMarker(await this.#ask({ op: "read", seq: this.#readUpTo }));
      await new Promise((resolve) => setTimeout(resolve, READ_EVERY));
    }
  }

  /** Returns a page of members, with `next` for the one after it. */
  members(cursor, limit = 100) {
    return this.#ask({ op: "members", cursor, limit });
  }

  invite(...users) {
    return this.#ask({ op: "invite", users });
  }

  kick(user) {
    return this.#ask({ op: "kick", user });
  }

  ban(user) {
    return this.#ask({ op: "ban", user });
  }

  unban(user) {
    return this.#ask({ op: "unban", user });
  }

  giveRole(user, role) {
    return this.#ask({ op: "role", user, role });
  }

  change(fields) {
    return this.#ask({ op: "change", ...fields });
  }

  /** Chooses what is pushed: `notify` is "all", "mentions" or "none", `mutedUntil` a time in milliseconds or null. */
  async notify({ notify, mutedUntil }) {
    await this.#ask({ op: "notify", notify, muted_until: mutedUntil });
    if (notify !== undefined) this.info.notify = notify;
    if (mutedUntil !== undefined) this.info.muted_until = mutedUntil;
    this.#sendpi.emit("changed", this);
  }

  leave() {
    return this.#ask({ op: "leave" });
  }

  deleteRoom() {
    return this.#ask({ op: "delete_room" });
  }

  #ask(frame) {
    return this.#sendpi.request({ ...frame, room: this.id });
  }
}
