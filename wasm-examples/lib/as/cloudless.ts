// The guest's side of cloudless:http/v1 for AssemblyScript.
//
//   import { respond, write } from "../lib/as/cloudless";
//   export { cl_resume } from "../lib/as/cloudless";
//   export function cl_handle(): void { respond(200, "content-type: text/plain\n"); write("hello\n"); }
//
// A request starts from an image of the module, so a generator that was seeded before would give every
// request the same numbers: cl_resume, which a module exports as above, seeds random() and Math.random().

@external("cl", "req_head") declare function reqHead(ptr: usize, cap: i32): i32;
@external("cl", "body_read") declare function bodyRead(ptr: usize, cap: i32): i32;
@external("cl", "resp_head") declare function respHead(status: i32, ptr: usize, len: i32): i32;
@external("cl", "body_write") declare function bodyWrite(ptr: usize, len: i32): i32;
@external("cl", "log") declare function logLine(level: i32, ptr: usize, len: i32): void;
@external("cl", "flush") export declare function flush(): void;
@external("cl", "fetch_open") declare function fetchOpen(ptr: usize, len: i32): i32;
@external("cl", "fetch_write") declare function fetchWrite(fetch: i32, ptr: usize, len: i32): i32;
@external("cl", "fetch_head") declare function fetchHead(fetch: i32, ptr: usize, cap: i32): i32;
@external("cl", "fetch_read") declare function fetchRead(fetch: i32, ptr: usize, cap: i32): i32;
@external("cl", "fetch_close") declare function fetchClose(fetch: i32): i32;
@external("cl", "kv_get") declare function kvGet(bucket: usize, bucketLen: i32, key: usize, keyLen: i32, ptr: usize, cap: i32, etag: usize): i32;
@external("cl", "kv_set") declare function kvSet(bucket: usize, bucketLen: i32, key: usize, keyLen: i32, ptr: usize, len: i32, mode: i32, etag: usize): i32;
@external("cl", "kv_delete") declare function kvDelete(bucket: usize, bucketLen: i32, key: usize, keyLen: i32, mode: i32, etag: usize): i32;
@external("cl", "blob_open") declare function blobOpen(bucket: usize, bucketLen: i32, key: usize, keyLen: i32, offset: i64, length: i64, info: usize): i32;
@external("cl", "blob_read") declare function blobRead(blob: i32, ptr: usize, cap: i32): i32;
@external("cl", "blob_create") declare function blobCreate(bucket: usize, bucketLen: i32, key: usize, keyLen: i32, mode: i32, etag: usize): i32;
@external("cl", "blob_write") declare function blobWrite(blob: i32, ptr: usize, len: i32): i32;
@external("cl", "blob_commit") declare function blobCommit(blob: i32, etag: usize): i32;
@external("cl", "blob_close") declare function blobClose(blob: i32): i32;
@external("wasi_snapshot_preview1", "environ_sizes_get") declare function environSizesGet(count: usize, size: usize): i32;
@external("wasi_snapshot_preview1", "environ_get") declare function environGet(entries: usize, text: usize): i32;
@external("wasi_snapshot_preview1", "random_get") declare function randomGet(ptr: usize, len: usize): i32;

export const DEBUG: i32 = 0, INFO: i32 = 1, WARN: i32 = 2, ERROR: i32 = 3;

const usual: i32 = 2048; // room for most heads
const room = memory.data(usual);

// "METHOD URI" and the request's fields, a line each. req_head tells the whole length, so a second
// call gets what the first had no room for.
export function requestHead(): string {
  const length = reqHead(room, usual);
  if (length <= usual) return String.UTF8.decodeUnsafe(room, length);
  const head = new ArrayBuffer(length);
  reqHead(changetype<usize>(head), length);
  return String.UTF8.decode(head);
}

// The first line of the head alone, "METHOD URI", cut where the room for most heads ends.
export function requestLine(): string {
  const length = min(reqHead(room, usual), usual);
  let end = 0;
  while (end < length && load<u8>(room + end) != 0x0a) end++;
  return String.UTF8.decodeUnsafe(room, end);
}

// The number of bytes of the request's body that are in the buffer now; 0 at its end, -1 on an error.
export function read(buffer: ArrayBuffer): i32 {
  return bodyRead(changetype<usize>(buffer), buffer.byteLength);
}

// Sends the status and fields, "name: value\n" each; 0 or an errno.
export function respond(status: i32, fields: string): i32 {
  const text = String.UTF8.encode(fields);
  return respHead(status, changetype<usize>(text), text.byteLength);
}

export function write(text: string): bool {
  const bytes = String.UTF8.encode(text);
  return writeBytes(bytes, bytes.byteLength);
}

// Sends the buffer's first bytes; false once the client is gone.
export function writeBytes(buffer: ArrayBuffer, length: i32): bool {
  for (let sent = 0; sent < length; ) {
    const took = bodyWrite(changetype<usize>(buffer) + <usize>sent, length - sent);
    if (took <= 0) return false;
    sent += took;
  }
  return true;
}

export function log(level: i32, line: string): void {
  const text = String.UTF8.encode(line);
  logLine(level, changetype<usize>(text), text.byteLength);
}

// A request to what the manifest's egress.allow names. Numbers below zero are errno values.
export class Fetch {
  private handle: i32;

  // The head is "METHOD URL\n", then "name: value\n" each.
  constructor(head: string) {
    const text = String.UTF8.encode(head);
    this.handle = fetchOpen(changetype<usize>(text), text.byteLength);
  }
  get error(): i32 { return min(this.handle, 0); }
  write(buffer: ArrayBuffer, length: i32): i32 { return fetchWrite(this.handle, changetype<usize>(buffer), length); }
  head(buffer: ArrayBuffer): i32 { return fetchHead(this.handle, changetype<usize>(buffer), buffer.byteLength); }
  read(buffer: ArrayBuffer): i32 { return fetchRead(this.handle, changetype<usize>(buffer), buffer.byteLength); }
  close(): void { fetchClose(this.handle); }
}

export const ABSENT: i32 = 2, EXISTS: i32 = 17, STALE: i32 = 116;

// One of the buckets that the manifest's spec.buckets grants. Numbers below zero are errno values.
export class Bucket {
  private name: ArrayBuffer;
  // The ETag of what get has read last, 64 bytes; zeros where there was nothing.
  etag: ArrayBuffer = new ArrayBuffer(64);

  constructor(name: string) { this.name = String.UTF8.encode(name); }

  // The length of a value, whose bytes are in the buffer as far as it has room.
  get(key: string, buffer: ArrayBuffer): i32 {
    const k = String.UTF8.encode(key);
    memory.fill(changetype<usize>(this.etag), 0, 64);
    return kvGet(changetype<usize>(this.name), this.name.byteLength, changetype<usize>(k), k.byteLength, changetype<usize>(buffer), buffer.byteLength, changetype<usize>(this.etag));
  }

  // Writes a value if what is there is still what get has read; -STALE, -EXISTS or -ABSENT if it is not.
  swap(key: string, value: ArrayBuffer): i32 {
    const k = String.UTF8.encode(key);
    const mode = load<u8>(changetype<usize>(this.etag)) == 0 ? 1 : 2;
    return kvSet(changetype<usize>(this.name), this.name.byteLength, changetype<usize>(k), k.byteLength, changetype<usize>(value), value.byteLength, mode, changetype<usize>(this.etag));
  }

  remove(key: string): i32 {
    const k = String.UTF8.encode(key);
    return kvDelete(changetype<usize>(this.name), this.name.byteLength, changetype<usize>(k), k.byteLength, 0, 0);
  }

  // A handle to read an object by.
  open(key: string): i32 {
    const k = String.UTF8.encode(key);
    return blobOpen(changetype<usize>(this.name), this.name.byteLength, changetype<usize>(k), k.byteLength, 0, -1, 0);
  }

  // A handle to write an object by; others see it when it is committed.
  create(key: string): i32 {
    const k = String.UTF8.encode(key);
    return blobCreate(changetype<usize>(this.name), this.name.byteLength, changetype<usize>(k), k.byteLength, 0, 0);
  }
}

export function readBlob(blob: i32, buffer: ArrayBuffer): i32 { return blobRead(blob, changetype<usize>(buffer), buffer.byteLength); }
export function writeBlob(blob: i32, buffer: ArrayBuffer, length: i32): i32 { return blobWrite(blob, changetype<usize>(buffer), length); }
export function commitBlob(blob: i32): i32 { return blobCommit(blob, 0); }
export function closeBlob(blob: i32): i32 { return blobClose(blob); }

// WASI writes the environment as pointers to texts NAME=value that end in a zero byte.
export function getenv(name: string): string {
  const sizes = new StaticArray<u32>(2);
  environSizesGet(changetype<usize>(sizes), changetype<usize>(sizes) + 4);
  const entries = new StaticArray<usize>(sizes[0]);
  const text = new ArrayBuffer(sizes[1]);
  if (environGet(changetype<usize>(entries), changetype<usize>(text)) != 0) return "";
  for (let i = 0; i < entries.length; i++) {
    const entry = String.UTF8.decodeUnsafe(entries[i], <usize>sizes[1], true);
    if (entry.startsWith(name + "=")) return entry.substring(name.length + 1);
  }
  return "";
}

let seed: u64 = 0; // of xorshift64*, 0 before the first number
const fresh = memory.data(8);

export function cl_resume(): void {
  do {
    randomGet(fresh, 8);
    seed = load<u64>(fresh);
  } while (seed == 0);
  NativeMath.seedRandom(seed);
}

// The next number of a generator that is quick, and not for secrets.
export function random(): u64 {
  if (seed == 0) cl_resume();
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return seed * 0x2545f4914f6cdd1d;
}
