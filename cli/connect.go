package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

const defaultAddress = "http://127.0.0.1:7700"

// setting is a client setting and where it came from.
type setting struct{ value, origin string }

// settings are the client settings in force: the first of flag, environment, context and default.
type settings struct {
	context, address, token, caCert, clientCert, clientKey, namespace, output setting
}

func first(candidates ...setting) setting {
	for _, c := range candidates {
		if c.value != "" {
			return c
		}
	}
	return setting{origin: "default"}
}

func (e *Env) settings() (settings, error) {
	file, err := e.loadContexts()
	if err != nil && file == nil {
		return settings{}, err
	}
	flag := func(name, v string) setting { return setting{v, "flag --" + name} }
	env := func(name string) setting { return setting{e.Getenv(name), "environment " + name} }
	s := settings{context: first(flag("context", e.flags.context), env("CLOUDLESS_CONTEXT"), setting{file.Current, "file " + file.path})}
	c, found := file.Get(s.context.value)
	if s.context.value != "" && !found {
		return s, api.Errorf(api.CodeNotFound, "there is no context %q", s.context.value).WithHint("see 'cloudless context list'")
	}
	ctx := func(v string) setting { return setting{v, "context " + c.Name} }
	s.address = first(flag("address", e.flags.address), env("CLOUDLESS_ADDRESS"), ctx(c.Address), setting{defaultAddress, "default"})
	s.token = first(flag("token", e.flags.token), env("CLOUDLESS_TOKEN"), ctx(c.Token))
	s.caCert = first(flag("ca-cert", e.flags.caCert), env("CLOUDLESS_CA_CERT"), ctx(c.CACert))
	s.clientCert = first(flag("client-cert", e.flags.clientCert), ctx(c.ClientCert))
	s.clientKey = first(flag("client-key", e.flags.clientKey), ctx(c.ClientKey))
	s.namespace = first(flag("namespace", e.flags.namespace), env("CLOUDLESS_NAMESPACE"), ctx(c.Namespace), setting{api.DefaultNamespace, "default"})
	s.output = first(flag("output", e.outputFlag), env("CLOUDLESS_OUTPUT"), setting{"table", "default"})
	return s, nil
}

// namespace is the one in force.
func (e *Env) namespace() (string, error) {
	s, err := e.settings()
	if err == nil && !api.ValidName(s.namespace.value) {
		err = usageError("%q is not the name of a namespace", s.namespace.value)
	}
	return s.namespace.value, err
}

// readToken reads a token as a flag takes it: @FILE, - for standard input, or the text itself, which
// other users of the machine could see in the list of processes.
func (e *Env) readToken(value string, fromFlag bool) (string, error) {
	switch {
	case value == "-":
		data, err := io.ReadAll(io.LimitReader(e.In, 64<<10))
		return strings.TrimSpace(string(data)), err
	case strings.HasPrefix(value, "@"):
		data, err := os.ReadFile(value[1:])
		if err != nil {
			return "", api.Errorf(api.CodeInvalid, "the token cannot be read: %w", err)
		}
		return strings.TrimSpace(string(data)), nil
	case fromFlag && value != "":
		e.warn("a token on the command line can be seen by others: use --token @FILE, --token - or CLOUDLESS_TOKEN")
	}
	return value, nil
}

// connect gives the client, made on first use.
func (e *Env) connect() (*client.Client, error) {
	if e.client != nil {
		return e.client, nil
	}
	s, err := e.settings()
	if err != nil {
		return nil, err
	}
	token, err := e.readToken(s.token.value, e.flags.token != "")
	if err != nil {
		return nil, err
	}
	trust, err := s.trust()
	if err != nil {
		return nil, err
	}
	e.client, err = client.New(client.Config{
		Addresses:   strings.Split(s.address.value, ","),
		Token:       token,
		TLS:         trust,
		UserAgent:   "cloudless/" + version(),
		Traceparent: e.Getenv("TRACEPARENT"),
	})
	return e.client, err
}

// trust reads the certificates that are named, if any.
func (s settings) trust() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if s.caCert.value != "" {
		pem, err := os.ReadFile(s.caCert.value)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "the CA certificate cannot be read: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usageError("%s has no certificate in PEM", s.caCert.value)
		}
	}
	if s.clientCert.value == "" && s.clientKey.value == "" {
		return t, nil
	}
	pair, err := tls.LoadX509KeyPair(s.clientCert.value, s.clientKey.value)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the client certificate cannot be used: %w", err).WithHint("give --client-cert and --client-key, both PEM")
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}

// action is what a command does once it has a client.
type action func(ctx context.Context, c *client.Client, args []string) error

// with makes a cobra action of one that needs a client.
func (e *Env) with(do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := e.connect()
		if err != nil {
			return err
		}
		return do(cmd.Context(), c, args)
	}
}
