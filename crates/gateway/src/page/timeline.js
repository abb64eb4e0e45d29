// The timeline of the room that is shown: each event is added once, and what is there stays as it is.

import { at, attempt, setText } from "/elements.js";
import { fill, hideActions, line, pendingLine } from "/message.js";

/** How far from its end the log still counts as read to the end, in pixels. */
const NEAR = 60;
/** How far from its beginning what is before is loaded, in pixels. */
const TOP = 200;

export class Timeline {
  #sendpi;
  #edit;
  #room;
  #items = new Map();
  #loading = false;
  /** Whether the end was seen when the log was last scrolled. */
  #follows = true;

  constructor(sendpi, edit) {
    this.#sendpi = sendpi;
    this.#edit = edit;
    at("log").onscroll = () => {
      this.#follows = this.#isAtEnd();
      this.read();
      this.#loadNearTop();
    };
    // The end stays in sight when the log shrinks: beside the people, or above the keyboard of a phone.
    new ResizeObserver(() => this.#follows && this.#toEnd()).observe(at("log"));
    at("newest").onclick = () => this.#toEnd();
    at("earlier").onclick = () => this.#earlier();
  }

  /** Shows a room, or nothing. */
  show(room) {
    this.#room = room;
    this.rebuild();
    this.typing();
    if (!room) return;
    attempt(room.open());
  }

  /** Shows all that is loaded. Screen readers do not hear it. */
  rebuild() {
    const room = this.#room;
    this.#items.clear();
    at("log").setAttribute("aria-live", "off");
    at("messages").replaceChildren();
    if (room?.isOpen) this.#insert(room.events, null);
    this.unsent();
    this.#showEarlier();
    this.#toEnd();
    this.#loadNearTop();
    setTimeout(() => at("log").setAttribute("aria-live", "polite"));
  }

  /** Adds an event, or changes the message that it is about. */
  take(event) {
    const isAtEnd = this.#isAtEnd();
    if (event.ref) this.#change(event.ref);
    const item = this.#line(event);
    if (item) {
      at("messages").querySelector(`[data-nonce="${CSS.escape(event.nonce ?? "")}"]`)?.remove();
      at("messages").insertBefore(item, at("messages").querySelector(".pending, .failed"));
    }
    this.#forget();
    if (isAtEnd || (item && event.from === this.#sendpi.user)) this.#toEnd();
    else if (item) at("newest").hidden = false;
  }

  /** Shows the messages that wait, behind all others. */
  unsent() {
    const waiting = new Map(this.#room?.unsent.map((message) => [message.nonce, message]));
    const stored = new Set(this.#room?.events.map((event) => event.from === this.#sendpi.user && event.nonce));
    const isAtEnd = this.#isAtEnd();
    at("messages").querySelectorAll(".pending").forEach((item) => {
      if (!waiting.delete(item.dataset.nonce)) item.remove();
    });
    for (const message of waiting.values()) {
      if (!stored.has(message.nonce)) at("messages").append(pendingLine(message, this.#sendpi.user));
    }
    if (isAtEnd) this.#toEnd();
  }

  /** Shows a message that was refused, until another room is shown. */
  failed(message, error) {
    at("messages").append(pendingLine(message, this.#sendpi.user, error));
    this.unsent();
  }

  typing() {
    const names = this.#room?.typists ?? [];
    setText(at("typing"), names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "");
  }

  /** Marks what is shown as read, if somebody sees its end. */
  read() {
    if (!this.#room?.isOpen || document.hidden || !this.#isAtEnd()) return;
    at("newest").hidden = true;
    this.#room.read().catch(() => {});
  }

  #line(event) {
    const item = line(event, this.#room, this.#sendpi.user, this.#edit);
    if (item) this.#items.set(event.seq, item);
    return item;
  }

  #insert(events, before) {
    const items = events.map((event) => this.#line(event)).filter(Boolean);
    const fragment = document.createDocumentFragment();
    fragment.append(...items);
    at("messages").insertBefore(fragment, before);
  }

  #change(seq) {
    const item = this.#items.get(seq);
    const message = this.#room.event(seq);
    if (!item || !message) return;
    const focused = item.contains(document.activeElement) && document.activeElement;
    fill(item, message, this.#room, this.#sendpi.user, this.#edit);
    if (focused) (focused.isConnected ? focused : item.querySelector(".more"))?.focus();
  }

  /** Takes away the oldest lines, which the client has let go. */
  #forget() {
    for (const [seq, item] of this.#items) {
      if (this.#room.event(seq)) break;
      item.remove();
      this.#items.delete(seq);
    }
    this.#showEarlier();
  }

  #showEarlier() {
    at("earlier").hidden = !(this.#room?.isOpen && this.#room.hasEarlier);
  }

  /** Loads and shows the events before. What is seen stays where it is. */
  async #earlier() {
    const room = this.#room;
    if (this.#loading || !room?.isOpen || !room.hasEarlier) return;
    this.#loading = true;
    try {
      const first = room.events[0]?.seq ?? Infinity;
      await room.earlier();
      if (room !== this.#room) return;
      hideActions();
      const log = at("log");
      const fromEnd = log.scrollHeight - log.scrollTop;
      const shown = this.#items;
      this.#items = new Map();
      this.#insert(room.events.filter((event) => event.seq < first), at("messages").firstChild);
      for (const [seq, item] of shown) this.#items.set(seq, item);
      // An event that was loaded now may be the edit or the reaction of one that was shown already.
      [...shown.keys()].forEach((seq) => room.event(seq)?.reactions && this.#change(seq));
      this.#showEarlier();
      log.scrollTop = log.scrollHeight - fromEnd;
    } catch {
      // It is tried again with the next scroll.
      return;
    } finally {
      this.#loading = false;
    }
    this.#loadNearTop();
  }

  /** Loads what is before once somebody is about to see the beginning, or where what is loaded fills no screen. */
  #loadNearTop() {
    if (at("log").scrollTop < TOP) this.#earlier();
  }

  #isAtEnd() {
    const log = at("log");
    return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
  }

  #toEnd() {
    at("log").scrollTop = at("log").scrollHeight;
    at("newest").hidden = true;
    this.read();
  }
}
