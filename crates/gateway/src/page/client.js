// The connection of one user. It signs in, reconnects and resumes after a break, matches answers to requests, and sends
// each message until it is answered. It reports through the callbacks in `on` and knows nothing of the page.

const FIRST_WAIT = 300;
const LONGEST_WAIT = 15_000;
const REQUEST_TIMEOUT = 20_000;
const FINAL = { 1009: "a message was too large", 4102: "signed out by an operator", 4103: "the server could not read this page's frames", 4104: "too many requests", 4105: "this page was opened once more, in another tab", 4106: "too many pages and devices are signed in" };

export class RequestError extends Error {
  constructor({ code, message, retry_in_ms }) {
    super(message || code);
    this.code = code;
    this.retryIn = retry_in_ms;
  }
}

export class Client {
  /// `on.frame(frame)` receives `welcome` and each frame that the server sends on its own, `on.state(text)` receives
  /// the state of the connection to show, and `on.ended(reason)` is called when the session has ended for good.
  /// `resume()` returns the rooms to resume, each with the last seq seen.
  constructor(user, { on, resume }) {
    Object.assign(this, { user, on, resume });
    this.requests = new Map();
    this.outbox = new Map();
    this.lastId = 0;
    this.failures = 0;
    this.stopped = false;
    this.connect();
  }

  async connect() {
    this.on.state("Connecting…");
    try {
      const answer = await fetch(`/dev/token?user=${encodeURIComponent(this.user)}`);
      if (answer.status === 400 || answer.status === 403) return this.end((await answer.json()).message);
      if (!answer.ok) throw new Error(answer.statusText);
      const token = await answer.text();
      if (!this.stopped) this.open(token);
    } catch {
      this.comeBack();
    }
  }

  open(token) {
    const url = new URL("/v1/ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, ["sendpi.v1"]);
    this.socket = socket;
    this.bye = undefined;
    this.watch(30_000);
    socket.onopen = () => this.put({ op: "hello", id: 0, token, device: device(), resume: this.resume(), rooms: 50 });
    socket.onmessage = ({ data }) => {
      this.watch();
      this.take(JSON.parse(data));
    };
    socket.onclose = ({ code }) => {
      if (this.socket === socket) this.closed(code);
    };
  }

  take(frame) {
    const request = frame.id > 0 && this.requests.get(frame.id);
    if (request) {
      this.requests.delete(frame.id);
      clearTimeout(request.timer);
      return frame.op === "error" ? request.reject(new RequestError(frame)) : request.resolve(frame);
    }
    switch (frame.op) {
      case "ping":
        return this.put({ op: "pong" });
      case "bye":
        this.bye = frame.reconnect_in_ms;
        return;
      case "error":
        // The answer to `hello`. The close code that follows says whether to come back.
        this.refused = frame;
        return;
      case "welcome":
        this.welcome(frame);
    }
    this.on.frame(frame);
  }

  welcome({ heartbeat_ms, expires_at, now }) {
    this.failures = 0;
    this.refused = undefined;
    this.patience = 2 * heartbeat_ms;
    this.watch();
    clearTimeout(this.renewal);
    // A timer holds at most 31 bits of milliseconds. One minute before the token expires is early enough.
    this.renewal = setTimeout(() => this.renew(), Math.min(Math.max(expires_at - now - 60_000, 1_000), 2 ** 31 - 1));
    this.on.state(`Signed in as ${this.user}`);
    for (const room of this.outbox.keys()) this.flush(room);
  }

  async renew() {
    try {
      const token = await (await fetch(`/dev/token?user=${encodeURIComponent(this.user)}`)).text();
      await this.request({ op: "token", token });
    } catch {
      // The session ends when the token expires, and the client comes back with a new one.
    }
  }

  /// Restarts the watchdog. Without a frame for twice the heartbeat the connection is dead, whatever the socket says.
  watch(patience = this.patience) {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.closed(1006), patience);
  }

  closed(code) {
    const socket = this.socket;
    this.socket = undefined;
    socket?.close();
    clearTimeout(this.watchdog);
    clearTimeout(this.renewal);
    for (const { reject, timer } of this.requests.values()) {
      clearTimeout(timer);
      reject(new RequestError({ code: "disconnected", message: "the connection broke" }));
    }
    this.requests.clear();
    if (this.stopped) return;
    if (code === 4105) newDevice(); // The tab was duplicated. If this one is reloaded, it becomes a new device.
    if (code === 4100) return this.end(this.refused?.message ?? "not signed in");
    if (FINAL[code]) return this.end(FINAL[code]);
    this.comeBack();
  }

  /// Reconnects after a pause. The pause doubles with each failure and is random, so that clients do not come back all
  /// at once. If the server named a pause in `bye` or in its refusal, that one is used.
  comeBack() {
    if (this.stopped) return;
    const ceiling = Math.min(FIRST_WAIT * 2 ** this.failures++, LONGEST_WAIT);
    const wait = this.bye ?? this.refused?.retry_in_ms ?? ceiling / 2 + (Math.random() * ceiling) / 2;
    this.bye = this.refused = undefined;
    this.on.state("Not connected; trying again…");
    setTimeout(() => this.stopped || this.connect(), wait);
  }

  end(reason) {
    this.stop();
    this.on.ended(reason);
  }

  stop() {
    this.stopped = true;
    if (this.socket) this.closed(1000);
  }

  put(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  /// Sends a request. Resolves with its answer, or rejects with a `RequestError`.
  request(frame) {
    return new Promise((resolve, reject) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        return reject(new RequestError({ code: "disconnected", message: "not connected" }));
      }
      const id = ++this.lastId;
      const timer = setTimeout(() => {
        this.requests.delete(id);
        reject(new RequestError({ code: "unavailable", message: "no answer" }));
      }, REQUEST_TIMEOUT);
      this.requests.set(id, { resolve, reject, timer });
      this.put({ ...frame, id });
    });
  }

  /// Queues a message. `seq` is the last known seq of its room. The messages of a room are sent one after the other, so
  /// that a retry keeps their order. `told(error?)` is called with the final outcome.
  send(room, seq, nonce, body, told) {
    const queue = this.outbox.get(room) ?? [];
    this.outbox.set(room, queue);
    queue.push({ nonce, body, seq, told, tries: 0 });
    if (queue.length === 1) this.flush(room);
  }

  async flush(room) {
    const queue = this.outbox.get(room);
    if (queue.busy) return;
    queue.busy = true;
    while (queue.length && this.socket) {
      const message = queue[0];
      const retry = message.tries++ ? { retry: message.seq } : {};
      try {
        await this.request({ op: "send", room, nonce: message.nonce, body: message.body, ...retry });
        message.told();
      } catch (error) {
        if (error.code === "disconnected") break;
        if (["unavailable", "rate_limited"].includes(error.code)) {
          await new Promise((done) => setTimeout(done, error.retryIn ?? 1_000));
          continue;
        }
        message.told(error);
      }
      queue.shift();
    }
    queue.busy = false;
    if (!queue.length) this.outbox.delete(room);
  }
}

export function unique() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Each tab is a device of its own, and stays the same device after a reload.
function device() {
  return sessionStorage.getItem("device") ?? newDevice();
}

function newDevice() {
  const name = `page-${unique()}`;
  sessionStorage.setItem("device", name);
  return name;
}
