// The object store on the dashboard: how it fares, its buckets, and the objects of one bucket folder by
// folder, to download and to delete.

const downloadMost = 256 * 2 ** 20; // the page holds a download in memory
const healthEvery = 10_000;
const objectsShown = 200;

const units = [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];
export function size(bytes) {
  const [name, unit] = units.find(([, u]) => bytes >= u) ?? ["B", 1];
  return `${unit === 1 ? bytes : (bytes / unit).toFixed(1)} ${name}`;
}

// upkeep tells what is wrong with copies, and what is being done about it.
function upkeep(u) {
  if (!u) return [];
  return [
    u.missing && `${u.missing} copies of ${u.short} chunks missing`, u.lost && `${u.lost} chunks lost`,
    u.copying && `${u.copying} being copied, ${u.copied} done`, u.misplaced && `${u.misplaced} to move`,
  ].filter(Boolean);
}

const pathOf = (o) => `/v1/objects/${encodeURIComponent(o.bucket)}/${encodeURIComponent(o.key)}`;

export function storage({ request, keep, pause, row, button, byId }, signal) {
  let place = { bucket: "", prefix: "" };

  // attempt runs what a click asks for, and tells what went wrong with it.
  async function attempt(act) {
    byId("storage-error").textContent = "";
    try {
      await act();
    } catch (error) {
      if (!signal.aborted) byId("storage-error").textContent = error.message;
    }
  }

  const go = (bucket, prefix = "") => attempt(() => { place = { bucket, prefix }; return show(""); });
  const json = async (path) => (await request(path, signal)).json();

  function title(...names) {
    byId("objects-head").replaceChildren(row(names, "th"));
  }

  function crumbs() {
    const { bucket, prefix } = place;
    const parts = prefix.split("/").slice(0, -1);
    byId("place").replaceChildren(
      button("Buckets", () => go("")),
      ...(bucket ? [button(bucket, () => go(bucket))] : []),
      ...parts.map((name, i) => button(`${name}/`, () => go(bucket, parts.slice(0, i + 1).join("/") + "/"))),
    );
  }

  async function showBuckets(asked) {
    const { items } = await json("/v1/buckets?limit=10000");
    if (place !== asked) return; // somebody has gone elsewhere meanwhile
    title("Bucket", "Objects", "Size", "Copies");
    byId("objects").replaceChildren(...items.map((b) => row([
      button(b.name, () => go(b.name)), b.usage.objects, size(b.usage.bytes), b.replicas,
    ])));
  }

  // show lists where we are; after a cursor, the rest of it.
  async function show(cursor) {
    crumbs();
    byId("more").hidden = true; // until there is more to ask for
    const asked = place;
    const { bucket, prefix } = asked;
    if (!bucket) return showBuckets(asked);
    const query = new URLSearchParams({ prefix, cursor, delimiter: "/", limit: objectsShown });
    const page = await json(`/v1/buckets/${encodeURIComponent(bucket)}/objects?${query}`);
    if (place !== asked) return;
    const rows = [
      ...(page.prefixes ?? []).map((p) => row([button(p.slice(prefix.length), () => go(bucket, p))])),
      ...page.items.map((o) => row([
        o.key.slice(prefix.length), size(o.size), o.modified.replace(/[.][0-9]+Z$/, "Z"), o.contentType,
        button("Download", () => attempt(() => download(o))), button("Delete", () => attempt(() => remove(o))),
      ])),
    ];
    title("Key", "Size", "Modified", "Type", "", "");
    if (cursor) byId("objects").append(...rows); else byId("objects").replaceChildren(...rows);
    byId("more").hidden = !page.cursor;
    byId("more").onclick = () => attempt(() => show(page.cursor));
  }

  async function download(o) {
    if (o.size > downloadMost) throw new Error(`${o.key} is too large for a page: cloudless storage object get ${o.bucket} ${o.key}`);
    const bytes = await (await request(pathOf(o), signal)).blob();
    const a = document.createElement("a");
    a.href = URL.createObjectURL(bytes);
    a.download = o.key.split("/").pop() || "object";
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
  }

  async function remove(o) {
    if (!confirm(`Delete ${o.key} of bucket ${o.bucket} (${size(o.size)})?`)) return;
    await request(pathOf(o), signal, { "If-Match": `"${o.etag}"` }, "DELETE");
    await show("");
  }

  keep(async (wentWell) => {
    const r = await json("/v1/storage");
    wentWell();
    byId("storage").textContent = [
      `${r.health}: ${r.objects} objects, ${size(r.used)} of ${size(r.capacity)} used on ${r.nodes.length} nodes`,
      ...upkeep(r.upkeep), ...(r.reasons ?? []),
    ].join("; ");
    byId("storage").className = { ok: "good", degraded: "warn", unavailable: "bad" }[r.health] ?? "";
    await pause(healthEvery, signal);
  }, signal);
  return go("");
}
