/* The guest's side of cloudless:http/v1 for C; one source file of a module includes it.
 *
 *	static void handle(void) { cl_respond(200, "content-type: text/plain\n"); cl_print("hello\n"); }
 *	CL_HANDLE(handle)
 *
 * A request starts from an image of the module, so a generator that was seeded before would give every
 * request the same numbers: cl_resume seeds cl_random anew. rand() of the C library is seeded too;
 * whatever else keeps a seed of its own is not.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CL_IMPORT(name) __attribute__((import_module("cl"), import_name(#name)))
CL_IMPORT(req_head) int cl_req_head(char *ptr, int cap);
CL_IMPORT(body_read) int cl_body_read(char *ptr, int cap);
CL_IMPORT(resp_head) int cl_resp_head(int status, const char *ptr, int len);
CL_IMPORT(body_write) int cl_body_write(const char *ptr, int len);
CL_IMPORT(flush) void cl_flush(void);
CL_IMPORT(log) void cl_log(int level, const char *ptr, int len);
CL_IMPORT(fetch_open) int cl_fetch_open(const char *ptr, int len);
CL_IMPORT(fetch_write) int cl_fetch_write(int fetch, const char *ptr, int len);
CL_IMPORT(fetch_head) int cl_fetch_head(int fetch, char *ptr, int cap);
CL_IMPORT(fetch_read) int cl_fetch_read(int fetch, char *ptr, int cap);
CL_IMPORT(fetch_close) int cl_fetch_close(int fetch);
CL_IMPORT(kv_get) int cl_kv_get(const char *bucket, int bucket_len, const char *key, int key_len, char *ptr, int cap, char *etag);
CL_IMPORT(kv_set) int cl_kv_set(const char *bucket, int bucket_len, const char *key, int key_len, const char *ptr, int len, int mode, char *etag);
CL_IMPORT(kv_delete) int cl_kv_delete(const char *bucket, int bucket_len, const char *key, int key_len, int mode, char *etag);
CL_IMPORT(kv_list) int cl_kv_list(const char *bucket, int bucket_len, const char *prefix, int prefix_len, const char *after, int after_len, char *ptr, int cap);
CL_IMPORT(blob_open) int cl_blob_open(const char *bucket, int bucket_len, const char *key, int key_len, int64_t offset, int64_t length, char *info);
CL_IMPORT(blob_read) int cl_blob_read(int blob, char *ptr, int cap);
CL_IMPORT(blob_create) int cl_blob_create(const char *bucket, int bucket_len, const char *key, int key_len, int mode, char *etag);
CL_IMPORT(blob_write) int cl_blob_write(int blob, const char *ptr, int len);
CL_IMPORT(blob_commit) int cl_blob_commit(int blob, char *etag);
CL_IMPORT(blob_close) int cl_blob_close(int blob);

/* How a change of a bucket depends on what is there, and the answers that it may get with its sign turned. */
enum { CL_ALWAYS, CL_IF_ABSENT, CL_IF_MATCH };
enum { CL_ABSENT = 2, CL_EXISTS = 17, CL_STALE = 116, CL_ETAG = 64 };

enum { CL_DEBUG, CL_INFO, CL_WARN, CL_ERROR };

/* cl_respond sends the status and fields, "name: value\n" each; 0 or an errno. */
static inline int cl_respond(int status, const char *fields) { return cl_resp_head(status, fields, strlen(fields)); }

/* cl_write sends all of the bytes; 0 once the client is gone. */
static inline int cl_write(const char *p, int len) {
	for (int took; len > 0; p += took, len -= took)
		if ((took = cl_body_write(p, len)) <= 0) return 0;
	return 1;
}

static inline int cl_print(const char *text) { return cl_write(text, strlen(text)); }

/* cl_line puts the request's first line, "METHOD URI", into line, cut to size, and returns its length. */
static inline int cl_line(char *line, int size) {
	int len = cl_req_head(line, size);
	if (len > size) len = size;
	char *end = memchr(line, '\n', len);
	return end ? (int)(end - line) : len;
}

/* cl_get reads a value as cl_kv_get does, and cl_swap writes one if what is there is still what etag names;
 * an empty etag is nothing at all. A result of CL_ABSENT, CL_EXISTS or CL_STALE below zero is to begin again. */
static inline int cl_get(const char *bucket, const char *key, char *ptr, int cap, char etag[CL_ETAG]) {
	etag[0] = 0;
	return cl_kv_get(bucket, strlen(bucket), key, strlen(key), ptr, cap, etag);
}

static inline int cl_swap(const char *bucket, const char *key, const char *ptr, int len, char etag[CL_ETAG]) {
	return cl_kv_set(bucket, strlen(bucket), key, strlen(key), ptr, len, etag[0] ? CL_IF_MATCH : CL_IF_ABSENT, etag);
}

static uint64_t cl_seed; /* of xorshift64*, never 0 */

static void cl_reseed(void) {
	do getentropy(&cl_seed, sizeof cl_seed);
	while (cl_seed == 0);
	srand((unsigned)(cl_seed >> 32));
}

/* cl_random is the next number of a generator that is quick, and not for secrets: take getentropy there. */
static inline uint64_t cl_random(void) {
	if (cl_seed == 0) cl_reseed();
	cl_seed ^= cl_seed >> 12;
	cl_seed ^= cl_seed << 25;
	cl_seed ^= cl_seed >> 27;
	return cl_seed * 0x2545f4914f6cdd1dULL;
}

/* CL_HANDLE makes a function what is called for each request. */
#define CL_HANDLE(handle) \
	__attribute__((export_name("cl_resume"))) void cl_resume(void) { cl_reseed(); } \
	__attribute__((export_name("cl_handle"))) void cl_handle(void) { handle(); }
