package gossip

import (
	"bytes"
	"context"
	"log"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

// portTries is how often a free port is looked for that is free for both TCP and UDP.
const portTries = 10

// resolveTimeout bounds the look-up of a host name to advertise.
const resolveTimeout = 5 * time.Second

// newTransport binds, and returns the address that is bound; a given transport has none.
func newTransport(cfg Config) (memberlist.Transport, string, error) {
	if cfg.Transport != nil {
		return cfg.Transport, "", nil
	}
	host, port, err := splitHostPort(cfg.Bind)
	if err != nil {
		return nil, "", err
	}
	if host == "" {
		host = "0.0.0.0"
	}
	conf := &memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: newLogger(cfg.Log)}
	tries := 1
	if port == 0 {
		tries = portTries
	}
	for range tries {
		var t *memberlist.NetTransport
		if t, err = memberlist.NewNetTransport(conf); err == nil {
			return t, net.JoinHostPort(host, strconv.Itoa(t.GetAutoBindPort())), nil
		}
	}
	return nil, "", api.Errorf(api.CodeUnavailable, "gossip cannot listen on %s: %w", cfg.Bind, err).
		WithHint("choose another address with --gossip-addr")
}

// advertise says what others are told. Without a word the transport tells what it is bound to.
func advertise(list *memberlist.Config, want, bound string) error {
	list.AdvertiseAddr, list.AdvertisePort = "", 0
	if want == "" {
		return nil
	}
	host, port := want, 0
	if _, _, err := net.SplitHostPort(want); err == nil {
		if host, port, err = splitHostPort(want); err != nil {
			return err
		}
	}
	if port == 0 && bound != "" {
		_, port, _ = splitHostPort(bound) // it was made by JoinHostPort
	}
	ip, err := resolve(host)
	if err != nil {
		return err
	}
	list.AdvertiseAddr, list.AdvertisePort = ip, port
	return nil
}

func splitHostPort(s string) (string, int, error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, api.Errorf(api.CodeInvalid, "gossip address %q: want HOST:PORT", s)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, api.Errorf(api.CodeInvalid, "gossip address %q: the port must be 0 to 65535", s)
	}
	return host, int(port), nil
}

func resolve(host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "the address %s cannot be advertised: %w", host, err)
	}
	return addrs[0], nil
}

// newLogger makes a standard logger of ours; Serf writes the level as "[WARN] ".
func newLogger(to zerolog.Logger) *log.Logger {
	return log.New(logWriter{to.With().Str("component", "gossip").Logger()}, "", 0)
}

// usual is what Serf warns of though it is our way: who leaves says goodbye to the coordinators.
const usual = "serf: Shutdown without a Leave"

type logWriter struct{ log zerolog.Logger }

var levels = []struct {
	prefix string
	level  zerolog.Level
}{
	{"[DEBUG] ", zerolog.DebugLevel}, {"[INFO] ", zerolog.InfoLevel}, {"[WARN] ", zerolog.WarnLevel},
	{"[ERR] ", zerolog.ErrorLevel}, {"[ERROR] ", zerolog.ErrorLevel},
}

// Write implements io.Writer; it gets one line.
func (w logWriter) Write(line []byte) (int, error) {
	level, text := zerolog.InfoLevel, bytes.TrimSpace(line)
	for _, l := range levels {
		if rest, ok := bytes.CutPrefix(text, []byte(l.prefix)); ok {
			level, text = l.level, rest
			break
		}
	}
	if string(text) == usual {
		level = zerolog.InfoLevel
	}
	w.log.WithLevel(level).Msg(string(text))
	return len(line), nil
}
