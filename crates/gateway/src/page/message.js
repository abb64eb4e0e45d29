// One line of the timeline: a message with its reactions, or what happened in the room.

import { attempt, button, clock, confirm, make } from "/elements.js";

const EMOJI = ["👍", "❤️", "😂", "🎉", "😢"];

/** Returns the item of an event, or nothing for kinds that have no line of their own. */
export function line(event, room, user, edit) {
  const item = make("li", { dataset: { seq: event.seq } });
  if (event.kind === "message" || event.kind === "system") {
    fill(item, event, room, user, edit);
    return item;
  }
  const text = note(event);
  if (!text) return undefined;
  item.append(make("span", { className: "note", dir: "auto" }, text), clock(event.at));
  return item;
}

/** Fills the item of a message, anew after an edit, a deletion or a reaction. */
export function fill(item, event, room, user, edit) {
  const bar = item.querySelector(".actions");
  item.classList.toggle("mine", isOf(event, user));
  item.classList.toggle("mention", Boolean(event.mentions?.some((name) => name === user || name === "*")));
  const from = make("span", { className: "from", dir: "auto" }, event.from);
  const text = make("span", { className: "text", dir: "auto" }, event.body?.text ?? "(no text)");
  item.replaceChildren(from, clock(event.at), event.deleted ? make("em", { className: "note" }, "Deleted") : text);
  if (event.deleted) return;
  if (event.edited) item.append(make("span", { className: "note" }, "edited"));
  const chips = Object.entries(room.reactions(event)).map(([emoji, users]) => {
    const isOwn = users.includes(user);
    const chip = button(`${emoji} ${users.length}`, () => attempt(room.react(event.seq, emoji, isOwn)));
    chip.title = users.join(", ");
    chip.setAttribute("aria-pressed", isOwn);
    chip.setAttribute("aria-label", `${emoji}, ${users.length}: ${chip.title}`);
    return chip;
  });
  if (chips.length) item.append(make("span", { className: "reactions" }, ...chips));
  const more = button("⋯", () => showActions(item, event, room, user, edit), { className: "more" });
  more.setAttribute("aria-label", `Actions for the message of ${event.from}`);
  more.setAttribute("aria-expanded", Boolean(bar));
  item.append(more);
  // It stays open when somebody else reacts meanwhile.
  if (bar) item.append(bar);
}

export function hideActions() {
  const shown = document.querySelector(".actions");
  const more = shown?.parentElement.querySelector(".more");
  more?.setAttribute("aria-expanded", false);
  if (shown?.contains(document.activeElement)) more?.focus();
  shown?.remove();
}

function showActions(item, event, room, user, edit) {
  const isShown = item.querySelector(".actions");
  hideActions();
  if (isShown) return;
  const act = (action) => () => {
    hideActions();
    action();
  };
  const actions = EMOJI.map((emoji) => {
    const react = act(() => attempt(room.react(event.seq, emoji)));
    return button(emoji, react, { ariaLabel: `React with ${emoji}` });
  });
  const isOwn = isOf(event, user);
  if (isOwn) actions.push(button("Edit", act(() => edit(event))));
  if (isOwn || room.info.role !== "member") {
    const remove = async () => (await confirm("Delete this message?")) && attempt(room.delete(event.seq));
    actions.push(button("Delete", act(remove)));
  }
  const bar = make("div", { className: "actions" }, ...actions);
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Actions");
  item.append(bar);
  item.querySelector(".more").setAttribute("aria-expanded", true);
  actions[0].focus();
}

function note(event) {
  const users = event.users?.join(", ");
  switch (event.kind) {
    case "joined":
      return event.by && event.by !== users ? `${users} joined, invited by ${event.by}` : `${users} joined`;
    case "left":
      if (event.reason === "deleted") return "The room was deleted";
      return event.reason ? `${users} was removed by ${event.by ?? event.from}` : `${users} left`;
    case "changed":
      if (event.name !== undefined) return `${event.from} named the room ${event.name}`;
      if (event.role) return `${event.from} made ${event.role.user} ${event.role.role}`;
      if (event.unbanned) return `${event.from} ended the ban of ${event.unbanned}`;
      if (event.access === "open") return `${event.from} opened the room to all`;
      if (event.access) return `${event.from} closed the room to those who are not invited`;
      return `${event.from} changed the room`;
  }
}

/** The item of a message that is not stored yet, or was refused. */
export function pendingLine(message, user, error) {
  const from = make("span", { className: "from" }, user);
  const text = make("span", { className: "text", dir: "auto" }, message.body.text ?? "(no text)");
  const item = make("li", { className: error ? "mine failed" : "mine pending", dataset: { nonce: message.nonce } });
  item.append(from, text);
  if (error) item.append(make("span", { className: "note" }, `not sent: ${error.message}`));
  return item;
}

addEventListener("keydown", ({ key }) => key === "Escape" && hideActions());

/** Whether a user wrote a message. A service may have the id of a user. */
function isOf(event, user) {
  return event.kind !== "system" && event.from === user;
}
