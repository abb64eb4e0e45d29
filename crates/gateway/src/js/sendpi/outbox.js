// The messages that are not answered yet. They are kept over a reload, and sent again until it is known what became of
// each. The messages of a room are sent one after the other, so that they keep their order.

import { RequestError, bytes } from "./connection.js";

const KEY = "sendpi.outbox.";
/** The most messages that wait. Further ones are refused. */
const MOST = 500;
/** The largest body, in bytes of JSON. A larger one would end the connection. */
const BODY = 16 * 1024;

export class Outbox {
  #storage;
  #request;
  #refused;
  #user;
  #messages = [];
  #busy = new Set();

  /** `refused(message, error)` is called for each message that is refused. */
  constructor(storage, request, refused) {
    this.#storage = storage;
    this.#request = request;
    this.#refused = refused;
  }

  /** Takes up what an earlier page of the same user left. */
  open(user) {
    if (this.#user === user) return;
    this.#user = user;
    try {
      const kept = JSON.parse(this.#storage.getItem(KEY + user) ?? "[]");
      const own = new Set(this.#messages.map((message) => message.nonce));
      this.#messages = [...kept.filter((message) => !own.has(message.nonce)), ...this.#messages];
    } catch {
      // What cannot be read was not written by this client.
    }
    this.#keep();
  }

  of(room) {
    return this.#messages.filter((message) => message.room === room);
  }

  /** Resolves with the answer, or rejects with the reason why the message is not sent. */
  add(message) {
    const tooLarge = (what) => Promise.reject(new RequestError({ code: "too_large", message: what }));
    if (this.#messages.length >= MOST) return tooLarge("too many messages wait");
    if (bytes(message.body) > BODY) return tooLarge("the message is too large");
    return new Promise((resolve, reject) => {
      this.#messages.push({ ...message, tries: 0, at: Date.now(), resolve, reject });
      this.#keep();
      this.#flushRoom(message.room);
    });
  }

  flush() {
    new Set(this.#messages.map((message) => message.room)).forEach((room) => this.#flushRoom(room));
  }

  async #flushRoom(room) {
    if (this.#busy.has(room)) return;
    this.#busy.add(room);
    for (let message; (message = this.#messages.find((one) => one.room === room)); ) {
      const { nonce, body, mentions, seq } = message;
      const retry = message.tries++ ? seq : undefined;
      this.#keep();
      try {
        const answer = await this.#request({ op: "send", room, nonce, body, mentions, retry });
        this.#done(message);
        message.resolve?.(answer);
      } catch (error) {
        // The next connection goes on.
        if (error.code === "disconnected" || error.code === "ended") break;
        if (error.isTemporary) {
          await new Promise((resolve) => setTimeout(resolve, (error.retryIn ?? 1_000) * (1 + Math.random() / 4)));
          continue;
        }
        this.#done(message);
        message.reject?.(error);
        const { room, nonce, body, mentions, at } = message;
        this.#refused({ room, nonce, body, mentions, at }, error);
      }
    }
    this.#busy.delete(room);
  }

  #done(message) {
    this.#messages = this.#messages.filter((other) => other !== message);
    this.#keep();
  }

  #keep() {
    if (!this.#user) return;
    const plain = this.#messages.map(({ resolve, reject, ...message }) => message);
    try {
      this.#storage.setItem(KEY + this.#user, JSON.stringify(plain));
    } catch {
      // A storage that is full keeps what it had. The messages are still in memory.
    }
  }
}
