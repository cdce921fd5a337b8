package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

// usageError is wrong use of the command line: exit code 2.
func usageError(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeInvalid, format, args...)
}

// report prints an error on one line, or as JSON with -o json, and gives its exit code.
func (e *Env) report(args []string, err error) int {
	ae := e.classify(err)
	if ae.Op != "" {
		ae = &api.Error{Code: ae.Code, Message: ae.Op + ": " + ae.Message, Hint: ae.Hint, RequestID: ae.RequestID, Err: err}
	}
	if cmp.Or(e.flags.output, e.Getenv("CLOUDLESS_OUTPUT")) == "json" || asksJSON(args) {
		enc := json.NewEncoder(e.Err)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(api.ErrorBody{Error: ae}) // nothing is left to report a failure to
		return ae.Code.ExitCode()
	}
	var places manifest.Errors
	if errors.As(err, &places) {
		e.reportPlaces(places)
		return ae.Code.ExitCode()
	}
	text := ae.Error()
	if ae.RequestID != "" {
		text += " [request " + ae.RequestID + "]"
	}
	fmt.Fprintln(e.Err, "cloudless: "+oneLine(text))
	return ae.Code.ExitCode()
}

// reportPlaces prints every error of a manifest on a line of its own, with an excerpt on a terminal.
func (e *Env) reportPlaces(places manifest.Errors) {
	for _, p := range places {
		fmt.Fprintln(e.Err, oneLine(p.Error()))
		if excerpt := p.Excerpt(); excerpt != "" && isTerminal(e.Err) {
			fmt.Fprintln(e.Err, excerpt)
		}
	}
}

// classify makes every error an api.Error. Cobra's own errors come before a command has started and
// are wrong use; what else is not an api.Error failed on this machine, and its text is for its user.
func (e *Env) classify(err error) *api.Error {
	var ae *api.Error
	if errors.As(err, &ae) {
		return ae
	}
	if !e.started {
		return usageError("%s", strings.ReplaceAll(err.Error(), "\n", " ")).WithHint("see --help")
	}
	return &api.Error{Code: api.CodeInternal, Message: err.Error()}
}

// asksJSON finds -o json in arguments that were not parsed, because something else in them is wrong.
func asksJSON(args []string) bool {
	for i, a := range args {
		switch a {
		case "--":
			return false
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			return slices.Contains(args[i+1:min(i+2, len(args))], "json")
		}
	}
	return false
}

// oneLine keeps line ends and other control characters of foreign text off the terminal.
func oneLine(s string) string { return strings.Map(printable, strings.TrimSpace(s)) }
