// Package minisign checks that a module was signed by a key that its namespace trusts: ed25519
// signatures in the format of minisign, of the file ("Ed") or of its BLAKE2b hash ("ED"), with their
// trusted comment. Reading the format is api's; keys are made, and files signed, by minisign itself.
package minisign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/blake2b"

	"github.com/cloudless/cloudless/api"
)

// Admit tells why a policy keeps a workload from running, nil if it does not. module opens the module;
// it is called only where a signature has to be checked against its bytes.
func Admit(p *api.NamespacePolicy, s *api.WorkloadSpec, module func() (io.ReadCloser, error)) error {
	if refusal := p.Refuses(s); refusal != nil {
		return refusal
	}
	if len(p.RequireSignature) == 0 {
		return nil
	}
	sig, err := api.ParseSignature(s.Wasm.Signature)
	if err != nil {
		return refused("the module's signature %v", err)
	}
	keys, err := signers(p, sig.KeyID)
	if err != nil {
		return err
	}
	if !sig.Hashed {
		whole <- struct{}{}
		defer func() { <-whole }()
	}
	digest, signed, err := read(module, sig.Hashed)
	if err != nil {
		return err
	}
	if digest != s.Wasm.Module {
		return refused("the module's bytes are not those of %s", s.Wasm.Module)
	}
	return verify(keys, sig, signed)
}

// whole has a place for each module that is held in memory, as a signature of the file itself needs it.
// Many replicas may start at once; the others wait a moment.
var whole = make(chan struct{}, maxWhole)

const maxWhole = 4

// read gives a module's digest and what a signature of it signs: its hash, or all of it.
func read(module func() (io.ReadCloser, error), hashed bool) (digest string, signed []byte, err error) {
	f, err := module()
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	sum := sha256.New()
	hash, err := blake2b.New512(nil)
	if err != nil {
		return "", nil, err
	}
	var file bytes.Buffer
	to := io.Writer(&file)
	if hashed {
		to = hash
	}
	n, err := io.Copy(io.MultiWriter(sum, to), io.LimitReader(f, api.MaxModuleBytes+1))
	switch {
	case err != nil:
		return "", nil, err
	case n > api.MaxModuleBytes:
		return "", nil, api.Errorf(api.CodeInvalid, "the module is larger than %d bytes, the most that a module may have", api.MaxModuleBytes)
	case hashed:
		signed = hash.Sum(nil)
	default:
		signed = file.Bytes()
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), signed, nil
}

func refused(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeForbidden, format, args...).WithHint("sign the module as it is uploaded: minisign -Sm FILE.wasm")
}

// signers are the policy's keys that have the id of a signature. Ids are chosen by whoever makes a
// key, so there may be several.
func signers(p *api.NamespacePolicy, id uint64) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	var names []string
	for _, text := range p.RequireSignature {
		key, err := api.ParsePublicKey(text)
		if err != nil {
			return nil, refused("a key of namespace %s cannot be used: %v", p.Namespace, err)
		}
		names = append(names, api.KeyName(key.ID))
		if key.ID == id {
			keys = append(keys, key.Key)
		}
	}
	if len(keys) == 0 {
		return nil, refused("the module is signed by key %s, and namespace %s trusts only %s", api.KeyName(id), p.Namespace, strings.Join(names, ", "))
	}
	return keys, nil
}

// verify checks the signature of the file, then that of the comment.
func verify(keys []ed25519.PublicKey, sig api.Signature, signed []byte) error {
	by := slices.IndexFunc(keys, func(k ed25519.PublicKey) bool { return ed25519.Verify(k, signed, sig.File[:]) })
	if by < 0 {
		return refused("the signature by key %s is not of this module: one of the two was changed, or it is another module's", api.KeyName(sig.KeyID))
	}
	if !ed25519.Verify(keys[by], slices.Concat(sig.File[:], []byte(sig.TrustedComment)), sig.Comment[:]) {
		return refused("the trusted comment of the module's signature was changed after it was signed")
	}
	return nil
}
