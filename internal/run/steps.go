package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudless/cloudless/api"
)

// Step is one part of a role's start. What completes "cannot …".
type Step struct {
	What string
	Do   func(context.Context) error
}

// Steps starts a role: it does the steps in their order. When one fails, undo releases what those
// before it made, and the error says what could not be done, with the code of the cause.
func Steps(ctx context.Context, steps []Step, undo func() error) error {
	for _, step := range steps {
		if err := step.Do(ctx); err != nil {
			return errors.Join(cannot(step.What, err), undo())
		}
	}
	return nil
}

func cannot(what string, err error) error {
	var e *api.Error
	if errors.As(err, &e) {
		return e.WithOp("cannot " + what)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}
