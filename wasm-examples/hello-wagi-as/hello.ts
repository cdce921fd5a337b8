// hello in AssemblyScript for WAGI: the request is in the environment and on standard input, the answer
// goes to standard output as CGI headers, an empty line and the body.
import { getenv } from "../lib/as/cloudless";

@external("wasi_snapshot_preview1", "fd_write") declare function fdWrite(fd: i32, pieces: usize, count: i32, written: usize): i32;

const STDOUT: i32 = 1, STDERR: i32 = 2;

// WASI may take less than it is given.
function print(fd: i32, text: string): void {
  const bytes = String.UTF8.encode(text);
  const piece = new StaticArray<usize>(2), written = new StaticArray<usize>(1);
  piece[0] = changetype<usize>(bytes);
  piece[1] = bytes.byteLength;
  while (piece[1] > 0 && fdWrite(fd, changetype<usize>(piece), 1, changetype<usize>(written)) == 0) {
    piece[0] += written[0];
    piece[1] -= written[0];
  }
}

print(STDERR, getenv("REQUEST_METHOD") + " " + getenv("PATH_INFO") + "\n");
print(STDOUT, "Content-Type: text/plain\n\nhello from AssemblyScript, by WAGI " + getenv("GREETING") + "\n");
