// hello in AssemblyScript: answers every request with a greeting, /random with a random number.
import { INFO, getenv, log, random, requestHead, respond, write } from "../lib/as/cloudless";
export { cl_resume } from "../lib/as/cloudless";

export function cl_handle(): void {
  const line = requestHead().split("\n", 1)[0];
  log(INFO, line);
  respond(200, "content-type: text/plain\n");
  write(line == "GET /random" ? random().toString() + "\n" : "hello from AssemblyScript " + getenv("GREETING") + "\n");
}
