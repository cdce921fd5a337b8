// hello in AssemblyScript for cloudless:http/v1: answers every request with a greeting.

@external("cl", "req_head") declare function reqHead(ptr: usize, cap: i32): i32;
@external("cl", "resp_head") declare function respHead(status: i32, ptr: usize, len: i32): i32;
@external("cl", "body_write") declare function bodyWrite(ptr: usize, len: i32): i32;
@external("cl", "log") declare function log(level: i32, ptr: usize, len: i32): void;
@external("wasi_snapshot_preview1", "environ_sizes_get") declare function environSizesGet(count: usize, size: usize): i32;
@external("wasi_snapshot_preview1", "environ_get") declare function environGet(entries: usize, text: usize): i32;

const LEVEL_INFO: i32 = 1;
const fields = String.UTF8.encode("content-type: text/plain\n");

export function cl_handle(): void {
  const head = requestHead();
  log(LEVEL_INFO, changetype<usize>(head), firstLine(head));
  respHead(200, changetype<usize>(fields), fields.byteLength);
  const body = String.UTF8.encode("hello from AssemblyScript " + getenv("GREETING") + "\n");
  bodyWrite(changetype<usize>(body), body.byteLength);
}

// "METHOD URI" and the request's fields, a line each. req_head tells the whole length, so a second
// call gets what the first had no room for.
function requestHead(): ArrayBuffer {
  let head = new ArrayBuffer(2048);
  const length = reqHead(changetype<usize>(head), head.byteLength);
  if (length <= head.byteLength) return head.slice(0, length);
  head = new ArrayBuffer(length);
  reqHead(changetype<usize>(head), length);
  return head;
}

function firstLine(head: ArrayBuffer): i32 {
  const bytes = Uint8Array.wrap(head);
  const end = bytes.indexOf(10);
  return end < 0 ? bytes.length : end;
}

// WASI writes the environment as pointers to texts NAME=value that end in a zero byte.
function getenv(name: string): string {
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
