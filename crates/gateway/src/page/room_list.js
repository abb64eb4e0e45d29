// The list of rooms, newest message first, each with its last line, its time and what is unread.

import { at, clock, make, setText, title } from "/elements.js";

export class RoomList {
  #sendpi;
  #choose;
  #items = new Map();
  #current;

  constructor(sendpi, choose) {
    this.#sendpi = sendpi;
    this.#choose = choose;
  }

  /** Marks the room that is shown. */
  mark(room) {
    this.#current = room;
    for (const [id, item] of this.#items) item.firstChild.setAttribute("aria-current", id === room?.id);
  }

  /** Shows a room anew, at its place. Only what differs is touched. */
  update(room) {
    const item = this.#items.get(room.id) ?? this.#add(room);
    const { last, unread, last_at } = room.info;
    const name = title(room, this.#sendpi.user);
    setText(item.querySelector(".name"), name);
    setText(item.querySelector(".last"), last ? `${last.from}: ${last.text ?? "…"}` : "");
    this.#showUnread(item, unread);
    item.querySelector("time").replaceWith(clock(last_at));
    this.#place(item, last_at);
    this.#count();
  }

  remove(room) {
    this.#items.get(room.id)?.remove();
    this.#items.delete(room.id);
    this.#count();
  }

  #add(room) {
    const label = make("span", { className: "name", dir: "auto" });
    const last = make("span", { className: "last", dir: "auto" });
    const button = make("button", { type: "button" }, label, make("time"), last);
    button.dataset.room = room.id;
    button.onclick = () => this.#choose(room);
    button.setAttribute("aria-current", room === this.#current);
    const item = make("li", {}, button);
    this.#items.set(room.id, item);
    at("rooms").append(item);
    return item;
  }

  #showUnread(item, unread) {
    let badge = item.querySelector(".unread");
    if (!unread) return badge?.remove();
    if (!badge) item.firstChild.append((badge = make("span", { className: "unread", role: "img" })));
    setText(badge, String(unread));
    badge.ariaLabel = `${unread} unread`;
  }

  /** Moves an item in front of the first one that is older, unless it is there already. */
  #place(item, lastAt) {
    item.dataset.at = lastAt;
    const before = item.previousElementSibling;
    const after = item.nextElementSibling;
    if ((!before || before.dataset.at >= lastAt) && (!after || after.dataset.at <= lastAt)) return;
    const older = [...at("rooms").children].find((other) => other !== item && Number(other.dataset.at) < lastAt);
    const hadFocus = item.contains(document.activeElement);
    at("rooms").insertBefore(item, older ?? null);
    if (hadFocus) item.firstChild.focus();
  }

  #count() {
    at("no-rooms").hidden = this.#items.size > 0;
    at("more-rooms").hidden = !this.#sendpi.hasMoreRooms;
  }
}
