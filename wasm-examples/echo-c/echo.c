/* Echo in C: answers every request with the request's body. */
#include "../lib/c/cloudless.h"

/* Streams: a body larger than the guest's memory passes through the one buffer. */
static void echo(void) {
	char buffer[16384];
	int n;
	while ((n = cl_body_read(buffer, sizeof buffer)) > 0)
		if (!cl_write(buffer, n)) return; /* the client is gone */
}

CL_HANDLE(echo)
