// Echo in AssemblyScript: answers every request with the request's body.
import { read, writeBytes } from "../lib/as/cloudless";
export { cl_resume } from "../lib/as/cloudless";

const buffer = new ArrayBuffer(16384);

// Streams: a body larger than the guest's memory passes through the one buffer.
export function cl_handle(): void {
  for (let n = read(buffer); n > 0; n = read(buffer)) {
    if (!writeBytes(buffer, n)) return; // the client is gone
  }
}
