// The chat page: shows the state of the client and of the rooms in the document.

import { Client, unique } from "/client.js";
import { Rooms } from "/rooms.js";

const TYPING_EVERY = 2_000;
const TYPING_SHOWN = 5_000;

const at = (id) => document.getElementById(id);
let client, rooms, current;
let typists = new Map();
let pending = [];
let typingSent = 0;

function signIn(user) {
  sessionStorage.setItem("user", user);
  at("welcome").hidden = true;
  at("app").hidden = at("sign-out").hidden = false;
  notice("");
  rooms = new Rooms(user, (frame) => client.request(frame), changed);
  client = new Client(user, {
    resume: () => rooms.open(),
    on: { frame: take, state: (text) => (at("status").textContent = text), ended },
  });
}

function ended(reason) {
  at("status").textContent = "Signed out";
  notice(`The session has ended: ${reason}. Reload the page to sign in again.`);
  sessionStorage.removeItem("user");
}

function take(frame) {
  if (frame.op === "event" && frame.kind === "typing") return typing(frame);
  if (frame.op === "event") {
    pending = pending.filter((message) => message.nonce !== frame.nonce || frame.from !== client.user);
    if (frame.room === current) typists.delete(frame.from);
  }
  rooms.take(frame);
  // If the connection broke after a room was chosen, the room may not be loaded yet.
  if (frame.op === "welcome" && current) attempt(rooms.load(current));
  if (frame.op === "welcome") showRooms();
}

function changed(id) {
  showRooms();
  if (id !== current) return;
  if (!rooms.list.has(id)) return choose(undefined);
  showRoom();
  markRead();
}

function markRead() {
  if (current && !document.hidden && rooms.list.get(current)?.events) rooms.read(current).catch(() => {});
}

function title({ name, room, kind }) {
  if (kind === "inbox") return "Inbox";
  return name || room;
}

function showRooms() {
  const entries = rooms.sorted().map(({ info }) => {
    const button = make("button", { type: "button" }, make("span", { className: "name" }, title(info)));
    button.dataset.room = info.room;
    button.setAttribute("aria-current", info.room === current);
    if (info.unread) button.append(make("span", { className: "unread", title: "unread" }, String(info.unread)));
    button.onclick = () => choose(info.room);
    return make("li", {}, button);
  });
  at("rooms").replaceChildren(...entries);
  at("no-rooms").hidden = entries.length > 0;
  at("more-rooms").hidden = !rooms.next;
}

function choose(id) {
  current = id;
  typists.clear();
  at("room").hidden = !id;
  at("no-room").hidden = Boolean(id);
  at("messages").replaceChildren();
  showRooms();
  if (!id) return;
  showRoom();
  markRead();
  attempt(rooms.load(id));
  at("message").focus();
}

function showRoom() {
  const room = rooms.list.get(current);
  at("room-title").textContent = title(room.info);
  at("invite").hidden = room.info.kind !== "group" || room.info.role === "member";
  at("earlier").hidden = !room.more;
  showTyping();
  if (!room.events) return;
  const log = at("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const shown = [...room.events.values()].sort((a, b) => a.seq - b.seq).map(line).filter(Boolean);
  const waiting = pending.filter((message) => message.room === current).map(pendingLine);
  at("messages").replaceChildren(...shown, ...waiting);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function line(event) {
  const item = make("li", {});
  item.dataset.seq = event.seq;
  switch (event.kind) {
    case "message":
    case "system":
      item.classList.toggle("mine", event.from === client.user);
      item.append(clock(event.at), make("span", { className: "from" }, event.from));
      item.append(make("span", { className: "text" }, event.body?.text ?? "(no text)"));
      return item;
    case "joined":
      item.append(make("span", { className: "note" }, `${event.users.join(", ")} joined`));
      return item;
    case "left":
      item.append(make("span", { className: "note" }, `${event.users.join(", ")} left`));
      return item;
    case "changed":
      item.append(make("span", { className: "note" }, `${event.from} changed the room`));
      return item;
  }
}

function pendingLine({ body, error }) {
  const item = make("li", { className: error ? "mine failed" : "mine pending" });
  item.append(make("span", { className: "from" }, client.user), make("span", { className: "text" }, body.text));
  if (error) item.append(make("span", { className: "note" }, ` — not sent: ${error.message}`));
  return item;
}

function clock(ms) {
  const time = new Date(ms);
  return make("time", { dateTime: time.toISOString() }, time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
}

function typing({ room, from }) {
  if (room !== current || from === client.user) return;
  clearTimeout(typists.get(from));
  const forget = () => {
    typists.delete(from);
    showTyping();
  };
  typists.set(from, setTimeout(forget, TYPING_SHOWN));
  showTyping();
}

function showTyping() {
  const names = [...typists.keys()].join(", ");
  const text = names && `${names} ${typists.size > 1 ? "are" : "is"} typing…`;
  // Only if it differs: screen readers read a live region aloud at each change.
  if (at("typing").textContent !== text) at("typing").textContent = text;
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function notice(text) {
  at("notice").textContent = text;
}

/// Waits for something that the user asked for, and shows the error if it fails.
async function attempt(promise) {
  try {
    await promise;
    notice("");
    return true;
  } catch (error) {
    if (error.code !== "disconnected") notice(error.message);
    return false;
  }
}

function submit(form, field, action) {
  at(form).onsubmit = (event) => {
    event.preventDefault();
    const value = at(field).value.trim();
    if (value) action(value, at(field));
  };
}

submit("sign-in", "user", signIn);
submit("create-room", "room-name", async (name, field) => {
  const creation = client.request({ op: "create", name, nonce: unique() });
  if (!(await attempt(creation))) return;
  field.value = "";
  const { info } = await creation;
  rooms.put(info);
  choose(info.room);
});
submit("invite", "invite-user", async (user, field) => {
  if (await attempt(client.request({ op: "invite", room: current, users: [user] }))) field.value = "";
});
submit("composer", "message", (text, field) => {
  const message = { room: current, nonce: unique(), body: { text } };
  pending.push(message);
  field.value = "";
  typingSent = 0;
  client.send(current, rooms.list.get(current).info.seq, message.nonce, message.body, (error) => {
    if (error) message.error = error;
    else pending = pending.filter((other) => other !== message);
    if (message.room === current) showRoom();
  });
  showRoom();
});
at("message").oninput = () => {
  if (Date.now() - typingSent < TYPING_EVERY) return;
  typingSent = Date.now();
  client.put({ op: "typing", room: current });
};
at("earlier").onclick = () => attempt(rooms.loadEarlier(current));
at("more-rooms").onclick = () => attempt(rooms.loadMore());
at("sign-out").onclick = () => {
  client.stop();
  sessionStorage.removeItem("user");
  location.reload();
};
document.onvisibilitychange = () => rooms && markRead();

const user = sessionStorage.getItem("user");
if (user) signIn(user);
