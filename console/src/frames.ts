// A call by frames, in JSON: docs/protocol.md. It has a connection of its own, which ends with it.

import { socketUrl } from "./service.ts";

const [HELLO, NAME, CALL, REPLY, ERROR, CANCEL, GOAWAY, ITEM, END, CREDIT] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] as const;
const [MORE, METADATA, STREAM, ITEMS] = [1, 2, 8, 16] as const;
const PIECE = 64 * 1024;
const FIRST_CREDIT = 256 * 1024;
/** What each item costs besides its bytes. */
const ITEM_COST = 16;

export interface FrameEvents {
  opened(): void;
  item(text: string): void;
  value(text: string): void;
  ended(): void;
  /** The ERROR, and the function's own error if it is one. */
  failed(error: string, own: string | undefined): void;
  /** The connection ended without an answer. If the call was not sent, it did not run. */
  broken(why: string, wasSent: boolean): void;
  /** The function takes no more items. */
  full(): void;
}

export interface FrameRequest {
  name: string;
  args: string;
  metadata: Record<string, string>;
  timeoutMs: number;
  takes: boolean;
  streams: boolean;
}

const utf8 = new TextEncoder();
const decoder = new TextDecoder();

export class FrameCall {
  private readonly socket: WebSocket;
  private readonly pieces: Uint8Array[] = [];
  private readonly waiting: Uint8Array[] = [];
  private credit = 0;
  private endsAfter = false;
  private isOver = false;
  private wasOpened = false;

  constructor(
    private readonly request: FrameRequest,
    private readonly events: FrameEvents,
  ) {
    this.socket = new WebSocket(socketUrl(), "byname.v1");
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (message) => this.receive(new Uint8Array(message.data as ArrayBuffer));
    this.socket.onclose = ({ code, reason }) => {
      if (this.isOver) return;
      this.isOver = true;
      events.broken(this.wasOpened ? `the connection ended without an answer (${code}${reason ? `, ${reason}` : ""})` : "no connection of frames could be opened", this.wasOpened);
    };
  }

  /** Sends an item when the server has given credit for it. */
  send(item: string): void {
    this.waiting.push(utf8.encode(item));
    this.flush();
  }

  /** Ends the stream that is sent. */
  end(): void {
    this.endsAfter = true;
    this.flush();
  }

  cancel(): void {
    if (this.isOver) return;
    this.isOver = true;
    if (this.socket.readyState === WebSocket.OPEN) this.put(frame(CANCEL, 0, 0, 1, new Uint8Array()));
    this.socket.close(1000);
  }

  /** Whether the function may run. */
  get wasSent(): boolean {
    return this.wasOpened;
  }

  private flush(): void {
    while (this.credit > 0) {
      const item = this.waiting.shift();
      if (item === undefined) break;
      this.credit -= item.length + ITEM_COST;
      this.message(ITEM, 0, 0, item);
    }
    if (this.endsAfter && this.waiting.length === 0 && this.wasOpened) {
      this.endsAfter = false;
      this.put(frame(END, 0, 0, 1, new Uint8Array()));
    }
  }

  private put(bytes: Uint8Array): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(bytes as Uint8Array<ArrayBuffer>);
  }

  private message(kind: number, flags: number, number: number, payload: Uint8Array): void {
    let at = 0;
    do {
      const piece = payload.subarray(at, at + PIECE);
      at += PIECE;
      this.put(frame(kind, at < payload.length ? flags | MORE : flags, number, 1, piece));
    } while (at < payload.length);
  }

  private begin(): void {
    const { name, args, metadata, timeoutMs, takes, streams } = this.request;
    this.put(frame(HELLO, 0, 0, 0, utf8.encode('{"version":1,"codecs":["json"],"message":67108864,"window":67108864}')));
    this.put(frame(NAME, 0, 0, 0, utf8.encode(name)));
    const parts = [uint32(timeoutMs)];
    if (streams) parts.push(uint32(FIRST_CREDIT));
    const headers = utf8.encode(JSON.stringify(metadata));
    parts.push(uint32(headers.length), headers, utf8.encode(args));
    this.message(CALL, METADATA | (streams ? STREAM : 0) | (takes ? ITEMS : 0), 0, joined(parts));
    this.wasOpened = true;
    this.events.opened();
    this.flush();
  }

  private receive(message: Uint8Array): void {
    while (message.length >= 16 && !this.isOver) {
      const header = new DataView(message.buffer, message.byteOffset, 16);
      const end = 16 + header.getUint32(0);
      this.take(header.getUint8(4), header.getUint8(5), message.subarray(16, end));
      message = message.subarray(end);
    }
  }

  private take(kind: number, flags: number, payload: Uint8Array): void {
    switch (kind) {
      case HELLO:
        return this.begin();
      case CREDIT:
        this.credit += new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0);
        return this.flush();
      case CANCEL:
        this.waiting.length = 0;
        return this.events.full();
      case END:
        return this.finish(() => this.events.ended());
      case GOAWAY:
        return;
      case REPLY:
      case ERROR:
      case ITEM: {
        this.pieces.push(payload.slice());
        if (flags & MORE) return;
        const [, rest] = flags & METADATA ? part(joined(this.pieces)) : [undefined, joined(this.pieces)];
        this.pieces.length = 0;
        if (kind === ITEM) {
          this.events.item(decoder.decode(rest));
          this.put(frame(CREDIT, 0, 0, 1, uint32(rest.length + ITEM_COST)));
        } else if (kind === REPLY) {
          this.finish(() => this.events.value(decoder.decode(rest)));
        } else {
          const [error, own] = part(rest);
          this.finish(() => this.events.failed(decoder.decode(error), own.length > 0 ? decoder.decode(own) : undefined));
        }
      }
    }
  }

  private finish(tell: () => void): void {
    this.isOver = true;
    tell();
    this.socket.close(1000);
  }
}

function part(bytes: Uint8Array): [Uint8Array, Uint8Array] {
  const end = 4 + new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
  return [bytes.subarray(4, end), bytes.subarray(end)];
}

function uint32(number: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

function joined(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function frame(kind: number, flags: number, number: number, id: number, payload: Uint8Array): Uint8Array {
  const header = new DataView(new ArrayBuffer(16));
  header.setUint32(0, payload.length);
  header.setUint8(4, kind);
  header.setUint8(5, flags);
  header.setUint16(6, number);
  header.setBigUint64(8, BigInt(id));
  return joined([new Uint8Array(header.buffer), payload]);
}
