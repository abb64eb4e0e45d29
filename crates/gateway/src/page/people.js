// Who is in a room and who of them is online, and what admins and owners may do with them.

import { at, attempt, button, confirm, make, setText } from "/elements.js";

/** Who is online is asked for again this often while it is shown. */
const REFRESH = 30_000;

export class People {
  #sendpi;
  #room;
  #members = [];
  #next = null;
  #loading;
  #again = false;

  constructor(sendpi) {
    this.#sendpi = sendpi;
    at("people").ontoggle = () => this.load();
    at("more-members").onclick = () => attempt(this.#more());
    setInterval(() => this.#refresh(), REFRESH);
  }

  /** The users whom the last page named. */
  get names() {
    return this.#members.map(({ user }) => user);
  }

  show(room) {
    this.#room = room;
    this.#members = [];
    this.#next = null;
    this.#render();
    this.load();
  }

  /** Tells that the room has changed: its members, or what the user may do. */
  changed(event) {
    if (["joined", "left", "changed"].includes(event?.kind)) this.load();
    this.#rights();
  }

  /** Loads the first page, one load at a time. */
  async load() {
    if (!this.#room) return;
    if (this.#loading) return void (this.#again = true);
    this.#loading = true;
    const room = this.#room;
    try {
      const page = await room.members();
      if (room === this.#room) {
        this.#members = page.members;
        this.#next = page.next;
        this.#render();
      }
    } catch {
      // Shown again with the next change, or after the pause.
    }
    this.#loading = false;
    if (this.#again || room !== this.#room) {
      this.#again = false;
      this.load();
    }
  }

  /** Asks who is online, unless that would take away what is being used. */
  #refresh() {
    const isUsed = at("members").contains(document.activeElement) || this.#members.length > 100;
    if (at("people").open && !document.hidden && !isUsed) this.load();
  }

  async #more() {
    const room = this.#room;
    const page = await room.members(this.#next);
    if (room !== this.#room) return;
    this.#members.push(...page.members);
    this.#next = page.next;
    this.#render();
  }

  #rights() {
    const info = this.#room?.info;
    at("invite").hidden = info?.kind !== "group" || info.role === "member";
    at("leave").hidden = info?.kind !== "group";
  }

  #render() {
    this.#rights();
    const online = this.#members.filter((member) => member.online).length;
    const count = this.#room?.info.members ?? 0;
    setText(at("people-summary"), `People: ${count}${this.#members.length ? `, ${online} online` : ""}`);
    at("members").replaceChildren(...this.#members.map((member) => this.#item(member)));
    at("more-members").hidden = !this.#next;
  }

  #item({ user, role, online }) {
    const room = this.#room;
    const state = make("span", { className: online ? "online" : "offline" }, online ? "online" : "offline");
    const item = make("li", {}, make("span", { className: "name", dir: "auto" }, user), state);
    const isOther = user !== this.#sendpi.user;
    const own = room.info.role;
    if (own === "owner" && isOther && room.info.kind === "group") {
      const select = make("select", { onchange: () => attempt(room.giveRole(user, select.value)) });
      select.append(...["member", "admin", "owner"].map((value) => make("option", { value }, value)));
      select.value = role;
      select.setAttribute("aria-label", `Role of ${user}`);
      item.append(select);
    } else if (role !== "member") {
      item.append(make("span", { className: "role" }, role));
    }
    const mayKick = isOther && room.info.kind === "group" && (own === "owner" ? role !== "owner" : role === "member");
    if (own !== "member" && mayKick) {
      const kick = async () => (await confirm(`Remove ${user} from the room?`)) && attempt(room.kick(user));
      item.append(button("Remove", kick, { ariaLabel: `Remove ${user}` }));
    }
    return item;
  }
}
