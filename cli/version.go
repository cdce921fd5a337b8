package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Version and Commit are set by the linker (-X); a build without gets them from the module's own data.
var (
	Version string
	Commit  string
)

// versionInfo is what 'version -o json' prints.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Server   string `json:"server,omitempty"`
	Warning  string `json:"warning,omitempty"`
}

func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

func commit() string {
	if Commit != "" {
		return Commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// serverTime is how long version looks for a server: the command is about this binary first.
const serverTime = 500 * time.Millisecond

func versionCommand(e *Env) *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version of this binary, and of the cluster", Args: cobra.NoArgs,
		Example: "  cloudless version\n  cloudless version -o json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.showVersion(cmd.Context(), clientOnly) },
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "of this binary only")
	return cmd
}

func (e *Env) showVersion(ctx context.Context, clientOnly bool) error {
	v := e.versions(ctx, clientOnly)
	if done, err := e.machine(v); done {
		return err
	}
	if e.names() {
		_, err := fmt.Fprintln(e.Out, v.Version)
		return err
	}
	if v.Warning != "" {
		e.warn("%s", v.Warning)
	}
	return e.fields([][2]string{{"Version", v.Version}, {"Commit", v.Commit}, {"Go", v.Go}, {"Platform", v.Platform}, {"Server", v.Server}})
}

func (e *Env) versions(ctx context.Context, clientOnly bool) versionInfo {
	v := versionInfo{Version: version(), Commit: commit(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if !clientOnly {
		v.Server = e.serverVersion(ctx)
		v.Warning = skew(v.Version, v.Server)
	}
	return v
}

// serverVersion is "" when no server answers in time.
func (e *Env) serverVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, serverTime)
	defer cancel()
	c, err := e.connect()
	if err != nil {
		return ""
	}
	st, err := c.Status(ctx, 0, 0)
	if err != nil {
		return ""
	}
	for _, m := range st.Coordinators {
		if m.Leader || len(st.Coordinators) == 1 {
			return m.Version
		}
	}
	return ""
}

// skew warns when client and server are more than one minor version apart.
func skew(client, server string) string {
	cm, cn, ok1 := minor(client)
	sm, sn, ok2 := minor(server)
	if !ok1 || !ok2 || cm == sm && max(cn-sn, sn-cn) <= 1 {
		return ""
	}
	return fmt.Sprintf("this binary is %s, the cluster %s: more than one minor version apart", client, server)
}

func minor(v string) (major, minor int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err1 == nil && err2 == nil
}
