package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

// Context is how to reach one cluster.
type Context struct {
	Name       string `json:"name"`
	Address    string `json:"address"`
	Token      string `json:"token,omitempty"` // as --token takes it: a file as @FILE, or the token itself
	CACert     string `json:"caCert,omitempty"`
	ClientCert string `json:"clientCert,omitempty"`
	ClientKey  string `json:"clientKey,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Dev        bool   `json:"dev,omitempty"` // written by 'cloudless dev'
}

// ContextFile is $CLOUDLESS_CONFIG or ~/.config/cloudless/config.yaml.
type ContextFile struct {
	Current  string    `json:"current,omitempty"`
	Contexts []Context `json:"contexts,omitempty"`

	path string
}

// contextPath is where the contexts are kept.
func (e *Env) contextPath() (string, error) {
	if p := e.Getenv("CLOUDLESS_CONFIG"); p != "" {
		return p, nil
	}
	dir := e.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := e.Getenv("HOME")
		if home == "" {
			return "", usageError("no home folder for the contexts").WithHint("set CLOUDLESS_CONFIG to a file")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "cloudless", "config.yaml"), nil
}

// loadContexts reads the contexts; a file that does not exist is an empty one. Without a place for the
// file it gives the error and an empty one, for what needs no context.
func (e *Env) loadContexts() (*ContextFile, error) {
	path, err := e.contextPath()
	if err != nil {
		return &ContextFile{}, err
	}
	f := &ContextFile{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the contexts cannot be read: %w", err)
	}
	if err := manifest.Unmarshal(path, data, f); err != nil {
		return nil, err
	}
	return f, nil
}

// Get finds a context by name.
func (f *ContextFile) Get(name string) (Context, bool) {
	i := f.index(name)
	if i < 0 {
		return Context{}, false
	}
	return f.Contexts[i], true
}

func (f *ContextFile) index(name string) int {
	return slices.IndexFunc(f.Contexts, func(c Context) bool { return c.Name == name })
}

// Set adds a context or replaces the one of its name.
func (f *ContextFile) Set(c Context) {
	if i := f.index(c.Name); i >= 0 {
		f.Contexts[i] = c
		return
	}
	f.Contexts = append(f.Contexts, c)
}

// Remove drops a context, and tells whether there was one.
func (f *ContextFile) Remove(name string) bool {
	i := f.index(name)
	if i < 0 {
		return false
	}
	f.Contexts = slices.Delete(f.Contexts, i, i+1)
	if f.Current == name {
		f.Current = ""
	}
	return true
}

// Save writes the file whole, readable by its owner only: it may hold tokens.
func (f *ContextFile) Save() error {
	data, err := manifest.YAML(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".config-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), f.path)
}
