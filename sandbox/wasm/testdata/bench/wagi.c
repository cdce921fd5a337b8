/* A greeting by WAGI: what each request has to make anew is small. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
	printf("Content-Type: text/plain\n\nhello from C %s\n", getenv("REQUEST_METHOD"));
	return 0;
}
