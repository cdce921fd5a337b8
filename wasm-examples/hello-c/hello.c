/* hello in C: answers every request with a greeting, /random with a random number. */
#include <stdio.h>
#include "../lib/c/cloudless.h"

static const char *greeting; /* read once: every request starts from what constructors have left */

__attribute__((constructor)) static void configure(void) { greeting = getenv("GREETING"); }

static void hello(void) {
	char line[2048], text[160];
	int len = cl_line(line, sizeof line);
	cl_log(CL_INFO, line, len);
	cl_respond(200, "content-type: text/plain\n");
	if (len == 11 && memcmp(line, "GET /random", 11) == 0) {
		snprintf(text, sizeof text, "%llu\n", (unsigned long long)cl_random());
	} else {
		snprintf(text, sizeof text, "hello from C %s\n", greeting ? greeting : "");
	}
	cl_print(text);
}

CL_HANDLE(hello)
