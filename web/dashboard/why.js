// Why the replicas of a workload are where they are and not elsewhere: what 'cloudless workload explain' tells, and the replicas.
// It is looked at again whenever workloads have changed.

export function why({ request, row, toned, byId }, signal) {
  let shown = null;

  function close() {
    shown = null;
    byId("why").hidden = true;
  }

  const refOf = ({ namespace, name }) => `${namespace}/${name}`;
  const score = (parts) => Object.entries(parts ?? {}).map(([name, n]) => `${name} ${n.toFixed(1)}`).join(", ");
  const reason = (n) => (n.filter ? `${n.filter}: ${n.reason}` : n.reason || score(n.score?.parts));

  // nodesOf is a row for each node, the best first, those that were refused last.
  function nodesOf(explanation) {
    const value = (n) => (n.filter ? -1 : n.score?.total ?? 0);
    return [...explanation.nodes].sort((a, b) => value(b) - value(a)).map((n) => row([
      n.node, n.variant, n.filter ? "" : (n.score?.total ?? 0).toFixed(1), reason(n),
    ]));
  }

  function replicasOf({ status }) {
    return (status?.replicas ?? []).map((r) => row([r.id, r.node, r.variant, toned(r.state), r.ready ? "yes" : "no", r.restarts, r.reason]));
  }

  async function show(workload) {
    const { namespace, name } = workload.metadata;
    byId("why-error").textContent = "";
    byId("why").hidden = false;
    try {
      const path = `/v1/workloads/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}/explain`;
      const explanation = await (await request(path, signal)).json();
      if (shown !== refOf(workload.metadata)) return; // another one was opened meanwhile
      byId("why-title").textContent = [`Placement of ${namespace}/${name}`, explanation.message].filter(Boolean).join(": ");
      byId("why-replicas").replaceChildren(...replicasOf(workload));
      byId("why-nodes").replaceChildren(...nodesOf(explanation));
    } catch (error) {
      if (!signal.aborted) byId("why-error").textContent = error.message;
    }
  }

  close();
  byId("why-close").onclick = close;
  let workloads = [];
  const find = () => workloads.find((w) => shown === refOf(w.metadata));
  return {
    open(metadata) {
      shown = refOf(metadata);
      return show(find());
    },
    changed(items) {
      workloads = items;
      if (!shown) return;
      if (find()) show(find()); else close();
    },
  };
}
