package consensus

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// hclogAdapter is the Raft library's logger on ours. Of hclog's many methods it has those that the
// library calls; the others do nothing.
type hclogAdapter struct {
	hclog.Logger
	log zerolog.Logger
}

func newHCLog(log zerolog.Logger) hclog.Logger {
	return hclogAdapter{hclog.NewNullLogger(), log.With().Str("component", "raft").Logger()}
}

// Trace implements hclog.Logger.
func (h hclogAdapter) Trace(msg string, args ...any) { write(h.log.Trace(), msg, args) }

// Debug implements hclog.Logger.
func (h hclogAdapter) Debug(msg string, args ...any) { write(h.log.Debug(), msg, args) }

// Info implements hclog.Logger.
func (h hclogAdapter) Info(msg string, args ...any) { write(h.log.Info(), msg, args) }

// Warn implements hclog.Logger.
func (h hclogAdapter) Warn(msg string, args ...any) {
	e := h.log.Warn()
	if msg == usual {
		e = h.log.Info()
	}
	write(e, msg, args)
}

// usual is what the library warns of though every start of a cluster's only coordinator begins with it.
// That a leader is missed elsewhere shows in who leads next, and in the events.
const usual = "heartbeat timeout reached, starting election"

// Error implements hclog.Logger.
func (h hclogAdapter) Error(msg string, args ...any) { write(h.log.Error(), msg, args) }

// Log implements hclog.Logger.
func (h hclogAdapter) Log(level hclog.Level, msg string, args ...any) {
	write(h.log.WithLevel(levels[level]), msg, args)
}

// With implements hclog.Logger.
func (h hclogAdapter) With(args ...any) hclog.Logger {
	with := h.log.With()
	for key, value := range pairs(args) {
		with = with.Str(key, value)
	}
	return hclogAdapter{h.Logger, with.Logger()}
}

// Named implements hclog.Logger.
func (h hclogAdapter) Named(string) hclog.Logger { return h }

// ResetNamed implements hclog.Logger.
func (h hclogAdapter) ResetNamed(string) hclog.Logger { return h }

var levels = map[hclog.Level]zerolog.Level{
	hclog.Trace: zerolog.TraceLevel, hclog.Debug: zerolog.DebugLevel, hclog.NoLevel: zerolog.InfoLevel,
	hclog.Info: zerolog.InfoLevel, hclog.Warn: zerolog.WarnLevel, hclog.Error: zerolog.ErrorLevel,
}

func write(e *zerolog.Event, msg string, args []any) {
	if !e.Enabled() {
		return
	}
	for key, value := range pairs(args) {
		e = e.Str(key, value)
	}
	e.Msg(msg)
}

// pairs renders alternating keys and values; a hclog.Format is a format and its operands.
func pairs(args []any) func(yield func(string, string) bool) {
	return func(yield func(string, string) bool) {
		for i := 0; i+1 < len(args); i += 2 {
			value := fmt.Sprint(args[i+1])
			if f, ok := args[i+1].(hclog.Format); ok && len(f) > 0 {
				value = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
			}
			if !yield(fmt.Sprint(args[i]), value) {
				return
			}
		}
	}
}
