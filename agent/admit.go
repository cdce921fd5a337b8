package agent

import (
	"io"
	"os"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/minisign"
)

// admit holds each start of a replica to its namespace's policy, as this node has heard it last. The
// coordinators refuse most of it at apply; what they let in before there was a policy, or when they
// did not hold the module, ends here.
func (a *Agent) admit(as api.Assignment, w *api.WorkloadSpec, path string) error {
	p := a.intake.policy(as.Workload.Namespace)
	return minisign.Admit(&p, w, func() (io.ReadCloser, error) { return os.Open(path) })
}
