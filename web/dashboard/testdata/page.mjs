// Runs app.js in a page that is only as real as it needs, against answers of a cluster, and prints what the
// page shows as JSON: the rows of its tables, the summary, why the first workload runs where it does, and what it asked of the store.
import { readFileSync } from "node:fs";

class Element {
  constructor() { this.children = []; this.listeners = {}; this.textContent = ""; this.className = ""; this.hidden = false; }
  append(...all) { this.children.push(...all); }
  prepend(...all) { this.children.unshift(...all); }
  replaceChildren(...all) { this.children = all; }
  addEventListener(name, f) { this.listeners[name] = f; }
  click() { return this.listeners.click?.(); }
  get text() { return this.textContent + this.children.map((c) => c.text).join(""); }
  get lastChild() { return { remove: () => this.children.pop() }; }
  set innerHTML(_) { throw new Error("HTML was written"); }
}

const { workloads, nodes, events, buckets, objects, report, explanation } = JSON.parse(readFileSync(0, "utf8"));
const byId = {};
globalThis.document = { getElementById: (id) => (byId[id] ??= new Element()), createElement: () => new Element() };
globalThis.sessionStorage = { getItem: () => "cl_t_s", setItem() {}, removeItem() {} };

globalThis.confirm = () => true;
const asked = [], ofStore = [];
const never = new Promise(() => {});
let held = Promise.resolve(); // objects come after it
globalThis.fetch = async (path, { headers, method }) => {
  if (headers.Authorization !== "Bearer cl_t_s") throw new Error("no token");
  if (path === "/v1/storage") return Response.json(report);
  if (path.startsWith("/v1/buckets?")) return Response.json({ items: buckets, index: 1 });
  if (path.endsWith("/explain")) return Response.json(explanation);
  if (path.startsWith("/v1/buckets/") || path.startsWith("/v1/objects/")) {
    ofStore.push(`${method} ${path} ${headers["If-Match"] ?? ""}`);
    await held;
    return path.startsWith("/v1/buckets/") ? Response.json(objects) : new Response(null, { status: 204 });
  }
  const first = !asked.includes(path.split("?")[0]);
  asked.push(path.split("?")[0]);
  if (!first) return never; // nothing changes any more
  if (path.startsWith("/v1/workloads")) return Response.json({ items: workloads, index: 1 });
  if (path.startsWith("/v1/nodes")) return Response.json({ items: nodes, index: 1 });
  return new Response(new ReadableStream({
    start(out) { out.enqueue(new TextEncoder().encode(events.map((e) => `id: ${e.id}\ndata: ${JSON.stringify(e)}\n\n`).join(""))); },
  }));
};

await import(process.argv[2]);
const rows = (id) => (byId[id]?.children ?? []).map((tr) => tr.children.map((td) => td.text));
const shown = () => rows("workloads").length === workloads.length && rows("nodes").length === nodes.length && byId.events?.children.length === events.length;
const until = async (there) => { for (let i = 0; i < 500 && !there(); i++) await new Promise((done) => setTimeout(done, 10)); };
await until(shown);
await until(() => rows("objects").length > 0);
const inBuckets = rows("objects");
const press = (tr, text) => byId.objects.children[tr].children.flatMap((td) => td.children).find((b) => b.textContent === text).click();
await press(0, buckets[0].name);
const inBucket = rows("objects");
await press(1, "Delete");
await byId.workloads.children[0].children.flatMap((td) => td.children)[0].click();
const why = { title: byId["why-title"].textContent, replicas: rows("why-replicas"), nodes: rows("why-nodes"), hidden: byId.why.hidden };
byId["why-close"].onclick();
const place = byId.place.children.map((b) => b.textContent);
let release;
held = new Promise((done) => { release = done; });
const late = byId.place.children[1].click(); // the bucket, whose objects come when somebody has gone elsewhere
await byId.place.children[0].click();
release();
await late;
console.log(JSON.stringify({
  workloads: rows("workloads"), nodes: rows("nodes"), events: rows("events"), summary: byId.summary.textContent,
  storage: byId.storage.textContent, buckets: inBuckets, objects: inBucket, place, last: rows("objects"), asked: ofStore, why, closed: byId.why.hidden,
}));
process.exit(0);
