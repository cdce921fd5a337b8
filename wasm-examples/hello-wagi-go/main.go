//go:build wasip1

// Command hello-wagi-go answers with a greeting by WAGI: the request is in the environment and on
// standard input, the answer goes to standard output as CGI headers, an empty line and the body.
package main

import "os"

func main() {
	os.Stderr.WriteString(os.Getenv("REQUEST_METHOD") + " " + os.Getenv("PATH_INFO") + "\n")
	answer := "Content-Type: text/plain\n\nhello from Go, by WAGI " + os.Getenv("GREETING") + "\n"
	if _, err := os.Stdout.WriteString(answer); err != nil {
		os.Exit(1)
	}
}
