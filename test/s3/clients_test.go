package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

const (
	largeBytes    = 40 << 20 // several parts for every client
	clientTimeout = 3 * time.Minute
	debian        = "/usr/bin" // where Debian's packages have their programs
)

// tool runs a client with the keys and the address of a door.
type tool struct {
	t   *testing.T
	env []string
}

func newTool(t *testing.T, url, access, secret string) tool {
	home := t.TempDir()
	cfg := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\n", access, secret, hostOf(url), hostOf(url))
	must(t, os.WriteFile(filepath.Join(home, ".s3cfg"), []byte(cfg), 0o600))
	return tool{t, []string{
		"HOME=" + home, "PATH=" + debian + ":/bin", "LC_ALL=C.UTF-8", "AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
		"RCLONE_CONFIG_C_TYPE=s3", "RCLONE_CONFIG_C_PROVIDER=Other", "RCLONE_CONFIG_C_ENV_AUTH=true", "RCLONE_CONFIG_C_ENDPOINT=" + url, "RESTIC_REPOSITORY=s3:" + url + "/backups", "RESTIC_PASSWORD=secret",
	}}
}

func hostOf(url string) string { return strings.TrimPrefix(url, "http://") }

// run gives what a client prints; what it does not manage is an error with all that it said.
func (c tool) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(debian, name), args...)
	cmd.Env = c.env
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w (make test-deps gets the clients)\n%s%s", name, strings.Join(args, " "), err, out, said.String())
	}
	return string(out), nil
}

func (c tool) must(name string, args ...string) string {
	c.t.Helper()
	out, err := c.run(name, args...)
	must(c.t, err)
	return out
}

// all runs commands one after the other, each given as one text.
func (c tool) all(commands ...string) error {
	for _, line := range commands {
		words := strings.Fields(line)
		if _, err := c.run(words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// files makes a folder of files of many sizes, some with names that are hard to quote.
func files(t *testing.T, seed byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int{
		"empty": 0, "small": 100, "sub/medium": 300_000, "sub/a b+c&d=e%20f.txt": 5_000, "sub/ä'ö(1)": 4_097, "large": largeBytes,
	} {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{seed, byte(size)}).Read(data) // never fails
		path := filepath.Join(dir, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, data, 0o600))
	}
	return dir
}

// same tells where two folders differ.
func same(t *testing.T, want, got string) {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		a, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(got, rel))
		if !bytes.Equal(a, b) {
			t.Errorf("%s has %d bytes, %d came back: %v", rel, len(a), len(b), err)
		}
		n++
		return nil
	}))
	if n == 0 {
		t.Error("nothing was compared")
	}
}

// clientRounds is how often an agent is killed while a client writes.
func clientRounds() int {
	if long() {
		return 5
	}
	return 1
}

// Clients that others wrote keep and give back every byte, in quiet and while an agent is killed.
func TestClientsOfOthers(t *testing.T) {
	k := newCluster(t)
	access, secret := k.key(api.TokenRequest{})
	url := k.agents[0].Get("s3")
	if url == "" {
		t.Fatal("the ready line has no s3")
	}
	dirs := make([]string, 1+clientRounds())
	for i := range dirs {
		dirs[i] = files(t, byte(i))
	}
	newTool(t, url, access, secret).must("aws", "--endpoint-url", url, "s3", "mb", "s3://backups")
	for name, use := range map[string]func(*testing.T, tool, string) (write func(string) error, check func(string)){
		"aws": awsCLI, "rclone": rclone, "restic": restic, "s3cmd": s3cmd,
	} {
		t.Run(name, func(t *testing.T) {
			c := newTool(t, url, access, secret)
			write, check := use(t, c, url)
			must(t, write(dirs[0]))
			check(dirs[0])
			for _, dir := range dirs[1:] {
				k.whileKilled(func() error { return write(dir) })
				check(dir)
			}
		})
	}
}

func awsCLI(t *testing.T, c tool, url string) (func(string) error, func(string)) {
	aws := "aws --endpoint-url " + url + " s3 "
	must(t, c.all(aws+"mb s3://pictures"))
	write := func(dir string) error {
		return c.all(aws + "sync --only-show-errors " + dir + " s3://pictures/" + filepath.Base(dir))
	}
	return write, func(dir string) {
		back, base := t.TempDir(), filepath.Base(dir)
		must(t, c.all(aws+"sync --only-show-errors s3://pictures/"+base+" "+back))
		same(t, dir, back)
		c.must("aws", "--endpoint-url", url, "s3api", "get-object", "--bucket", "pictures", "--key", base+"/large", "--range", "bytes=9000000-9000099", filepath.Join(back, "part"))
		part, err := os.ReadFile(filepath.Join(back, "part"))
		must(t, err)
		large, err := os.ReadFile(filepath.Join(dir, "large"))
		must(t, err)
		if !bytes.Equal(part, large[9_000_000:9_000_100]) {
			t.Errorf("a range of 100 bytes is %d others", len(part))
		}
		link := strings.TrimSpace(c.must("aws", "--endpoint-url", url, "s3", "presign", "s3://pictures/"+base+"/small"))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
		must(t, err)
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		must(t, err)
		want, err := os.ReadFile(filepath.Join(dir, "small"))
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("the link gave %d %.100q", resp.StatusCode, got)
		}
	}
}

func rclone(t *testing.T, c tool, _ string) (func(string) error, func(string)) {
	must(t, c.all("rclone mkdir c:mirror"))
	return func(dir string) error { return c.all("rclone sync " + dir + " c:mirror") }, func(dir string) {
		must(t, c.all("rclone check --download "+dir+" c:mirror"))
	}
}

func restic(t *testing.T, c tool, _ string) (func(string) error, func(string)) {
	must(t, c.all("restic init"))
	return func(dir string) error { return c.all("restic backup " + dir) }, func(dir string) {
		back := t.TempDir()
		must(t, c.all("restic check --read-data", "restic restore latest --target "+back))
		same(t, dir, filepath.Join(back, dir))
	}
}

func s3cmd(t *testing.T, c tool, _ string) (func(string) error, func(string)) {
	must(t, c.all("s3cmd mb s3://cabinet"))
	return func(dir string) error {
			return c.all("s3cmd -q sync " + dir + "/ s3://cabinet/" + filepath.Base(dir) + "/")
		}, func(dir string) {
			back := t.TempDir()
			must(t, c.all("s3cmd -q sync s3://cabinet/"+filepath.Base(dir)+"/ "+back+"/"))
			same(t, dir, back)
		}
}

// What a key is good for holds on every agent, and a key that is revoked opens nothing 5 s later.
func TestKeysOnEveryAgent(t *testing.T) {
	k := newCluster(t)
	access, secret := k.key(api.TokenRequest{})
	reader, readerSecret := k.key(api.TokenRequest{Bucket: "pictures", ReadOnly: true})
	small := filepath.Join(t.TempDir(), "small")
	must(t, os.WriteFile(small, bytes.Repeat([]byte("x"), 10_000), 0o600))
	owner := newTool(t, k.agents[0].Get("s3"), access, secret)
	owner.must("s3cmd", "mb", "s3://pictures")
	owner.must("s3cmd", "mb", "s3://others")
	owner.must("s3cmd", "put", small, "s3://pictures/small")
	var readers []tool
	for _, a := range k.agents {
		c := newTool(t, a.Get("s3"), reader, readerSecret)
		readers = append(readers, c)
		if out := c.must("s3cmd", "ls"); !strings.Contains(out, "pictures") || strings.Contains(out, "others") {
			t.Errorf("the reader is shown %q", out)
		}
		c.must("s3cmd", "get", "--force", "s3://pictures/small", filepath.Join(t.TempDir(), "back"))
		for _, refused := range []string{"s3cmd ls s3://others", "s3cmd put " + small + " s3://pictures/other", "s3cmd del s3://pictures/small"} {
			if err := c.all(refused); err == nil || !strings.Contains(err.Error(), "403") {
				t.Errorf("%s: %v", refused, err)
			}
		}
	}
	must(t, k.client.RevokeToken(t.Context(), reader))
	revoked := time.Now()
	for _, c := range readers {
		for {
			began := time.Now()
			err := c.all("s3cmd ls s3://pictures")
			if err != nil && strings.Contains(err.Error(), "403") {
				break
			}
			if err != nil || began.Sub(revoked) > 5*time.Second {
				t.Fatalf("a key that was revoked %v before: %v", began.Sub(revoked), err)
			}
		}
	}
	owner.must("s3cmd", "ls", "s3://pictures")
}
