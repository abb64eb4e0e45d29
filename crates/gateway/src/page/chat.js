// The chat page: signing in, and what belongs to the page as a whole.

import { connect } from "/v1/sendpi.js";
import { at, attempt, confirm, notice, setText, submit, title } from "/elements.js";
import { People } from "/people.js";
import { RoomList } from "/room_list.js";
import { Timeline } from "/timeline.js";

const MUTE = 8 * 60 * 60 * 1000;
const MUTE_CHECK = 30_000;

let sendpi, rooms, people, timeline, current, edited;
const drafts = new Map();

function signIn(token) {
  at("welcome").hidden = true;
  at("app").hidden = at("sign-out").hidden = false;
  notice("");
  sendpi = connect({ url: location.origin, token });
  rooms = new RoomList(sendpi, choose);
  people = new People(sendpi);
  timeline = new Timeline(sendpi, edit);
  sendpi.on("state", showState);
  sendpi.on("welcome", welcome);
  sendpi.on("room", (room) => rooms.update(room));
  sendpi.on("changed", changed);
  sendpi.on("removed", removed);
  for (const name of ["opened", "reset"]) sendpi.on(name, (room) => room === current && timeline.rebuild());
  sendpi.on("refused", refused);
  sendpi.on("typing", (room) => room === current && timeline.typing());
  sendpi.on("event", (event, room) => {
    if (room === current) timeline.take(event);
    changed(room, event);
  });
}

function showState(state, reason) {
  const words = {
    connecting: at("status").dataset.state === "waiting" ? "Not connected: trying again…" : "Connecting…",
    waiting: "Not connected: trying again…",
    online: `Signed in as ${sendpi.user}`,
    ended: "Signed out",
  };
  setText(at("status"), words[state]);
  if (state !== "connecting") at("status").dataset.state = state;
  if (state === "ended" && reason !== "closed") {
    notice(`The session has ended: ${reason}. Reload the page to sign in again.`);
    forget();
  }
}

async function welcome() {
  // What an earlier page left, and what a break left unloaded.
  timeline.unsent();
  sendpi.rooms.forEach((room) => rooms.update(room));
  if (current) return void (current.isOpen || attempt(current.open()));
  const id = decodeURIComponent(location.hash.slice(1));
  if (!id) return;
  const room = sendpi.room(id) ?? (await sendpi.join(id).catch((error) => notice(error.message)));
  if (room && !current) choose(room);
}

function changed(room, event) {
  rooms.update(room);
  if (room !== current) return;
  showHead();
  people.changed(event);
  timeline.unsent();
  timeline.read();
}

function removed(room, reason) {
  rooms.remove(room);
  drafts.delete(room.id);
  if (room !== current) return;
  choose(undefined);
  const words = { kicked: "You were removed from", banned: "You were banned from", deleted: "Deleted:" };
  notice(words[reason] ? `${words[reason]} ${title(room, sendpi.user)}` : "");
}

function choose(room) {
  stopEditing();
  if (current) drafts.set(current.id, at("message").value);
  current = room;
  history.replaceState(null, "", room ? `#${encodeURIComponent(room.id)}` : location.pathname);
  at("app").dataset.view = room ? "room" : "rooms";
  at("room").hidden = !room;
  at("no-room").hidden = Boolean(room);
  rooms.mark(room);
  people.show(room);
  timeline.show(room);
  at("message").value = drafts.get(room?.id) ?? "";
  if (!room) return;
  showHead();
  at("message").focus();
}

function showHead() {
  setText(at("room-title"), title(current, sendpi.user));
  const { notify, muted_until } = current.info;
  const isMuted = muted_until > Date.now();
  at("notify").value = notify;
  at("mute").setAttribute("aria-pressed", isMuted);
  setText(at("mute"), isMuted ? "Unmute" : "Mute 8 h");
}

/** Puts a message into the composer, to be changed there. */
function edit(message) {
  if (!edited) drafts.set(current.id, at("message").value);
  edited = message;
  at("editing").hidden = false;
  at("message").value = message.body?.text ?? "";
  at("message").focus();
}

function stopEditing() {
  if (!edited) return;
  edited = undefined;
  at("editing").hidden = true;
  at("message").value = drafts.get(current?.id) ?? "";
}

async function send(text, field) {
  const room = current;
  if (edited) {
    if (await attempt(room.edit(edited.seq, text))) stopEditing();
    return;
  }
  field.value = "";
  drafts.delete(room.id);
  const named = [...text.matchAll(/@([^\s@]+)/g)].map(([, name]) => name.replace(/[.,:;!?]+$/, ""));
  const mentions = people.names.filter((name) => named.includes(name)).slice(0, 50);
  const sending = room.send(text, mentions.length ? { mentions } : {});
  timeline.unsent();
  // The event of the client tells what was refused.
  sending.then(
    () => room === current && timeline.unsent(),
    (error) => error.code === "too_large" && refused(null, error),
  );
}

/** Shows a message that was refused, in its room or in a notice. */
function refused(message, error) {
  if (message && message.room === current?.id) return timeline.failed(message, error);
  notice(`Not sent: ${message?.body.text ?? ""} (${error.message})`);
}

/** Forgets who is signed in. */
function forget() {
  sessionStorage.removeItem("user");
  sessionStorage.removeItem("token");
}

async function developmentToken(user) {
  const answer = await fetch(`/dev/token?user=${encodeURIComponent(user)}`);
  if (answer.ok) return answer.text();
  const refusal = await answer.json();
  throw Object.assign(new Error(refusal.message), { isFinal: answer.status < 500 });
}

function signInWithName(user) {
  sessionStorage.setItem("user", user);
  signIn(() => developmentToken(user));
}

function signInWithToken(token) {
  sessionStorage.setItem("token", token);
  signIn(token);
}

submit("sign-in", "user", (user) => at("by-name").hidden || signInWithName(user));
submit("create-room", "room-name", async (name, field) => {
  const creation = sendpi.create({ name, access: at("room-open").checked ? "open" : "invite" });
  if (!(await attempt(creation))) return;
  field.value = "";
  choose(await creation);
});
submit("direct", "direct-user", async (user, field) => {
  const creation = sendpi.create({ kind: "direct", members: [user] });
  if (!(await attempt(creation))) return;
  field.value = "";
  choose(await creation);
});
submit("invite", "invite-user", async (user, field) => {
  if (await attempt(current.invite(user))) field.value = "";
});
submit("composer", "message", send);
at("message").onkeydown = (event) => {
  if (event.key === "Escape") stopEditing();
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("composer").requestSubmit();
};
at("message").oninput = () => edited || current?.typing();
at("dismiss").onclick = () => notice("");
at("stop-editing").onclick = stopEditing;
at("back").onclick = () => choose(undefined);
at("notify").onchange = () => attempt(current.notify({ notify: at("notify").value }));
at("mute").onclick = () => {
  const isMuted = current.info.muted_until > Date.now();
  attempt(current.notify({ mutedUntil: isMuted ? null : Date.now() + MUTE }));
};
at("leave").onclick = async () => {
  const room = current;
  if (await confirm(`Leave ${title(room, sendpi.user)}?`)) attempt(room.leave());
};
at("more-rooms").onclick = () => attempt(sendpi.moreRooms());
at("sign-out").onclick = () => {
  forget();
  sendpi.close();
  location.assign(location.pathname);
};
document.onvisibilitychange = () => timeline?.read();
setInterval(() => current && showHead(), MUTE_CHECK);

const { user, token } = sessionStorage;
if (user) signInWithName(user);
else if (token) signInWithToken(token);
else if (!(await fetch("/dev/token?user=anyone", { method: "HEAD" })).ok) {
  at("by-name").hidden = at("user").disabled = true;
  at("by-token").hidden = at("token").disabled = false;
  submit("sign-in", "token", signInWithToken);
  at("token").focus();
}
