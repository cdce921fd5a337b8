package cli

import "testing"

// A question names the cluster that the command goes to, whatever context is current.
func TestAQuestionNamesTheClusterInForce(t *testing.T) {
	s := newSession(t)
	delete(s.env, "CLOUDLESS_ADDRESS")
	s.want(0, "context home added\n", "", "context", "add", "home", "--address", "http://home:1")
	s.want(0, "context home is current\n", "", "context", "use", "home")
	for _, c := range []struct{ flag, env, want string }{
		{"", "", "context home"},
		{"", "http://away:1", "http://away:1"},
		{"http://there:1", "http://away:1", "http://there:1"},
	} {
		s.env["CLOUDLESS_ADDRESS"] = c.env
		e := &Env{Getenv: func(k string) string { return s.env[k] }}
		e.flags.address = c.flag
		in, err := e.settings()
		if err != nil || in.where() != c.want {
			t.Errorf("--address %q, CLOUDLESS_ADDRESS %q: asks about %q, want %q (%v)", c.flag, c.env, in.where(), c.want, err)
		}
	}
	s.env["CLOUDLESS_CONFIG"] = s.dir + "/none.yaml"
	s.env["CLOUDLESS_ADDRESS"] = ""
	e := &Env{Getenv: func(k string) string { return s.env[k] }}
	if in, err := e.settings(); err != nil || in.where() != defaultAddress {
		t.Errorf("without a context: asks about %q (%v)", in.where(), err)
	}
}
