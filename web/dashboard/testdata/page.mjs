// Runs app.js in a page that is only as real as it needs, against answers of a cluster, and prints what the
// page shows as JSON: the rows of both tables, the events and the summary.
import { readFileSync } from "node:fs";

class Element {
  constructor() { this.children = []; this.listeners = {}; this.textContent = ""; this.className = ""; this.hidden = false; }
  append(...all) { this.children.push(...all); }
  prepend(...all) { this.children.unshift(...all); }
  replaceChildren(...all) { this.children = all; }
  addEventListener(name, f) { this.listeners[name] = f; }
  get lastChild() { return { remove: () => this.children.pop() }; }
  set innerHTML(_) { throw new Error("HTML was written"); }
}

const { workloads, nodes, events } = JSON.parse(readFileSync(0, "utf8"));
const byId = {};
globalThis.document = { getElementById: (id) => (byId[id] ??= new Element()), createElement: () => new Element() };
globalThis.sessionStorage = { getItem: () => "cl_t_s", setItem() {}, removeItem() {} };

const asked = [];
const never = new Promise(() => {});
globalThis.fetch = async (path, { headers }) => {
  const first = !asked.includes(path.split("?")[0]);
  asked.push(path.split("?")[0]);
  if (headers.Authorization !== "Bearer cl_t_s") throw new Error("no token");
  if (!first) return never; // nothing changes any more
  if (path.startsWith("/v1/workloads")) return Response.json({ items: workloads, index: 1 });
  if (path.startsWith("/v1/nodes")) return Response.json({ items: nodes, index: 1 });
  return new Response(new ReadableStream({
    start(out) { out.enqueue(new TextEncoder().encode(events.map((e) => `id: ${e.id}\ndata: ${JSON.stringify(e)}\n\n`).join(""))); },
  }));
};

await import(process.argv[2]);
const rows = (id) => (byId[id]?.children ?? []).map((tr) => tr.children.map((td) => td.textContent));
const shown = () => rows("workloads").length === workloads.length && rows("nodes").length === nodes.length && byId.events?.children.length === events.length;
for (let i = 0; i < 500 && !shown(); i++) await new Promise((done) => setTimeout(done, 10));
console.log(JSON.stringify({
  workloads: rows("workloads"), nodes: rows("nodes"), events: byId.events.children.map((li) => li.textContent), summary: byId.summary.textContent,
}));
process.exit(0);
