//go:build wasip1

// Command hello-listener-go is an ordinary net/http server. Its listener is file descriptor 3, where the
// host's connections arrive; there is no port.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"
)

func main() {
	if err := syscall.SetNonblock(3, true); err != nil { // or a wait on it would stop all goroutines
		log.Fatal(err)
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from net/http, %s\n", r.URL.Path)
	})
	http.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	log.Fatal(http.Serve(l, nil))
}
