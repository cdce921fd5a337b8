// Package minisign checks that a module was signed by a key that its namespace trusts: ed25519
// signatures in the format of minisign, of the file ("Ed") or of its BLAKE2b hash ("ED"), with their
// trusted comment. Reading the format is api's; keys are made, and files signed, by minisign itself.
package minisign

import (
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
	code, err := read(module)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(code); "sha256:"+hex.EncodeToString(sum[:]) != s.Wasm.Module {
		return refused("the module's bytes are not those of %s", s.Wasm.Module)
	}
	return verify(keys, sig, code)
}

func read(module func() (io.ReadCloser, error)) ([]byte, error) {
	f, err := module()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	code, err := io.ReadAll(io.LimitReader(f, api.MaxModuleBytes+1))
	if err == nil && len(code) > api.MaxModuleBytes {
		err = api.Errorf(api.CodeInvalid, "the module is larger than %d bytes, the most that a module may have", api.MaxModuleBytes)
	}
	return code, err
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
func verify(keys []ed25519.PublicKey, sig api.Signature, code []byte) error {
	signed := code
	if sig.Hashed {
		sum := blake2b.Sum512(code)
		signed = sum[:]
	}
	by := slices.IndexFunc(keys, func(k ed25519.PublicKey) bool { return ed25519.Verify(k, signed, sig.File[:]) })
	if by < 0 {
		return refused("the signature by key %s is not of this module: one of the two was changed, or it is another module's", api.KeyName(sig.KeyID))
	}
	if !ed25519.Verify(keys[by], slices.Concat(sig.File[:], []byte(sig.TrustedComment)), sig.Comment[:]) {
		return refused("the trusted comment of the module's signature was changed after it was signed")
	}
	return nil
}
