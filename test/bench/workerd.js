// A worker for workerd that answers as the guests do: by itself, or with a guest of the interface cl.
import guest from "guest.wasm";

const encoder = new TextEncoder(), decoder = new TextDecoder();

// instantiate makes an instance whose host functions serve one exchange after the other.
function instantiate() {
  const exchange = { head: null, status: 200, headers: null, body: null };
  let memory;
  const bytes = (ptr, len) => new Uint8Array(memory.buffer, ptr, len);
  const instance = new WebAssembly.Instance(guest, {
    cl: {
      req_head(ptr, cap) {
        bytes(ptr, cap).set(exchange.head.subarray(0, cap));
        return exchange.head.length;
      },
      resp_head(status, ptr, len) {
        exchange.status = status;
        exchange.headers = decoder.decode(bytes(ptr, len)).trim().split("\n").map((line) => line.split(": "));
        return 0;
      },
      body_write(ptr, len) {
        exchange.body = bytes(ptr, len).slice();
        return len;
      },
      log() {},
    },
    wasi_snapshot_preview1: {
      environ_sizes_get(count, size) {
        new DataView(memory.buffer).setUint32(count, 0, true);
        new DataView(memory.buffer).setUint32(size, 0, true);
        return 0;
      },
      environ_get() { return 0; },
      random_get(ptr, len) {
        crypto.getRandomValues(bytes(ptr, len));
        return 0;
      },
    },
  });
  memory = instance.exports.memory;
  instance.exports._initialize?.();
  return { exchange, handle: instance.exports.cl_handle };
}

let kept;

export default {
  fetch(request, env) {
    if (env.WAY === "workerd-js") {
      return new Response("hello from JavaScript\n", { headers: { "content-type": "text/plain" } });
    }
    const { exchange, handle } = env.WAY === "workerd-isolated" ? instantiate() : (kept ??= instantiate());
    const url = new URL(request.url);
    let head = `${request.method} ${url.pathname}${url.search}\n`;
    for (const [name, value] of request.headers) head += `${name}: ${value}\n`;
    exchange.head = encoder.encode(head);
    handle();
    return new Response(exchange.body, { status: exchange.status, headers: exchange.headers });
  },
};
