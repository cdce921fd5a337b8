//go:build wasip1

// Command echo-wagi-go answers every request with the request's body, by WAGI: from standard input to
// standard output, after a CGI head.
package main

import (
	"io"
	"os"
)

func main() {
	if _, err := os.Stdout.WriteString("Content-Type: application/octet-stream\n\n"); err != nil {
		os.Exit(1)
	}
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		os.Exit(1)
	}
}
