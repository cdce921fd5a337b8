/* Visits in C: counts its visits in a bucket, by compare-and-set. */
#include <stdio.h>

#include "../lib/c/cloudless.h"

/* count gives the number of visits, this one included, or an errno below zero. */
static long count(void) {
	char value[32], etag[CL_ETAG];
	for (;;) {
		int len = cl_get("sessions", "visits", value, sizeof value - 1, etag);
		if (len == -CL_ABSENT) len = 0;
		if (len < 0) return len;
		value[len < (int)sizeof value ? len : (int)sizeof value - 1] = 0;
		long visits = strtol(value, NULL, 10) + 1;
		int err = cl_swap("sessions", "visits", value, snprintf(value, sizeof value, "%ld", visits), etag);
		if (err == 0) return visits;
		if (err != -CL_STALE && err != -CL_EXISTS && err != -CL_ABSENT) return err;
	}
}

static void visit(void) {
	char line[64];
	long visits = count();
	if (visits < 0) {
		cl_respond(503, ""); /* the workload's log says why */
		snprintf(line, sizeof line, "not counted: errno %ld\n", -visits);
	} else {
		snprintf(line, sizeof line, "%ld\n", visits);
	}
	cl_print(line);
}

CL_HANDLE(visit)
