package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/coordinator"
)

func auditCommand(e *Env) *cobra.Command {
	return newGroup("audit", "Check a coordinator's audit log", "  cloudless audit verify --data-dir /var/lib/cloudless/coordinator", auditVerify(e))
}

func auditVerify(e *Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "verify [FILE…]", Short: "Check that no line of the audit log was changed, added or taken out",
		Long: "Follow the chain of hashes through the audit log's parts, oldest first. It needs no coordinator and no token.\n\n" +
			"Lines cut off at the end leave no trace in the file: keep the hash of the last line elsewhere and compare.",
		Example: "  cloudless audit verify --data-dir /var/lib/cloudless/coordinator\n  cloudless audit verify audit.log.1 audit.log",
		RunE: func(_ *cobra.Command, files []string) (err error) {
			if (dir == "") == (len(files) == 0) {
				return usageError("give --data-dir or the files, oldest first")
			}
			if dir != "" {
				if files, err = coordinator.AuditFiles(dir); err != nil {
					return err
				}
			}
			s, err := coordinator.VerifyAudit(files)
			if err != nil {
				return err
			}
			if done, err := e.machine(s); done {
				return err
			}
			older := ""
			if s.First > 1 {
				older = fmt.Sprintf("; %d older lines are not here", s.First-1)
			}
			_, err = fmt.Fprintf(e.Out, "%d lines, %d to %d, none changed%s\nlast line: %s\n", s.Lines, s.First, s.Last, older, s.Head)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "a coordinator's data folder")
	return cmd
}
