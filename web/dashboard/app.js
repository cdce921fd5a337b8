// The dashboard: a token, then three live views, why the replicas of a workload are where they are (why.js), and the object store
// (storage.js). Workloads and nodes come by blocking reads, events by server-sent events over fetch, which unlike EventSource can
// send the token. Everything from the cluster is put into the page as text, never as HTML.

import { size, storage } from "./storage.js";
import { why } from "./why.js";

const tokenKey = "cloudless-token";
const eventsShown = 100;
const byId = (id) => document.getElementById(id);

class Refused extends Error {}

async function request(path, signal, headers = {}, method = "GET") {
  const token = sessionStorage.getItem(tokenKey);
  const answer = await fetch(path, { method, signal, headers: { ...headers, Authorization: `Bearer ${token}` } });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  const message = body.error?.message ?? `the coordinator answered ${answer.status}`;
  throw answer.status === 401 || answer.status === 403 ? new Refused(message) : new Error(message);
}

function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
}

// keep runs step until the signal ends it; after a failure it waits longer each time, up to 10 s.
async function keep(step, signal) {
  let failures = 0;
  while (!signal.aborted) {
    try {
      await step(() => { failures = 0; });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused) return leave(error.message);
      failures++;
      byId("summary").textContent = `Not connected: ${error.message}`;
    }
    if (failures > 0) await pause(Math.min(10_000, 500 * 2 ** failures) * (0.5 + Math.random() / 2), signal);
  }
}

// watch shows a list now and after each change.
function watch(path, show, signal) {
  let index = 0;
  return keep(async (wentWell) => {
    const answer = await request(`${path}?wait=30s&limit=10000&index=${index}`, signal);
    const list = await answer.json();
    index = list.index;
    wentWell();
    show(list.items);
    await pause(200, signal); // a busy cluster changes faster than anyone reads
  }, signal);
}

function row(cells, kind = "td") {
  const tr = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement(kind);
    if (cell?.addEventListener) td.append(cell); else td.textContent = cell?.text ?? String(cell ?? "");
    if (cell?.tone) td.className = cell.tone;
    tr.append(td);
  }
  return tr;
}

const tones = {
  running: "good", complete: "good", ready: "good",
  pending: "warn", degraded: "warn", updating: "warn", deleting: "warn",
  joining: "warn", suspect: "warn", draining: "warn", cordoned: "warn",
  failed: "bad", lost: "bad", error: "bad", warning: "warn",
};
const toned = (text) => ({ text, tone: tones[text] });
const counts = {};
let explain; // shows why a workload runs where it does

function button(text, act) {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  b.addEventListener("click", act);
  return b;
}

function summarise() {
  byId("summary").textContent = Object.entries(counts).map(([what, n]) => `${n} ${what}`).join(", ");
}

function showWorkloads(items) {
  byId("workloads").replaceChildren(...items.map(({ metadata, status }) => row([
    metadata.namespace, button(metadata.name, () => explain.open(metadata)), toned(status?.phase ?? ""),
    `${status?.ready ?? 0}/${status?.desired ?? 0}`,
    [...new Set((status?.replicas ?? []).map((r) => r.node))].join(", "),
    status?.message,
  ])));
  explain.changed(items);
  counts.workloads = items.length;
  summarise();
}

const chunks = (s) => s && `${s.chunks}, ${size(s.used)} of ${size(s.capacity)}${s.full ? ", full" : ""}`;

function showNodes(items) {
  byId("nodes").replaceChildren(...items.map((n) => row([
    n.name, toned(n.state), n.region, n.zone, n.arch,
    [n.runtimes.wasmEngine && "wasm", n.runtimes.containers && "containers"].filter(Boolean).join(", "),
    n.status?.replicas, chunks(n.status?.chunkStore), n.reason,
  ])));
  counts.nodes = items.length;
  summarise();
}

function showEvent(event) {
  const list = byId("events");
  list.prepend(row([event.time.replace(/[.][0-9]+Z$/, "Z"), toned(event.severity), event.type, event.resource, event.message]));
  while (list.children.length > eventsShown) list.lastChild.remove();
}

// follow reads the event stream, and goes on after the last event when it was interrupted.
function follow(signal) {
  let last = "";
  return keep(async (wentWell) => {
    const headers = last ? { "Last-Event-ID": last } : {};
    const answer = await request(`/v1/events?follow=true&limit=${eventsShown}`, signal, headers);
    wentWell();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the stream of events ended");
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) last = take(block) || last;
    }
  }, signal);
}

// take shows the event of one block of the stream and returns its id; a heartbeat has neither.
function take(block) {
  let id = "", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) id = line.slice(4);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data) showEvent(JSON.parse(data));
  return id;
}

let running = new AbortController();

function enter() {
  running.abort();
  running = new AbortController();
  byId("login").hidden = true;
  byId("cluster").hidden = byId("leave").hidden = false;
  byId("events").replaceChildren();
  explain = why({ request, row, toned, byId }, running.signal);
  watch("/v1/workloads", showWorkloads, running.signal);
  watch("/v1/nodes", showNodes, running.signal);
  follow(running.signal);
  storage({ request, keep, pause, row, button, byId }, running.signal);
}

function leave(message = "") {
  running.abort();
  sessionStorage.removeItem(tokenKey);
  byId("login").hidden = false;
  byId("cluster").hidden = byId("leave").hidden = true;
  byId("summary").textContent = "";
  byId("login-error").textContent = message;
}

byId("leave").addEventListener("click", () => leave());
byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(tokenKey, byId("token").value.trim());
  byId("token").value = "";
  enter();
});

if (sessionStorage.getItem(tokenKey)) enter(); else leave();
