// hello in AssemblyScript: answers every request with a greeting, /random with a random number.
import { INFO, getenv, log, random, requestLine, respond, write } from "../lib/as/cloudless";
export { cl_resume } from "../lib/as/cloudless";

// What is made out here is in the image that each request starts from.
const greeting = "hello from AssemblyScript " + getenv("GREETING") + "\n";

export function cl_handle(): void {
  const line = requestLine();
  log(INFO, line);
  respond(200, "content-type: text/plain\n");
  write(line == "GET /random" ? random().toString() + "\n" : greeting);
}
