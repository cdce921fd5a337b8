//go:build wasip1

// Command job-go counts to COUNT, a line each, and exits with 0; with 2 if COUNT is not a number.
package main

import (
	"os"
	"strconv"
)

func main() {
	count := 10
	if text := os.Getenv("COUNT"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			os.Stderr.WriteString("COUNT is not a number: " + strconv.Quote(text) + "\n")
			os.Exit(2)
		}
		count = n
	}
	for i := 1; i <= count; i++ {
		os.Stdout.WriteString(strconv.Itoa(i) + " of " + strconv.Itoa(count) + "\n")
	}
}
