/* Echo in C for cloudless:http/v1 (GUEST-ABI.md): answers every request with the request's body. */
#define IMPORT(name) __attribute__((import_module("cl"), import_name(#name)))
IMPORT(body_read) int cl_body_read(char *ptr, int cap);
IMPORT(body_write) int cl_body_write(const char *ptr, int len);

/* Streams: a body larger than the guest's memory passes through the one buffer. */
__attribute__((export_name("cl_handle"))) void cl_handle(void) {
	char buffer[16384];
	int n;
	while ((n = cl_body_read(buffer, sizeof buffer)) > 0) {
		for (int sent = 0, took; sent < n; sent += took) {
			took = cl_body_write(buffer + sent, n - sent);
			if (took <= 0) return; /* the client is gone */
		}
	}
}
