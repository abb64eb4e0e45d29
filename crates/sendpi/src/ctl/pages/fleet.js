// The fleet, as it is now and was over the last minutes.

import { drawChart, hues } from "/charts.js";

/** How often it is asked for, in milliseconds. */
const EVERY = 1000;
/** How long an answer may take. */
const PATIENCE = 10_000;

const at = (id) => document.getElementById(id);
let fleet = null;
/** The partition whose rooms are shown. */
let chosen = null;

function make(tag, properties = {}, ...children) {
  const { dataset, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** Asks the server. */
async function ask(path, body) {
  // The address of the page may hold the token, with which no request can be made from a script.
  const url = new URL(path, location.origin);
  const signal = AbortSignal.timeout(PATIENCE);
  const sent = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(url, body ? { ...sent, signal } : { signal });
  const text = await answer.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error(text || `the server answers ${answer.status}`);
  }
  if (!answer.ok) throw new Error(value.error);
  return value;
}

/** Does what somebody asked for, and shows why it failed, if it did. */
async function attempt(action) {
  try {
    await action();
    at("notice").textContent = "";
  } catch (error) {
    at("notice").textContent = error.message;
  }
}

/** Keeps the children of an element as they are: one for each key, in order. Others go. */
function keep(parent, keys, begin) {
  const wanted = new Set(keys.map(String));
  [...parent.children].filter((child) => !wanted.has(child.dataset.key)).forEach((child) => child.remove());
  const present = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  keys.forEach((key, place) => {
    let child = present.get(String(key));
    if (!child) {
      child = begin(key);
      child.dataset.key = key;
    }
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  return [...parent.children];
}

/** Sets the cells of a row, which are made once, and only those that changed. */
function setCells(row, cells) {
  cells.forEach(([text, isNumber], place) => {
    const cell = row.cells[place] ?? row.appendChild(make("td", { className: isNumber ? "number" : "" }));
    if (cell.textContent !== String(text)) cell.textContent = text;
  });
}

const number = (value, digits = 0) => [value?.toFixed(digits) ?? "?", true];

function span(milliseconds) {
  const minutes = Math.floor(milliseconds / 60_000);
  const parts = [Math.floor(minutes / 1440) + "d", (Math.floor(minutes / 60) % 24) + "h", (minutes % 60) + "m"];
  return parts.filter((part) => !part.startsWith("0")).join(" ") || "0m";
}

/** Says what is seen. Screen readers are told only when all is well, or no longer. */
function drawSummary() {
  const { summary, failure, owned, partitions } = fleet;
  const isWell = partitions?.length > 0 && owned === partitions.length;
  const state = failure ? "failed" : isWell ? "well" : "unwell";
  const told = failure ?? (isWell ? "All partitions are owned" : "Not all partitions are owned");
  if (at("state").textContent !== told) at("state").textContent = told;
  at("summary").dataset.state = state;
  at("summary").textContent = failure ?? summary ?? "Looking at the fleet";
}

function drawEvents() {
  drawChart(at("events"), fleet.events, fleet.looks);
  at("events-most").textContent = `at most ${Math.max(...fleet.events, 0)} in the last minutes`;
}

function drawWorkers(colours) {
  const body = at("workers").tBodies[0];
  const most = Math.max(...Object.values(fleet.events_of).flat(), 1);
  const rows = keep(body, fleet.workers.map((worker) => worker.node), () => make("tr"));
  rows.forEach((row, place) => {
    const worker = fleet.workers[place];
    const { state } = worker;
    setCells(row, [
      [worker.node], [state], number(worker.status?.partitions.length), number(worker.rooms),
      number(worker.events, 1), [""], number(worker.status?.takeovers), number(worker.status?.moves),
      [worker.weight ?? "-", true], [worker.pinned || "-"], [span(fleet.at - worker.started)], [worker.address],
    ]);
    row.cells[1].dataset.state = state;
    drawColour(row.cells[0], colours.get(worker.node));
    drawLooks(row.cells[5], fleet.events_of[worker.node] ?? [], most);
    drawDrain(row, worker.node, state);
  });
}

function drawColour(cell, hue) {
  let swatch = cell.querySelector(".swatch");
  if (!swatch) cell.prepend((swatch = make("span", { className: "swatch" })));
  swatch.style.setProperty("--hue", hue);
}

/** The cell holds a chart, whose text is empty. */
function drawLooks(cell, looks, most) {
  const chart = cell.querySelector("div") ?? cell.appendChild(make("div"));
  drawChart(chart, looks, fleet.looks, most);
}

function drawDrain(row, worker, state) {
  const cell = row.cells[12] ?? row.appendChild(make("td"));
  const button = cell.querySelector("button") ?? cell.appendChild(make("button", { type: "button" }));
  const undo = state === "drained";
  button.hidden = state === "silent";
  button.textContent = undo ? "Take part again" : "Drain";
  button.onclick = () => {
    if (undo || confirm(`Have ${worker} hand over all that it owns?`)) attempt(() => ask("/drain", { worker, undo }));
  };
}

function drawMap(colours) {
  const most = Math.max(...fleet.partitions.map(({ status }) => status?.events ?? 0), 1);
  const keys = fleet.partitions.map(({ partition }) => partition);
  const begin = (key) => make("button", { type: "button", onclick: () => choose(Number(key)) }, String(key),
    make("span", { className: "bar" }));
  keep(at("map"), keys, begin).forEach((button, place) => {
    const { partition, owner, epoch, state, status } = fleet.partitions[place];
    const events = status?.events ?? 0;
    button.dataset.state = state;
    button.style.setProperty("--hue", colours.get(owner) ?? 0);
    button.setAttribute("aria-pressed", String(partition === chosen));
    button.title = `${partition}: ${state}, ${owner ?? "nobody"}, epoch ${epoch}, ${events.toFixed(1)} events/s`;
    button.querySelector(".bar").style.width = `${(100 * events) / most}%`;
  });
}

function drawPartitions() {
  const body = at("partitions").tBodies[0];
  if (!body.closest("details").open) return;
  const rows = keep(body, fleet.partitions.map(({ partition }) => partition), () => make("tr"));
  rows.forEach((row, place) => {
    const { partition, owner, epoch, state, status } = fleet.partitions[place];
    setCells(row, [
      number(partition), [owner ?? "-"], number(epoch), [state], number(status?.rooms), number(status?.recovering),
      number(status?.events, 1),
    ]);
    row.cells[3].dataset.state = state;
  });
}

function drawChanges() {
  const keyOf = (change) => `${change.at} ${change.partition} ${change.epoch} ${change.to}`;
  const keys = fleet.changes.map(keyOf);
  const changes = new Map(fleet.changes.map((change) => [keyOf(change), change]));
  keep(at("changes"), keys, (key) => {
    const { at: ms, partition, from, to, epoch, is_gone: isGone } = changes.get(key);
    const time = make("time", { dateTime: new Date(ms).toISOString() }, new Date(ms).toLocaleTimeString());
    const text = ` ${partition}: ${from}${isGone ? " (gone)" : ""} → ${to}, epoch ${epoch}`;
    return make("li", { className: isGone ? "gone" : "" }, time, text);
  });
}

function choose(partition) {
  chosen = partition;
  at("rooms").tBodies[0].replaceChildren();
  at("rooms-note").textContent = "";
  draw();
  drawRooms();
  at("partition").scrollIntoView({ block: "nearest" });
}

function drawChosen() {
  at("partition").hidden = chosen === null;
  if (chosen === null) return;
  const seen = fleet.partitions.find(({ partition }) => partition === chosen);
  at("partition-title").textContent = `Partition ${chosen}, owned by ${seen?.owner ?? "nobody"}`;
  // A worker that is chosen stays so when it goes: the partition must not move to another one then.
  const targets = [...new Set(["", ...fleet.workers.map(({ node }) => node), at("move-to").value])];
  keep(at("move-to"), targets, (node) => make("option", { value: node }, node || "where it belongs"));
}

/** Shows the rooms of the chosen partition, the busiest first. */
async function drawRooms() {
  if (chosen === null) return;
  const wanted = chosen;
  let rooms = [];
  let note = "";
  try {
    const answer = await ask(`/partitions/${wanted}/rooms`);
    rooms = answer.rooms.slice(0, 200);
    note = rooms.length ? "" : "No room is live here.";
    if (answer.all > rooms.length) note = `${answer.all - rooms.length} more`;
  } catch (error) {
    note = error.message;
  }
  if (wanted !== chosen) return;
  at("rooms-note").textContent = note;
  keep(at("rooms").tBodies[0], rooms.map(({ room }) => room), () => make("tr")).forEach((row, place) => {
    const { room, active, members, online, queue, events } = rooms[place];
    const state = active ? "active" : "open";
    setCells(row, [[room], [state], number(members), number(online), number(queue), number(events, 2)]);
  });
}

function draw() {
  drawSummary();
  if (!fleet.summary) return;
  const colours = hues(fleet.workers.map(({ node }) => node));
  drawEvents();
  drawWorkers(colours);
  drawMap(colours);
  drawPartitions();
  drawChanges();
  drawChosen();
}

async function look() {
  try {
    fleet = await ask("/fleet");
    draw();
    await drawRooms();
  } catch (error) {
    const told = error.name === "TimeoutError" ? "The server of this page does not answer" : error.message;
    at("summary").dataset.state = "failed";
    at("summary").textContent = told;
    at("state").textContent = told;
  }
  setTimeout(look, EVERY);
}

at("move").onsubmit = (event) => {
  event.preventDefault();
  attempt(() => ask("/move", { partition: chosen, worker: at("move-to").value || null }));
};
at("close-partition").onclick = () => {
  chosen = null;
  draw();
};
at("partitions").closest("details").ontoggle = () => fleet?.summary && drawPartitions();
look();
