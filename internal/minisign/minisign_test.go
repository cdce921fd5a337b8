package minisign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/cloudless/cloudless/api"
)

var code = []byte("\x00asm\x01\x00\x00\x00 and what follows")

func digest(code []byte) string {
	sum := sha256.Sum256(code)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func opens(code []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(code)), nil }
}

// signer is a key as minisign makes them, for signatures that minisign would not make.
type signer struct {
	id   uint64
	key  ed25519.PrivateKey
	name string
}

func newSigner(t *testing.T, id uint64) signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, key, api.KeyName(id)}
}

func (s signer) head(algorithm string, rest []byte) string {
	raw := binary.LittleEndian.AppendUint64([]byte(algorithm), s.id)
	return base64.StdEncoding.EncodeToString(append(raw, rest...))
}

func (s signer) public() string { return s.head("Ed", s.key.Public().(ed25519.PublicKey)) }

func (s signer) sign(algorithm string, file []byte, comment string) string {
	if algorithm == "ED" {
		sum := blake2b.Sum512(file)
		file = sum[:]
	}
	sig := ed25519.Sign(s.key, file)
	global := ed25519.Sign(s.key, slices.Concat(sig, []byte(comment)))
	return "untrusted comment: by a test\n" + s.head(algorithm, sig) + "\ntrusted comment: " + comment + "\n" + base64.StdEncoding.EncodeToString(global) + "\n"
}

func demand(keys ...string) *api.NamespacePolicy {
	return &api.NamespacePolicy{Namespace: "prod", RequireSignature: keys}
}

func module(code []byte, signature string) *api.WorkloadSpec {
	return &api.WorkloadSpec{Wasm: &api.WasmSpec{Module: digest(code), Signature: signature}}
}

func TestWhatIsSignedIsAdmitted(t *testing.T) {
	one, two := newSigner(t, 1), newSigner(t, 2)
	twin := newSigner(t, 1) // another key that was given the same id
	for _, algorithm := range []string{"Ed", "ED"} {
		spec := module(code, one.sign(algorithm, code, "timestamp:1"))
		for name, p := range map[string]*api.NamespacePolicy{
			"by the one key": demand(one.public()), "by one of two": demand(two.public(), one.public()), "by one of two of its id": demand(twin.public(), one.public()), "with no demand": demand(),
		} {
			if err := Admit(p, spec, opens(code)); err != nil {
				t.Errorf("%s %s: %v", algorithm, name, err)
			}
		}
	}
}

// Each way in which a signature is not the module's own is refused, with its reason.
func TestWhatIsNotSignedIsRefused(t *testing.T) {
	one, other := newSigner(t, 1), newSigner(t, 2)
	twin := newSigner(t, 1)
	p := demand(one.public())
	flipped := bytes.Clone(code)
	flipped[9] ^= 1
	for _, algorithm := range []string{"Ed", "ED"} {
		good := one.sign(algorithm, code, "timestamp:1 file:hello.wasm")
		for name, tt := range map[string]struct {
			spec *api.WorkloadSpec
			code []byte
			want string
		}{
			"nothing is signed":               {module(code, ""), code, "no signature"},
			"the signature is damaged":        {module(code, good[:len(good)-20]), code, "fourth line"},
			"an untrusted key":                {module(code, other.sign(algorithm, code, "")), code, "key " + other.name},
			"an untrusted key of that id":     {module(code, twin.sign(algorithm, code, "")), code, "not of this module"},
			"another module's signature":      {module(code, one.sign(algorithm, flipped, "")), code, "not of this module"},
			"a bit of the module flipped":     {module(flipped, good), flipped, "not of this module"},
			"bytes of another digest":         {module(code, good), flipped, "bytes are not those"},
			"a bit of the signature flipped":  {module(code, flip(good, 1)), code, ""},
			"a bit of its comment's flipped":  {module(code, flip(good, 3)), code, "trusted comment"},
			"the trusted comment was changed": {module(code, strings.Replace(good, "hello", "hullo", 1)), code, "trusted comment"},
			"the algorithm was changed":       {module(code, relabel(good, one, algorithm)), code, "not of this module"},
		} {
			err := Admit(p, tt.spec, opens(tt.code))
			if api.CodeOf(err) != api.CodeForbidden || !strings.Contains(err.Error(), tt.want) || api.AsError(err).Hint == "" {
				t.Errorf("%s, %s: %v", algorithm, name, err)
			}
			if err := Admit(demand(), tt.spec, opens(tt.code)); err != nil {
				t.Errorf("%s, %s, with no demand: %v", algorithm, name, err)
			}
		}
	}
}

// flip changes a bit in the middle of a line of base64.
func flip(signature string, line int) string {
	lines := strings.Split(signature, "\n")
	raw, err := base64.StdEncoding.DecodeString(lines[line])
	if err != nil {
		panic(err)
	}
	raw[len(raw)/2] ^= 4
	lines[line] = base64.StdEncoding.EncodeToString(raw)
	return strings.Join(lines, "\n")
}

// relabel says of a signature that it is of the other kind.
func relabel(signature string, s signer, algorithm string) string {
	other := map[string]string{"Ed": "ED", "ED": "Ed"}[algorithm]
	lines := strings.Split(signature, "\n")
	raw, err := base64.StdEncoding.DecodeString(lines[1])
	if err != nil {
		panic(err)
	}
	lines[1] = s.head(other, raw[10:])
	return strings.Join(lines, "\n")
}

// The module is read only when a signature has to be checked, and what cannot be read is no signature.
func TestTheModuleIsReadOnlyWhenItMustBe(t *testing.T) {
	one, other := newSigner(t, 1), newSigner(t, 2)
	broken := errors.New("the disk is gone")
	asked := 0
	ask := func() (io.ReadCloser, error) { asked++; return nil, broken }
	_ = Admit(demand(), module(code, ""), ask)
	_ = Admit(demand(one.public()), module(code, ""), ask)
	_ = Admit(demand(one.public()), module(code, other.sign("ED", code, "")), ask)
	if asked != 0 {
		t.Errorf("read %d times for nothing", asked)
	}
	if err := Admit(demand(one.public()), module(code, one.sign("ED", code, "")), ask); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := Admit(demand("junk"), module(code, one.sign("ED", code, "")), ask); err == nil || !strings.Contains(err.Error(), "cannot be used") {
		t.Error(err)
	}
}

func TestAModuleOfTheLargestSize(t *testing.T) {
	one := newSigner(t, 1)
	for size, want := range map[int]api.Code{api.MaxModuleBytes: "", api.MaxModuleBytes + 1: api.CodeInvalid} {
		large := make([]byte, size)
		if err := Admit(demand(one.public()), module(large, one.sign("ED", large, "")), opens(large)); api.CodeOf(err) != want {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// counted is a module that is being read: it waits until as many as may be at once have come.
type counted struct {
	io.Reader
	now  *atomic.Int32
	full <-chan struct{}
}

func (c counted) Read(p []byte) (int, error) { <-c.full; return c.Reader.Read(p) }
func (c counted) Close() error               { c.now.Add(-1); return nil }

// However many replicas start at once, only so many modules are held in memory.
func TestModulesInMemoryAreBounded(t *testing.T) {
	one := newSigner(t, 1)
	spec := module(code, one.sign("Ed", code, ""))
	var now, most atomic.Int32
	var once sync.Once
	full := make(chan struct{})
	opened := func() (io.ReadCloser, error) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == maxWhole {
			once.Do(func() { close(full) })
		}
		return counted{bytes.NewReader(code), &now, full}, nil
	}
	var all sync.WaitGroup
	for range 5 * maxWhole {
		all.Go(func() {
			if err := Admit(demand(one.public()), spec, opened); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != maxWhole {
		t.Errorf("%d modules at the same time, want %d", most.Load(), maxWhole)
	}
}

// Security 17: what the real minisign signs is admitted, in both of its formats, and what is signed in
// our reading of them is verified by the real one.
func TestTheRealMinisignAgrees(t *testing.T) {
	tool, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("NOT TESTED: that minisign and we agree. Install it with: apt-get install minisign")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(tool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("minisign %v: %v\n%s", args, err, out)
		}
	}
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := os.WriteFile(filepath.Join(dir, "m.wasm"), code, 0o600); err != nil {
		t.Fatal(err)
	}
	run("-G", "-W", "-p", "m.pub", "-s", "m.key")
	public := strings.Split(read("m.pub"), "\n")[1]
	for name, format := range map[string][]string{"of the hash": nil, "of the file": {"-l"}} {
		run(append([]string{"-S", "-s", "m.key", "-m", "m.wasm", "-t", "release 7"}, format...)...)
		signature := read("m.wasm.minisig")
		if err := Admit(demand(public), module(code, signature), opens(code)); err != nil {
			t.Errorf("a signature %s by minisign: %v\n%s", name, err, signature)
		}
		if s, err := api.ParseSignature(signature); err != nil || s.TrustedComment != "release 7" || s.Hashed != (format == nil) || !strings.Contains(read("m.pub"), api.KeyName(s.KeyID)) {
			t.Errorf("a signature %s is read as %+v, %v", name, s, err)
		}
	}
	ours := newSigner(t, 0x0123456789ABCDEF)
	for _, algorithm := range []string{"Ed", "ED"} {
		if err := os.WriteFile(filepath.Join(dir, "m.wasm.minisig"), []byte(ours.sign(algorithm, code, "ours")), 0o600); err != nil {
			t.Fatal(err)
		}
		run("-V", "-P", ours.public(), "-m", "m.wasm")
	}
}
