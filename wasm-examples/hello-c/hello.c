/* hello in C for cloudless:http/v1 (GUEST-ABI.md): answers every request with a greeting. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("cl"), import_name(#name)))
IMPORT(req_head) int cl_req_head(char *ptr, int cap);
IMPORT(resp_head) int cl_resp_head(int status, const char *ptr, int len);
IMPORT(body_write) int cl_body_write(const char *ptr, int len);
IMPORT(log) void cl_log(int level, const char *ptr, int len);

__attribute__((export_name("cl_handle"))) void cl_handle(void) {
	char head[2048], line[160];
	int len = cl_req_head(head, sizeof head);
	if (len > (int)sizeof head) len = sizeof head;
	char *end = memchr(head, '\n', len);
	int first = end ? (int)(end - head) : len;
	cl_log(1, head, first);

	const char *greeting = getenv("GREETING");
	const char type[] = "content-type: text/plain\n";
	cl_resp_head(200, type, sizeof type - 1);
	int n = snprintf(line, sizeof line, "hello from C %s\n", greeting ? greeting : "");
	cl_body_write(line, n);
}
