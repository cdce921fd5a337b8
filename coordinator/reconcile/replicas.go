package reconcile

func (p *plan) planReplicas() {}
