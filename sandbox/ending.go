package sandbox

import "sync"

// Ending is the end of one replica, which comes once. Drivers embed it in their handles: it is their
// Done, Exit and OnEnd. The zero value has not ended.
//
// It costs nothing to wait for an end by OnEnd. A node may have thousands of replicas that do nothing,
// and a goroutine for each of them would be most of what they take.
type Ending struct {
	mu   sync.Mutex
	exit *Exit         // nil until it has ended
	done chan struct{} // nil until someone asks for it
	then []func()
}

// End tells how the replica has ended; only the first time counts.
func (e *Ending) End(exit Exit) {
	e.mu.Lock()
	if e.exit != nil {
		e.mu.Unlock()
		return
	}
	e.exit = &exit
	if e.done != nil {
		close(e.done)
	}
	then := e.then
	e.then = nil
	e.mu.Unlock()
	for _, f := range then {
		f()
	}
}

// Done implements Handle.
func (e *Ending) Done() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done == nil {
		e.done = make(chan struct{})
		if e.exit != nil {
			close(e.done)
		}
	}
	return e.done
}

// Exit implements Handle.
func (e *Ending) Exit() Exit {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.exit == nil {
		return Exit{}
	}
	return *e.exit
}

// OnEnd implements Handle.
func (e *Ending) OnEnd(f func()) {
	e.mu.Lock()
	over := e.exit != nil
	if !over {
		e.then = append(e.then, f)
	}
	e.mu.Unlock()
	if over {
		f()
	}
}
