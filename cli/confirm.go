package cli

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// confirm asks before something is lost, on a terminal only: scripts are never held up.
func (e *Env) confirm(what string) error {
	if e.flags.yes || !e.asks() {
		return nil
	}
	return e.ask(what)
}

// confirmLoss is confirm for what cannot be had back by any other means: a script must say --yes.
func (e *Env) confirmLoss(what string) error {
	if !e.flags.yes && !e.asks() {
		return usageError("to %s needs --yes", what)
	}
	return e.confirm(what)
}

// asks tells whether somebody is there to answer.
func (e *Env) asks() bool { return isTerminal(e.In) && isTerminal(e.Err) }

func (e *Env) ask(what string) error {
	s, err := e.settings()
	if err != nil {
		return err
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	fmt.Fprintf(e.Err, "%s%s at %s? [y/N] ", strings.ToUpper(what[:1]), what[1:], s.where())
	answer := make(chan string, 1)
	go func() { // ends with the answer, or with the process: a read of a terminal cannot be interrupted
		line, _ := bufio.NewReader(e.In).ReadString('\n') // without its end it is no answer
		answer <- line
	}()
	select {
	case <-interrupts:
		return exitError(exitInterrupted)
	case line := <-answer:
		if line = strings.ToLower(strings.TrimSpace(line)); strings.HasPrefix(line, "y") {
			return nil
		}
		return api.Errorf(api.CodeInternal, "nothing was done").WithHint("answer y, or give --yes")
	}
}

// where names the cluster for a question: the context that the address comes from, else the address.
func (s settings) where() string {
	if s.address.origin == "context "+s.context.value {
		return "context " + s.context.value
	}
	return s.address.value
}
