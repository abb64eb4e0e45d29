// A program on sendpi.js that tests drive over standard input. It prints each event of its room, what was sent, and the
// state of the connection.
//
//   node node_program.mjs <folder of sendpi.js> <url> <user> <room>

import { createInterface } from "node:readline";

const [folder, url, user, id] = process.argv.slice(2);
const { connect } = await import(`${folder}/sendpi.js`);
const origin = process.env.TOKENS ?? url;
const token = async () => (await fetch(`${origin}/dev/token?user=${user}&seconds=${process.env.SECONDS ?? 3600}`)).text();

const sendpi = connect({ url, token, device: `node-${user}` });
sendpi.on("state", (state, reason) => console.log(`state ${state} ${reason ?? ""}`));
sendpi.on("event", (event) => console.log(`event ${event.seq} ${event.body?.text ?? ""}`));
sendpi.on("typing", (room) => console.log(`typing ${room.typists.join(" ")}.`));
sendpi.on("reset", (room) => console.log(`reset ${room.seq}`));
await sendpi.ready;
const room = sendpi.room(id);
await room.open({ after: 0 });
console.log(`open ${room.seq}`);

const commands = {
  send: (text) => room.send(text),
  typing: () => room.typing(),
  read: () => room.read(),
  close: () => sendpi.close(),
};
for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...words] = line.split(" ");
  const told = (what) => console.log(`${what} ${line}`);
  Promise.resolve(commands[command](words.join(" "))).then(() => told("done"), (error) => told(`failed ${error.code}`));
}
