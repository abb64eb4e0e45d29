// Small helpers for the document.

export const at = (id) => document.getElementById(id);

/** Makes an element. Children that are text are only ever text. */
export function make(tag, properties = {}, ...children) {
  const { dataset, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

export function button(label, action, properties = {}) {
  return make("button", { type: "button", onclick: action, ...properties }, label);
}

/** Sets a text only if it differs: screen readers read a live region aloud at each change. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function notice(text) {
  setText(at("notice"), text);
}

/** Waits for something that the user asked for, and shows the error if it fails. */
export async function attempt(promise) {
  try {
    await promise;
    notice("");
    return true;
  } catch (error) {
    notice(error.code === "disconnected" ? "Not connected: try again in a moment" : error.message);
    return false;
  }
}

/** Calls `action` with what a form's field holds, once at a time. */
export function submit(form, field, action) {
  let busy = false;
  at(form).onsubmit = async (event) => {
    event.preventDefault();
    const value = at(field).value.trim();
    if (!value || busy) return;
    busy = true;
    try {
      await action(value, at(field));
    } finally {
      busy = false;
    }
  };
}

/** Asks a question, and returns whether the answer was yes. */
export function confirm(question) {
  const dialog = at("confirm");
  at("question").textContent = question;
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = (value) => () => {
      dialog.onclose = null;
      dialog.close();
      resolve(value);
    };
    at("yes").onclick = answer(true);
    at("no").onclick = dialog.onclose = answer(false);
  });
}

/** A time of day, with its date unless that is today. */
export function clock(ms) {
  const time = new Date(ms);
  const isToday = time.toDateString() === new Date().toDateString();
  const hours = { hour: "2-digit", minute: "2-digit" };
  const text = time.toLocaleString([], isToday ? hours : { day: "numeric", month: "short", ...hours });
  return make("time", { dateTime: time.toISOString(), title: time.toLocaleString() }, text);
}

/** How a room is called: a direct room after the other user. */
export function title(room, user) {
  if (room.info.kind === "inbox") return "Inbox";
  if (room.info.kind === "direct") {
    const users = room.id.split(":").slice(1).map((name) => decodeURIComponent(name.replaceAll("=", "%")));
    return users.find((name) => name !== user) ?? room.id;
  }
  return room.name || room.id;
}
