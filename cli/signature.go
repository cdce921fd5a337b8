package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cloudless/cloudless/api"
)

const signatureSuffix = ".minisig"

// readSignature reads the signature of a module: the file that is named, else the one beside the
// module, where minisign puts it; "" when neither is there.
func readSignature(named, module string) (string, error) {
	path := named
	if named == "" {
		path = module + signatureSuffix
	}
	text, err := readSmall(path, api.MaxSignatureBytes)
	switch {
	case named == "" && errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", api.Errorf(api.CodeInvalid, "the module's signature: %w", err)
	}
	if _, err := api.ParseSignature(text); err != nil {
		return "", api.Errorf(api.CodeInvalid, "%s %v", path, err).WithHint("sign the module with 'minisign -Sm %s'", module)
	}
	return text, nil
}

// readSmall reads a file of which at most one byte more than max is of interest.
func readSmall(path string, max int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, max+1))
	return string(text), err
}

// publicKey takes a key as minisign prints it, or the .pub file that holds one.
func publicKey(word string) (string, error) {
	if _, err := api.ParsePublicKey(word); err == nil {
		return word, nil
	}
	text, err := readSmall(word, api.MaxSignatureBytes)
	if err != nil {
		return "", usageError("%q is neither a public key of minisign nor a file that holds one", word)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	key := strings.TrimSpace(lines[len(lines)-1])
	if _, err := api.ParsePublicKey(key); err != nil {
		return "", usageError("%s: %v", word, err)
	}
	return key, nil
}
