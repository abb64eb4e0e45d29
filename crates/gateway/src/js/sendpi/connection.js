// One connection after the other: signing in, renewing the token, heartbeats, and coming back after a break.

const FIRST_WAIT = 300;
const LONGEST_WAIT = 15_000;
const REQUEST_TIMEOUT = 20_000;
/** How long a connection may take until its welcome. */
const OPEN_TIMEOUT = 30_000;
/** The largest frame, in bytes. A larger one ends the connection. */
const FRAME = 64 * 1024;
/** A timer holds at most 31 bits of milliseconds. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Close codes after which nothing gets better by coming back. */
const FINAL = {
  1009: "a message was too large",
  4102: "signed out",
  4103: "the server could not read what was sent",
  4104: "too many requests",
  4105: "this device signed in once more elsewhere",
  4106: "too many devices are signed in",
};

export class RequestError extends Error {
  constructor({ code, message, field, retry_in_ms }) {
    super(message || code);
    this.name = "RequestError";
    this.code = code;
    this.field = field;
    this.retryIn = retry_in_ms;
  }

  /** Whether the same request may succeed later. It may have been carried out already. */
  get isTemporary() {
    return ["disconnected", "unavailable", "rate_limited"].includes(this.code);
  }
}

export class Connection {
  #options;
  #socket;
  #requests = new Map();
  #lastId = 0;
  #failures = 0;
  #stopped = false;
  #pauseNamed;
  #refused;
  #timers = {};
  /** How far this clock is ahead of the server's, in milliseconds. */
  #ahead = 0;
  #patience = OPEN_TIMEOUT;
  #online = [];

  constructor(options) {
    this.#options = options;
    this.#connect();
  }

  async #connect() {
    this.#options.on.state("connecting");
    try {
      const token = await this.#token();
      if (!this.#stopped) this.#open(token);
    } catch (error) {
      if (error?.isFinal) this.#end(error.message);
      else this.#comeBack();
    }
  }

  async #token() {
    const { token } = this.#options;
    return typeof token === "function" ? await token() : token;
  }

  #open(token) {
    const url = new URL("v1/ws", String(this.#options.url).replace(/^ws/, "http").replace(/\/*$/, "/"));
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new this.#options.WebSocket(url, ["sendpi.v1"]);
    const isCurrent = () => this.#socket === socket;
    this.#socket = socket;
    this.#pauseNamed = this.#refused = undefined;
    this.#patience = OPEN_TIMEOUT;
    this.#watch();
    socket.onopen = () => {
      if (!isCurrent()) return;
      const { device, resume, rooms } = this.#options;
      const name = typeof device === "function" ? device() : device;
      this.put({ op: "hello", id: 0, token, device: name, resume: resume(), rooms });
    };
    socket.onmessage = ({ data }) => {
      // A connection that was given up tells nothing any more.
      if (!isCurrent()) return;
      this.#watch();
      this.#take(JSON.parse(data));
    };
    socket.onclose = ({ code }) => isCurrent() && this.#closed(code);
    socket.onerror = () => {};
  }

  #take(frame) {
    const request = frame.id > 0 ? this.#requests.get(frame.id) : undefined;
    if (request) {
      this.#requests.delete(frame.id);
      clearTimeout(request.timer);
      return frame.op === "error" ? request.reject(new RequestError(frame)) : request.resolve(frame);
    }
    switch (frame.op) {
      case "ping":
        return this.put({ op: "pong" });
      case "bye":
        this.#pauseNamed = frame.reconnect_in_ms;
        return;
      case "error":
        // The answer to `hello`. The close code that follows says whether to come back.
        this.#refused = frame;
        return;
      case "welcome":
        this.#failures = 0;
        this.#patience = 2 * frame.heartbeat_ms;
        this.#watch();
        this.#ahead = Date.now() - frame.now;
        this.#renewAt(frame.expires_at - frame.now);
        this.#options.on.frame(frame);
        this.#options.on.state("online");
        this.#online.splice(0).forEach((resolve) => resolve());
        return;
    }
    this.#options.on.frame(frame);
  }

  /** Renews the token before it expires, again and again. */
  #renewAt(lifetime) {
    if (this.#stopped || !this.#socket) return;
    const early = Math.min(60_000, lifetime / 5);
    this.#timer("renew", Math.min(Math.max(lifetime - early, 500), LONGEST_TIMER), async () => {
      try {
        const answer = await this.request({ op: "token", token: await this.#token() });
        this.#renewAt(answer.expires_at - (Date.now() - this.#ahead));
      } catch {
        // Once more soon. When the token expires, the session ends, and the client comes back with a new one.
        this.#renewAt(10_000);
      }
    });
  }

  #timer(name, ms, action) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(action, ms);
  }

  /** Without a frame for twice the heartbeat the connection is dead, whatever the socket says. */
  #watch() {
    this.#timer("watch", this.#patience, () => this.#closed(1006));
  }

  #closed(code) {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
    clearTimeout(this.#timers.watch);
    clearTimeout(this.#timers.renew);
    for (const { reject, timer } of this.#requests.values()) {
      clearTimeout(timer);
      reject(disconnected());
    }
    this.#requests.clear();
    if (this.#stopped) return;
    // A tab that was duplicated is another device when it is reloaded.
    if (code === 4105) this.#options.newDevice();
    if (code === 4100 && this.#refused?.code !== "rate_limited") {
      return this.#end(this.#refused?.message ?? "not signed in");
    }
    if (FINAL[code]) return this.#end(FINAL[code]);
    this.#comeBack();
  }

  /**
   * Reconnects after a pause, which doubles with each failure and is random. If the server named a pause, it is longer
   * than that, and random as well, so that not all clients come back at once.
   */
  #comeBack() {
    if (this.#stopped) return;
    const ceiling = Math.min(FIRST_WAIT * 2 ** this.#failures++, LONGEST_WAIT);
    const named = this.#refused?.retry_in_ms ?? 0;
    const wait = this.#pauseNamed ?? named + ceiling / 2 + (Math.random() * ceiling) / 2;
    this.#options.on.state("waiting");
    this.#timer("connect", wait, () => this.#stopped || this.#connect());
  }

  #end(reason) {
    this.stop(reason);
  }

  stop(reason = "closed") {
    if (this.#stopped) return;
    this.#stopped = true;
    clearTimeout(this.#timers.connect);
    this.#closed(1000);
    this.#options.on.state("ended", reason);
    this.#online.splice(0).forEach((resolve) => resolve());
  }

  put(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  request(frame) {
    return new Promise((resolve, reject) => {
      if (this.#stopped) return reject(new RequestError({ code: "ended", message: "the session has ended" }));
      if (this.#socket?.readyState !== 1) return reject(disconnected());
      const id = ++this.#lastId;
      if (bytes({ ...frame, id }) > FRAME) {
        return reject(new RequestError({ code: "too_large", message: "the request is too large" }));
      }
      const timer = setTimeout(() => {
        this.#requests.delete(id);
        reject(new RequestError({ code: "unavailable", message: "no answer" }));
      }, REQUEST_TIMEOUT);
      this.#requests.set(id, { resolve, reject, timer });
      this.put({ ...frame, id });
    });
  }

  /** Waits before a request is sent again, and until there is a connection. */
  async pause(ms = 1_000) {
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (this.#socket?.readyState !== 1 && !this.#stopped) await new Promise((resolve) => this.#online.push(resolve));
  }
}

/** How many bytes a value has as JSON. */
export function bytes(value) {
  return new TextEncoder().encode(JSON.stringify(value)).length;
}

function disconnected() {
  return new RequestError({ code: "disconnected", message: "not connected" });
}

export function unique() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
