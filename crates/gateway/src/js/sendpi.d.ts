/** The JavaScript client of Sendpi. The protocol beneath is in docs/protocol.md. */

export interface ConnectOptions {
  /** The address of the gateway: `https://chat.example.org`. */
  url: string | URL;
  /** The token, or a function that returns a fresh one: it is asked at each connection, and before a token expires. */
  token: string | (() => string | Promise<string>);
  /** The name of this device. The same device signing in again ends its older session. */
  device?: string;
  /** Where messages that are not answered yet, and the device's name, are kept. `sessionStorage` where there is one. */
  storage?: Pick<Storage, "getItem" | "setItem">;
  /** How many rooms the first list has (50). */
  rooms?: number;
  /** The WebSocket class, where there is no global one, as in Node before 22. Without either, `connect` throws. */
  WebSocket?: unknown;
}

export type State = "connecting" | "online" | "waiting" | "ended";
export type Role = "owner" | "admin" | "member";
export type Access = "invite" | "open";
export type Notify = "all" | "mentions" | "none";
export interface Mark {
  seq: number;
  count: number;
}

export interface RoomInfo {
  room: string;
  name: string;
  kind: "group" | "direct" | "inbox";
  access: Access;
  role: Role;
  seq: number;
  count: number;
  marker: Mark;
  unread: number;
  notify: Notify;
  muted_until: number | null;
  last_at: number;
  last: { seq: number; kind: string; from: string; at: number; text?: string } | null;
  members: number;
  /** How many days events are kept, if that was chosen for this room. 0 is for ever. */
  retention_days?: number;
}

export interface RoomEvent {
  room: string;
  seq: number;
  count: number;
  /** Kinds that you do not know are counted, and not shown. */
  kind: "message" | "system" | "joined" | "left" | "changed" | "edited" | "deleted" | "reaction" | (string & {});
  from: string;
  at: number;
  nonce?: string;
  body?: { text?: string; [name: string]: unknown };
  mentions?: string[];
  /** The seq of the event that edited this message last. */
  edited?: number;
  /** The seq of the event that deleted this message. */
  deleted?: number;
  ref?: number;
  emoji?: string;
  remove?: boolean;
  users?: string[];
  by?: string;
  reason?: "kicked" | "banned" | "deleted";
  name?: string;
  access?: Access;
  retention_days?: number;
  role?: { user: string; role: Role };
  unbanned?: string;
}

export interface Sent extends Mark {
  at: number;
  /** Whether it had been stored before. */
  repeat?: boolean;
}

export interface Unsent {
  room: string;
  nonce: string;
  body: Record<string, unknown>;
  at: number;
}

/** The refusal of a request, or that there was no answer. */
export class RequestError extends Error {
  /** A code of the protocol, or `disconnected` or `ended`. */
  code: string;
  field?: string;
  /** After how many milliseconds to try again. */
  retryIn?: number;
  /** Whether the same request may succeed later. It may have been carried out already. */
  readonly isTemporary: boolean;
}

export interface Room {
  readonly id: string;
  readonly info: RoomInfo;
  readonly name: string;
  readonly unread: number;
  readonly lastAt: number;
  /** The seq of the newest event. */
  readonly head: number;
  /** The seq up to which nothing is missing, once the room is open. */
  readonly seq: number;
  readonly isOpen: boolean;
  readonly hasEarlier: boolean;
  /** Whether the user is not in the room any more. */
  readonly isGone: boolean;
  /**
   * The events that were loaded, in order, with edits and deletions applied. Beyond 2,000 the oldest are let go as new
   * ones come; `earlier` loads them again.
   */
  readonly events: RoomEvent[];
  /** The messages that are not answered yet. */
  readonly unsent: Unsent[];
  /** Who is typing now. */
  readonly typists: string[];
  event(seq: number): RoomEvent | undefined;
  /** For each emoji the users who reacted with it. */
  reactions(message: RoomEvent): Record<string, string[]>;
  /** Loads the newest events, or those after `after`. From then on each event is told once, in order, without gaps. */
  open(options?: { after?: number }): Promise<Room>;
  earlier(limit?: number): Promise<void>;
  /** Sends a text, or any JSON object. It is sent again, also after a reload, until it is stored or refused. */
  send(body: string | Record<string, unknown>, options?: { mentions?: string[] }): Promise<Sent>;
  edit(seq: number, body: string | Record<string, unknown>): Promise<unknown>;
  delete(seq: number): Promise<unknown>;
  react(seq: number, emoji: string, remove?: boolean): Promise<unknown>;
  /** Tells that the user is typing. It ends by itself. */
  typing(): void;
  /** Marks everything up to `seq`, or all, as read: at most one request a second, the last wins. */
  read(seq?: number): Promise<void>;
  members(cursor?: string, limit?: number): Promise<{
    members: { user: string; role: Role; online: boolean }[];
    next: string | null;
    seq: number;
  }>;
  invite(...users: string[]): Promise<unknown>;
  kick(user: string): Promise<unknown>;
  ban(user: string): Promise<unknown>;
  unban(user: string): Promise<unknown>;
  giveRole(user: string, role: Role): Promise<unknown>;
  change(fields: { name?: string; access?: Access; retention_days?: number }): Promise<unknown>;
  notify(choice: { notify?: Notify; mutedUntil?: number | null }): Promise<void>;
  leave(): Promise<unknown>;
  deleteRoom(): Promise<unknown>;
}

export interface Listeners {
  /** The connection: `reason` says why it has ended for good. */
  state: (state: State, reason?: string) => void;
  /** A room that was not known before. */
  room: (room: Room) => void;
  /** What is known of a room has changed: its name, its unread messages, its settings, earlier events. */
  changed: (room: Room) => void;
  /** An open room was loaded. */
  opened: (room: Room) => void;
  /** An open room was too far behind to be caught up: it begins again at its newest events. */
  reset: (room: Room) => void;
  /** The user is not in a room any more. */
  removed: (room: Room, reason: "left" | "kicked" | "banned" | "deleted") => void;
  /** The next event of an open room. */
  event: (event: RoomEvent, room: Room) => void;
  /** A message of one's own that was refused, also one that an earlier page left. */
  refused: (message: Unsent, error: RequestError) => void;
  /** Who is typing in a room has changed. */
  typing: (room: Room) => void;
  /** The session is up, again. */
  welcome: (frame: Record<string, unknown>) => void;
}

export interface Sendpi {
  readonly state: State;
  readonly reason?: string;
  /** The user of the token, once the session is up. */
  readonly user?: string;
  readonly ready: Promise<Sendpi>;
  /** Newest message first. */
  readonly rooms: Room[];
  readonly hasMoreRooms: boolean;
  room(id: string): Room | undefined;
  moreRooms(limit?: number): Promise<void>;
  create(fields: {
    name?: string;
    members?: string[];
    access?: Access;
    retention_days?: number;
    kind?: "group" | "direct";
    room?: string;
    nonce?: string;
  }): Promise<Room>;
  join(id: string): Promise<Room | undefined>;
  /** Returns a function that ends the listening. */
  on<Name extends keyof Listeners>(name: Name, listener: Listeners[Name]): () => void;
  /** Sends a request of the protocol as it is. */
  request(frame: Record<string, unknown>): Promise<Record<string, unknown>>;
  close(): void;
}

export function connect(options: ConnectOptions): Sendpi;
