//go:build wasip1

// Command service-go logs a line each second until it is stopped.
package main

import (
	"os"
	"strconv"
	"time"
)

func main() {
	for n := 1; ; n++ {
		os.Stdout.WriteString("line " + strconv.Itoa(n) + " " + os.Getenv("GREETING") + "\n")
		time.Sleep(time.Second)
	}
}
