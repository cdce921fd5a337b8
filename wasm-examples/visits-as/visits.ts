// Visits in AssemblyScript: counts its visits in a bucket, by compare-and-set.
import { ABSENT, Bucket, EXISTS, STALE, respond, write } from "../lib/as/cloudless";
export { cl_resume } from "../lib/as/cloudless";

const sessions = new Bucket("sessions");

// The number of visits, this one included, or an errno below zero.
function count(): i64 {
  const buffer = new ArrayBuffer(32);
  let visits: i64 = 0;
  let error = -STALE;
  while (error == -STALE || error == -EXISTS || error == -ABSENT) {
    const length = sessions.get("visits", buffer);
    if (length < 0 && length != -ABSENT) return length;
    visits = length > 0 ? I64.parseInt(String.UTF8.decode(buffer.slice(0, length))) + 1 : 1;
    error = sessions.swap("visits", String.UTF8.encode(visits.toString()));
  }
  return error == 0 ? visits : error;
}

export function cl_handle(): void {
  const visits = count();
  if (visits < 0) respond(503, ""); // the workload's log says why
  write(visits < 0 ? "not counted: errno " + (-visits).toString() + "\n" : visits.toString() + "\n");
}
