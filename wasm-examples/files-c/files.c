/* Files in C: GET answers with a file of its volumes, PUT writes one, DELETE removes it (docs/VOLUMES.md). */
#include <errno.h>
#include <stdio.h>

#include "../lib/c/cloudless.h"

static void fail(int status) {
	cl_respond(status, "content-type: text/plain\n");
	cl_print(strerror(errno));
	cl_print("\n");
}

/* Both ways stream: a file larger than the guest's memory passes through one buffer. */
static void get(const char *path) {
	char buffer[16384];
	size_t n;
	FILE *f = fopen(path, "rb");
	if (!f) {
		fail(404);
		return;
	}
	while ((n = fread(buffer, 1, sizeof buffer, f)) > 0)
		if (!cl_write(buffer, n)) break; /* the client is gone */
	fclose(f);
}

static void put(const char *path) {
	char buffer[16384];
	int n, written = 1;
	FILE *f = fopen(path, "wb");
	if (!f) {
		fail(507);
		return;
	}
	while (written && (n = cl_body_read(buffer, sizeof buffer)) > 0) written = fwrite(buffer, 1, n, f) == (size_t)n;
	if (!written || fflush(f) != 0) fail(507); /* the volume is full */
	fclose(f);
}

static void handle(void) {
	char line[1100];
	int len = cl_line(line, sizeof line - 1);
	line[len] = 0;
	if (strncmp(line, "GET ", 4) == 0)
		get(line + 4);
	else if (strncmp(line, "PUT ", 4) == 0)
		put(line + 4);
	else if (strncmp(line, "DELETE ", 7) == 0 && remove(line + 7) != 0)
		fail(404);
}

CL_HANDLE(handle)
