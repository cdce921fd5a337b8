package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/agent"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// source is where the settings of a role come from: the defaults, over them the --config file, over
// that the flags of the command line.
type source[T any] struct {
	defaults func() T
	bind     func(*T, *pflag.FlagSet)
	flags    *pflag.FlagSet
	config   string
}

// roleCommand completes a command that runs a role.
func roleCommand[T any](cmd *cobra.Command, defaults func() T, bind func(*T, *pflag.FlagSet), serve func(context.Context, source[T]) error) *cobra.Command {
	s := source[T]{defaults: defaults, bind: bind, flags: cmd.Flags()}
	shown := defaults() // what --help tells, and what parsing writes to; load takes it from the flags
	bind(&shown, s.flags)
	s.flags.StringVar(&s.config, "config", "", "YAML file with one key a flag; SIGHUP reads it again")
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), s) }
	return cmd
}

// load reads the settings as of now.
func (s source[T]) load() (T, error) {
	opts := s.defaults()
	if s.config != "" {
		data, err := os.ReadFile(s.config)
		if err != nil {
			return opts, usageError("--config: %v", err)
		}
		if err := manifest.Unmarshal(s.config, data, &opts); err != nil {
			return opts, err
		}
	}
	over := pflag.NewFlagSet("config", pflag.ContinueOnError)
	s.bind(&opts, over)
	var failed error
	s.flags.Visit(func(f *pflag.Flag) {
		if target := over.Lookup(f.Name); target != nil && failed == nil {
			failed = setFlag(target, f)
		}
	})
	return opts, failed
}

// setFlag gives one flag the value of another; the text of a list is not what its Set takes.
func setFlag(to, from *pflag.Flag) error {
	list, isList := from.Value.(pflag.SliceValue)
	if target, ok := to.Value.(pflag.SliceValue); isList && ok {
		return target.Replace(list.GetSlice())
	}
	return to.Value.Set(from.Value.String())
}

// reload reads the settings again, has apply take up the changes that a running role can, and says
// which need a restart. apply gives the keys that it took; on an error it has changed nothing.
// A file that is wrong changes nothing. The settings in force are returned.
func (s source[T]) reload(old T, log zerolog.Logger, apply func(now T, changed []string) ([]string, error)) T {
	now, err := s.load()
	if err != nil {
		log.Error().Err(err).Msg("settings not reloaded: the old ones stay")
		return old
	}
	changed := changedKeys(old, now)
	applied, err := apply(now, changed)
	if err != nil {
		log.Error().Err(err).Msg("settings not reloaded: the old ones stay")
		return old
	}
	rest := slices.DeleteFunc(slices.Clone(changed), func(key string) bool { return slices.Contains(applied, key) })
	if len(rest) > 0 {
		log.Warn().Strs("applied", applied).Strs("restart", rest).Msg("settings reloaded; some need a restart")
	} else {
		log.Info().Strs("applied", applied).Msg("settings reloaded")
	}
	return now
}

// joinKeys are used by the first start only.
var joinKeys = []string{"join", "token"}

// changedKeys names the settings that differ, as in the --config file, in order.
func changedKeys(old, now any) []string {
	was, is := byKey(old), byKey(now)
	both := maps.Clone(was)
	maps.Copy(both, is)
	var changed []string
	for key := range both {
		if !bytes.Equal(was[key], is[key]) && !slices.Contains(joinKeys, key) {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	return changed
}

func byKey(opts any) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	data, err := json.Marshal(opts)
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		panic("settings do not encode: " + err.Error()) // strings and lists of strings always do
	}
	return m
}

// adjust takes what both roles share: the level of the log and the part that is traced.
func adjust(tel *telemetry.Telemetry, now commonOptions, changed []string) ([]string, error) {
	sampled, err := tel.Adjust(now.LogLevel, now.OTLPSampling)
	if err != nil {
		return nil, usageError("%v", err)
	}
	live := []string{"log-level"}
	if sampled {
		live = append(live, "otlp-sampling")
	}
	return among(changed, live...), nil
}

// among gives the keys that are in both.
func among(changed []string, keys ...string) []string {
	return slices.DeleteFunc(slices.Clone(changed), func(key string) bool { return !slices.Contains(keys, key) })
}

// reload takes up what a running coordinator can: the telemetry, and the names in the API's certificate.
func (r *coordinatorRole) reload(now coordinatorOptions, changed []string) ([]string, error) {
	applied, err := adjust(r.tel, now.commonOptions, changed)
	if err == nil && slices.Contains(changed, "tls-san") {
		r.cert.hosts(now.TLSSAN)
		applied = append(applied, "tls-san")
	}
	return applied, err
}

// apiCertificate is the REST API's certificate of the moment.
type apiCertificate struct {
	make    func(hosts []string) func() (*tls.Certificate, error)
	always  []string // the names that it has in any case
	current atomic.Pointer[func() (*tls.Certificate, error)]
}

func (a *apiCertificate) hosts(more []string) {
	get := a.make(slices.Concat(a.always, more))
	a.current.Store(&get)
}

func (a *apiCertificate) get() (*tls.Certificate, error) { return (*a.current.Load())() }

// reload takes up what a running agent can: the telemetry, what placing goes by, what SIGTERM does, and
// other files for the certificates of the ingress and the S3 API (not whether they have one).
func (r *agentRole) reload(now agentOptions, changed []string) ([]string, error) {
	settings, err := now.settings()
	if err != nil {
		return nil, err
	}
	live := []string{"label", "taint", "reserve", "on-stop"}
	certs := map[*publicListener]*tls.Config{}
	for p, pair := range map[*publicListener]string{&r.ingress: now.IngressTLS, &r.s3: now.S3TLS} {
		if p.tls == nil || pair == "" {
			continue
		}
		if certs[p], err = pairConfig(p.flag, pair); err != nil {
			return nil, err
		}
		live = append(live, p.flag)
	}
	applied, err := adjust(r.tel, now.commonOptions, changed)
	if err != nil {
		return nil, err
	}
	for p, cert := range certs {
		p.tls.Store(cert)
	}
	live = among(changed, live...)
	if len(live) > 0 {
		r.agent.Reload(settings)
	}
	return append(applied, live...), nil
}

// settings reads what of the flags the agent can change while it runs.
func (o *agentOptions) settings() (s agent.Settings, err error) {
	if s.Labels, err = pairs("--label", o.Labels); err != nil {
		return s, err
	}
	if err := api.ValidateLabels("--label", s.Labels).Err(); err != nil {
		return s, err
	}
	if s.Taints, err = parseTaints(o.Taints); err != nil {
		return s, err
	}
	if s.Reserve, err = parseReserve(o.Reserve); err != nil {
		return s, err
	}
	if o.OnStop != "restart" && o.OnStop != "drain" && o.OnStop != "kill" {
		return s, usageError("--on-stop: %q is not restart, drain or kill", o.OnStop)
	}
	s.OnStop = o.OnStop
	return s, nil
}

// pairConfig reads the files of --ingress-tls.
func pairConfig(flag, pair string) (*tls.Config, error) {
	cert, key, ok := strings.Cut(pair, ",")
	if !ok {
		return nil, usageError("--%s: %q is not CERT,KEY", flag, pair)
	}
	cfg, err := pki.FileServerConfig(cert, key)
	if err != nil {
		return nil, usageError("--%s: %v", flag, err)
	}
	return cfg, nil
}

// withTLS makes a listener speak TLS by a configuration that can be exchanged.
func withTLS(ln net.Listener, current *atomic.Pointer[tls.Config]) net.Listener {
	return tls.NewListener(ln, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.Load(), nil },
	})
}
