// Command cloudless is the one binary: the command line, and every role of a cluster.
package main

import (
	"os"

	"github.com/cloudless/cloudless/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
