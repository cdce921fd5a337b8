package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

// manifests reads all documents of all files, resolves the paths in them, and reports everything
// that is wrong in any of them.
func (e *Env) manifests(ctx context.Context, files []string) ([]deployment, error) {
	if len(files) == 0 {
		return nil, usageError("no manifest").WithHint("give -f FILE, or -f - for standard input")
	}
	ns, err := e.namespace()
	if err != nil {
		return nil, err
	}
	var out []deployment
	var wrong []error
	for _, file := range files {
		paths, err := expand(file)
		if err != nil {
			wrong = append(wrong, err)
		}
		for _, p := range paths {
			ds, err := e.manifestFile(ctx, p, ns)
			if err != nil {
				wrong = append(wrong, err)
			}
			out = append(out, ds...)
		}
	}
	if len(wrong) > 0 {
		return nil, together(wrong)
	}
	return out, e.checkNamespaces(out)
}

// together makes one error of those of several files, in the order of the files.
func together(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	var all manifest.Errors
	for _, err := range errs {
		var places manifest.Errors
		if !errors.As(err, &places) {
			ae := api.AsError(err)
			places = manifest.Errors{{Message: ae.Error(), Code: ae.Code}}
		}
		all = append(all, places...)
	}
	return all
}

// checkNamespaces refuses a manifest that names another namespace than the flag, as kubectl does.
func (e *Env) checkNamespaces(ds []deployment) error {
	for _, d := range ds {
		if ns := e.flags.namespace; ns != "" && d.workload.Metadata.Namespace != ns {
			return usageError("workload %s names another namespace than --namespace %s", d.workload.Ref(), ns)
		}
	}
	return nil
}

// expand gives the manifests of a folder in order of their names; a file is itself.
func expand(file string) ([]string, error) {
	if isURL(file) {
		return []string{file}, nil
	}
	info, err := os.Stat(file)
	if file == "-" || err == nil && !info.IsDir() {
		return []string{file}, nil
	}
	if err != nil {
		return nil, api.Errorf(api.CodeNotFound, "there is no file %s", file)
	}
	entries, err := os.ReadDir(file)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%w", err)
	}
	var out []string
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			out = append(out, filepath.Join(file, entry.Name()))
		}
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "folder %s has no .yaml, .yml or .json file", file)
	}
	return out, nil
}

// readManifest reads a file, standard input or a URL.
func (e *Env) readManifest(ctx context.Context, file string) ([]byte, error) {
	if isURL(file) {
		return e.fetch(ctx, file)
	}
	in := e.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "%w", err)
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, api.MaxManifestBytes+1)) // what is longer is refused by Parse
}

// manifestFile reads one file. What is wrong with it, the files that it names included, is told with its
// places, all at once.
func (e *Env) manifestFile(ctx context.Context, file, ns string) ([]deployment, error) {
	data, err := e.readManifest(ctx, file)
	if err != nil {
		return nil, err
	}
	name, dir := file, filepath.Dir(file)
	options := []manifest.Option{manifest.Namespace(ns)}
	if file == "-" {
		name, dir = "stdin", "."
	}
	if !isURL(file) { // a manifest from elsewhere may not name files of this machine
		options = append(options, manifest.AllowPaths())
	}
	docs, err := manifest.Parse(name, data, options...)
	if err != nil {
		return nil, err
	}
	var out []deployment
	var wrong manifest.Errors
	for _, d := range docs {
		files, errs := artifacts(&d, dir)
		wrong = append(wrong, errs...)
		out = append(out, deployment{d.Workload, files})
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return out, nil
}

// takeSignature puts a signature's text in place of its path, or of none where one lies beside the module.
func takeSignature(w *api.WasmSpec, dir string) (err error) {
	switch {
	case manifest.IsSignaturePath(w.Signature):
		w.Signature, err = readSignature(under(dir, w.Signature), w.Module)
	case w.Signature == "" && !api.IsDigest(w.Module):
		w.Signature, err = readSignature("", under(dir, w.Module))
	}
	return err
}

// under is a path as a file in dir means it.
func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// artifacts hashes the files that a document names, relative to the manifest's folder, and puts their
// digests in place.
func artifacts(d *manifest.Document, dir string) (out []artifact, wrong manifest.Errors) {
	take := func(path string, field *string, kind string) {
		p := under(dir, *field)
		a, err := openArtifact(p)
		if err == nil && a.kind != kind {
			err = api.Errorf(api.CodeUnsupMedia, "%s is of kind %s, %s is wanted", p, a.kind, kind)
		}
		if err != nil {
			wrong = append(wrong, d.Problem(path, err))
		}
		*field, out = a.digest, append(out, a)
	}
	spec := &d.Workload.Spec
	if w := spec.Wasm; w != nil {
		if err := takeSignature(w, dir); err != nil {
			wrong = append(wrong, d.Problem("spec.wasm.signature", err))
		}
		if !api.IsDigest(w.Module) {
			take("spec.wasm.module", &w.Module, api.ArtifactWasm)
		}
	}
	if ct := spec.Container; ct != nil && manifest.IsImagePath(ct.Image) {
		take("spec.container.image", &ct.Image, api.ArtifactOCI)
	}
	return out, wrong
}
