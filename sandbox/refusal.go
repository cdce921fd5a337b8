package sandbox

// Errno is why a call of a guest failed, as the guest is told: the numbers of Linux.
type Errno int32

// Refusal is a call that failed: the guest learns the number, the workload's log the reason. One without
// a reason is no news: it is an answer that the guest asked for.
type Refusal struct {
	Errno  Errno
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }
