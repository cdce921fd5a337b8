// Command guest is the program inside the test images: its first argument says how it behaves.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/term"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println("no arguments")
		return
	}
	args := append(os.Args[2:], "", "")
	switch os.Args[1] {
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "forever":
		ready()
		wait := make(chan os.Signal, 1)
		signal.Notify(wait, syscall.SIGTERM, syscall.SIGINT)
		<-wait
	case "stubborn":
		wait := make(chan os.Signal, 1)
		signal.Notify(wait, syscall.SIGTERM)
		ready()
		for range wait {
		}
	case "env":
		fmt.Printf("%s=%s\n", args[0], os.Getenv(args[0]))
	case "show":
		text, err := os.ReadFile(args[0])
		fmt.Print(string(text), err, "\n")
	case "write":
		fmt.Printf("write %s: %v\n", args[0], os.WriteFile(args[0], []byte("x"), 0o600))
	case "id":
		host, _ := os.Hostname()
		dir, _ := os.Getwd()
		fmt.Printf("uid=%d gid=%d host=%s dir=%s args=%q\n", os.Getuid(), os.Getgid(), host, dir, os.Args)
	case "hog":
		hog()
	case "serve":
		http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
		fmt.Println(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
	case "flood": // so many MiB, as fast as it goes
		mib, _ := strconv.Atoi(args[0])
		for range mib {
			os.Stdout.Write(bytes.Repeat([]byte("0123456789abcde\n"), 1<<16))
		}
	case "binary": // every byte value, with no line in it to speak of
		for b := range 256 {
			os.Stdout.Write([]byte{byte(b)})
		}
		os.Stdout.Write(bytes.Repeat([]byte{0xff, 0}, 1<<19)) // and a line of 1 MiB
	case "hello":
		fmt.Println("hello")
		os.Exit(3)
	case "cat":
		n, err := io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintln(os.Stderr, "copied", n, err)
	case "tty":
		tty()
	case "fork":
		fork()
	case "get":
		resp, err := http.Get(args[0])
		fmt.Println("got", resp != nil, err)
	}
}

// ready tells the tests that signals are handled from now on.
func ready() { fmt.Println("ready") }

func hog() {
	var kept [][]byte
	for {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
		if len(kept)%1024 == 0 {
			fmt.Println(len(kept), "MiB")
		}
	}
}

// tty tells the size of its terminal now and after each change, until a line comes in.
func tty() {
	size := func() {
		w, h, err := term.GetSize(0)
		fmt.Printf("size %dx%d %v terminal %v\n", w, h, err, term.IsTerminal(1))
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	size()
	go func() {
		for range changed {
			size()
		}
	}()
	var line string
	fmt.Scanln(&line)
	fmt.Println("line", strings.ToUpper(line))
	os.Exit(7)
}

// fork starts processes until it is refused.
func fork() {
	for n := 0; ; n++ {
		p, err := os.StartProcess("/guest", []string{"/guest", "stubborn"}, &os.ProcAttr{})
		if err != nil {
			fmt.Println("refused after", n, err)
			return
		}
		_ = p
		if n > 2000 {
			fmt.Println("not refused")
			return
		}
	}
}
