package meta

import (
	"errors"

	"github.com/cloudless/cloudless/api"
)

// Commands asks for changes; each is decided by itself, in this order, and none waits for another.
type Commands struct {
	Commands []Command `json:"commands"`
}

// Results answers Commands, one for each; Index is the log's.
type Results struct {
	Index   uint64   `json:"index"`
	Results []Result `json:"results"`
}

// First gives the only result of one command, or its refusal as the error.
func (r *Results) First() (Result, error) {
	if len(r.Results) != 1 {
		return Result{}, api.Errorf(api.CodeInternal, "one command gave %d results", len(r.Results))
	}
	if err := r.Results[0].Err; err != nil {
		return Result{}, err
	}
	return r.Results[0], nil
}

// ErrNotSent is the cause of an error of which it is certain that nothing has come of it: no coordinator
// was reached, or none that leads took the request. It may be sent again.
var ErrNotSent = errors.New("nothing was sent")
