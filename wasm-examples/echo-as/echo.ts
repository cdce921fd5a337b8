// Echo in AssemblyScript for cloudless:http/v1: answers every request with the request's body.

@external("cl", "body_read") declare function bodyRead(ptr: usize, cap: i32): i32;
@external("cl", "body_write") declare function bodyWrite(ptr: usize, len: i32): i32;

const size: i32 = 16384;
const buffer = memory.data(16384);

// Streams: a body larger than the guest's memory passes through the one buffer.
export function cl_handle(): void {
  for (let n = bodyRead(buffer, size); n > 0; n = bodyRead(buffer, size)) {
    for (let sent = 0; sent < n; ) {
      const took = bodyWrite(buffer + <usize>sent, n - sent);
      if (took <= 0) return; // the client is gone
      sent += took;
    }
  }
}
