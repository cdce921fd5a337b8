/* hello in C for WAGI: the request is in the environment and on standard input, the answer goes to
   standard output as CGI headers, an empty line and the body. */
#include <stdio.h>
#include <stdlib.h>

static const char *env(const char *name) {
	const char *value = getenv(name);
	return value ? value : "";
}

int main(void) {
	fprintf(stderr, "%s %s\n", env("REQUEST_METHOD"), env("PATH_INFO"));
	printf("Content-Type: text/plain\n\nhello from C, by WAGI %s\n", env("GREETING"));
	return 0;
}
