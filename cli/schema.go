package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

func printSchema(e *Env, use string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: "Print the JSON Schema of a workload manifest", Args: cobra.NoArgs,
		Example: "  cloudless " + use + " > workload.schema.json",
		RunE: func(*cobra.Command, []string) error {
			_, err := e.Out.Write(manifest.Schema())
			return err
		},
	}
}

func schemaCommand(e *Env) *cobra.Command { return printSchema(e, "schema") }

func workloadSchema(e *Env) *cobra.Command { return printSchema(e, "schema") }

func initCommand(e *Env) *cobra.Command {
	var wasm, oci, name string
	cmd := &cobra.Command{
		Use: "workload --wasm FILE|--oci IMAGE", Short: "Write a commented manifest", Args: cobra.NoArgs,
		Example: "  cloudless init workload --wasm hello.wasm > hello.yaml\n  cloudless init workload --oci registry.example/app:1.2 > app.yaml",
		RunE: func(*cobra.Command, []string) error {
			target, text := wasm, wasmManifest
			if oci != "" {
				target, text = oci, ociManifest
			}
			if (wasm == "") == (oci == "") {
				return usageError("init workload needs one of --wasm FILE and --oci IMAGE")
			}
			if name == "" {
				name = defaultName(target)
			}
			if !api.ValidName(name) {
				return usageError("%q is not a name", name).WithHint("give --name")
			}
			_, err := fmt.Fprintf(e.Out, manifestHead+text+manifestTail, name, target)
			return err
		},
	}
	cmd.Flags().StringVar(&wasm, "wasm", "", "a module file")
	cmd.Flags().StringVar(&oci, "oci", "", "an image reference or tarball")
	cmd.Flags().StringVar(&name, "name", "", "name of the workload (default: from the file or image)")
	return newGroup("init", "Write files to begin with", "  cloudless init workload --wasm hello.wasm > hello.yaml", cmd)
}

const manifestHead = `# yaml-language-server: $schema=http://127.0.0.1:7700/schema/workload.json
# Apply with: cloudless apply -f THIS_FILE --wait
apiVersion: cloudless/v1
kind: Workload
metadata:
  name: %s                # reached at the ingress as Host: NAME.localhost
  # namespace: default
  # labels: {app: hello}
spec:
  replicas: 1
`

const wasmManifest = `  wasm:
    module: %q            # path, relative to this file, or sha256:… digest
    mode: http            # http | service | job
`

const ociManifest = `  container:
    image: %q             # registry reference, path to a tarball, or sha256:… digest
  ports: [{name: http, port: 8080, protocol: http}]
  env: {PORT: "8080"}
`

const manifestTail = `  # resources: {cpu: 100m, memory: 64Mi}
  # probes:
  #   readiness: {http: {path: /}, interval: 1s, timeout: 500ms, failures: 3}
  # placement:
  #   regions: [eu]
  #   spread: {by: zone}
  # rollout: {minAvailable: 1}
`
