package state

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/cloudless/cloudless/api"
)

// tx is one Apply under way: a write transaction, the index and time of the command, and the marks
// to move when it ends.
type tx struct {
	View
	txn    *memdb.Txn
	index  uint64
	at     time.Time
	by     *api.Caller
	marks  map[string]bool
	order  []string // of marks, as first touched
	events int
}

// Apply changes the tables by one command. It is pure; see the package comment. A refusal leaves
// the tables as they were.
func (s *Store) Apply(index uint64, c Command) Result {
	t := s.begin(index, c)
	res := t.do(c)
	if res.Err != nil {
		t.txn.Abort()
		return res
	}
	t.finish()
	return res
}

func (s *Store) begin(index uint64, c Command) *tx {
	txn := s.db.Txn(true)
	return &tx{View: View{txn: txn}, txn: txn, index: index, at: c.At, by: c.By, marks: map[string]bool{}}
}

func (t *tx) finish() {
	for _, name := range t.order {
		t.put(tMarks, &Mark{name, t.index})
	}
	t.txn.Commit()
}

// put inserts or replaces a row. A failure is a mistake in the schema and would part the
// coordinators, so it stops this one.
func (t *tx) put(table string, row any) {
	if err := t.txn.Insert(table, row); err != nil {
		panic(fmt.Sprintf("state: insert into %s: %v", table, err))
	}
	t.touch(table)
}

func (t *tx) del(table string, row any) {
	if err := t.txn.Delete(table, row); err != nil {
		panic(fmt.Sprintf("state: delete from %s: %v", table, err))
	}
	t.touch(table)
}

func (t *tx) touch(mark string) {
	if mark != tMarks && !t.marks[mark] {
		t.marks[mark] = true
		t.order = append(t.order, mark)
	}
}

// event records what happened. Its id is the Raft index; the second of one index has ".1" behind it.
func (t *tx) event(typ string, sev api.Severity, resource, format string, args ...any) {
	e := &api.Event{
		Index: t.index, Time: t.at, Type: typ, Severity: sev, Resource: resource, Message: fmt.Sprintf(format, args...),
	}
	if t.by != nil {
		e.RequestID, e.CorrelationID = t.by.RequestID, t.by.CorrelationID
		if t.by.TokenID != "" {
			e.Fields = map[string]string{"by": t.by.TokenID}
		}
	}
	t.record(e)
}

func (t *tx) record(e *api.Event) {
	e.Index, e.ID = t.index, fmt.Sprintf("%d", t.index)
	if t.events > 0 {
		e.ID = fmt.Sprintf("%d.%d", t.index, t.events)
	}
	t.events++
	t.put(tEvents, e)
	t.trimEvents()
}

// trimEvents keeps the newest MaxEvents, counting by a row that says how many there are; another says
// up to which index they were dropped.
func (t *tx) trimEvents() {
	n := t.number(eventsKept) + 1
	if n > api.MaxEvents {
		if row, err := t.txn.First(tEvents, "id"); err == nil && row != nil {
			t.del(tEvents, row)
			t.setNumber(eventsDropped, row.(*api.Event).Index)
			n--
		}
	}
	t.setNumber(eventsKept, n)
}

func (t *tx) setNumber(name string, n uint64) {
	if err := t.txn.Insert(tMarks, &Mark{name, n}); err != nil {
		panic(fmt.Sprintf("state: set %s: %v", name, err))
	}
}

func refuse(code api.Code, format string, args ...any) Result {
	return Result{Err: api.Errorf(code, format, args...)}
}

func (t *tx) do(c Command) Result {
	switch {
	case c.Batch != nil:
		return t.batch(c.Batch)
	case c.Found != nil:
		return t.found(*c.Found)
	case c.PutMember != nil:
		return t.putMember(*c.PutMember)
	case c.RemoveMember != nil:
		return t.removeMember(c.RemoveMember.ID)
	case c.EnrolNode != nil:
		return t.enrolNode(*c.EnrolNode)
	case c.UseToken != nil:
		return t.useToken(*c.UseToken)
	case c.RegisterNode != nil:
		return t.registerNode(*c.RegisterNode)
	case c.SetLiveness != nil:
		return t.setLiveness(*c.SetLiveness)
	case c.Goodbye != nil:
		return t.goodbye(*c.Goodbye)
	case c.Cordon != nil:
		return t.cordon(*c.Cordon)
	case c.Drain != nil:
		return t.drain(*c.Drain)
	case c.RemoveNode != nil:
		return t.removeNode(c.RemoveNode.ID)
	case c.RevokeNode != nil:
		return t.revokeNode(*c.RevokeNode)
	case c.PutWorkload != nil:
		return t.putWorkload(*c.PutWorkload)
	case c.ScaleWorkload != nil:
		return t.scaleWorkload(*c.ScaleWorkload)
	case c.RestartWorkload != nil:
		return t.restartWorkload(*c.RestartWorkload)
	case c.RollbackWork != nil:
		return t.rollbackWorkload(*c.RollbackWork)
	case c.DeleteWorkload != nil:
		return t.deleteWorkload(*c.DeleteWorkload)
	}
	return t.doMachine(c)
}

// doMachine is the second half of do: what the cluster itself asks for.
func (t *tx) doMachine(c Command) Result {
	switch {
	case c.RemoveWorkload != nil:
		return t.removeWorkload(c.RemoveWorkload.Ref)
	case c.NoteUnplaced != nil:
		return t.noteUnplaced(*c.NoteUnplaced)
	case c.PlaceReplicas != nil:
		return t.placeReplicas(c.PlaceReplicas.Replicas)
	case c.StopReplicas != nil:
		return t.stopReplicas(*c.StopReplicas)
	case c.ForgetReplicas != nil:
		return t.forgetReplicas(c.ForgetReplicas.IDs)
	case c.OrphanReplicas != nil:
		return t.orphanReplicas(*c.OrphanReplicas)
	case c.ReportStatuses != nil:
		return t.reportStatuses(*c.ReportStatuses)
	case c.SetSealKey != nil:
		return t.setSealKey(c.SetSealKey.ID)
	case c.PutToken != nil:
		return t.putToken(*c.PutToken)
	case c.RevokeToken != nil:
		return t.revokeToken(c.RevokeToken.ID)
	case c.StartRotation != nil:
		return t.startRotation(*c.StartRotation)
	case c.AdvanceRotation != nil:
		return t.advanceRotation(*c.AdvanceRotation)
	case c.PutPolicy != nil:
		return t.putPolicy(*c.PutPolicy)
	case c.DeletePolicy != nil:
		return t.deletePolicy(c.DeletePolicy.ID)
	case c.PutArtifact != nil:
		return t.putArtifact(*c.PutArtifact)
	case c.RemoveArtifact != nil:
		return t.removeArtifact(c.RemoveArtifact.ID)
	case c.Remember != nil:
		return t.remember(*c.Remember)
	case c.RecordEvent != nil:
		e := *c.RecordEvent
		t.record(&e)
		return Result{}
	}
	return refuse(api.CodeInvalid, "the command names no operation")
}

// batch applies commands one after the other. One that is refused (the state moved on since it was
// planned) is left out; the others count.
func (t *tx) batch(cmds []Command) Result {
	res := Result{}
	for _, c := range cmds {
		if c.Batch != nil {
			return refuse(api.CodeInvalid, "a batch cannot hold a batch")
		}
		if r := t.do(c); r.Err == nil {
			res.Applied++
		}
	}
	return res
}

func (t *tx) found(f Found) Result {
	m := t.Meta()
	if m.ClusterID != "" && m.ClusterID != f.ClusterID {
		return refuse(api.CodeConflict, "this is cluster %s already", m.ClusterID)
	}
	if f.Epoch <= m.Epoch {
		return refuse(api.CodeConflict, "epoch %d is not after %d", f.Epoch, m.Epoch)
	}
	founded := Meta{ClusterID: f.ClusterID, Epoch: f.Epoch, FoundedAt: t.at, SealKey: m.SealKey}
	if m.Epoch != 0 {
		founded.RenewedAt = t.at
	}
	t.put(tMeta, &founded)
	t.touch(MarkServices)
	for _, n := range t.Nodes() { // every node must report anew, so every set is new
		t.bumpSet(n.ID)
	}
	t.event(api.EventClusterFounded, api.SeverityInfo, "cluster", "epoch %d begins", f.Epoch)
	return Result{}
}

func (t *tx) putMember(m api.Member) Result {
	old, known := t.Member(m.ID)
	m.CreateIndex, m.ModifyIndex = t.index, t.index
	m.Leader, m.Healthy = false, false // not facts of the log
	if known {
		m.CreateIndex, m.JoinedAt = old.CreateIndex, old.JoinedAt
	} else {
		m.JoinedAt = t.at
		t.event(api.EventMemberJoined, api.SeverityInfo, "member/"+m.Name, "coordinator %s joined from %s", m.Name, m.NodeAddr)
	}
	t.put(tMembers, &m)
	return Result{}
}

func (t *tx) removeMember(id string) Result {
	m, ok := t.Member(id)
	if !ok {
		return refuse(api.CodeNotFound, "no coordinator %s", id)
	}
	t.del(tMembers, m)
	t.revoke(Revoked{ID: m.ID, Role: api.RoleServer, Name: m.Name, Reason: "removed"})
	t.event(api.EventMemberLeft, api.SeverityInfo, "member/"+m.Name, "coordinator %s left", m.Name)
	return Result{}
}

// setSealKey names the key that seals secrets. The first one stays: what is sealed could not be opened
// with another.
func (t *tx) setSealKey(id string) Result {
	m := t.Meta()
	if m.ClusterID == "" || m.SealKey != "" {
		return refuse(api.CodeConflict, "the cluster is not founded, or has a sealing key")
	}
	m.SealKey = id
	t.put(tMeta, &m)
	return Result{}
}

func (t *tx) putToken(tok api.Token) Result {
	if _, ok := t.Token(tok.ID); ok {
		return refuse(api.CodeConflict, "token %s exists", tok.ID)
	}
	if len(t.Tokens()) >= api.MaxTokens {
		t.dropExpiredTokens()
	}
	if len(t.Tokens()) >= api.MaxTokens {
		return Result{Err: api.Errorf(api.CodeTooLarge, "there are %d tokens already", api.MaxTokens).WithHint("revoke some that are not used")}
	}
	tok.Secret, tok.CreatedAt, tok.CreateIndex, tok.ModifyIndex = "", t.at, t.index, t.index
	t.put(tTokens, &tok)
	t.event(api.EventTokenCreated, api.SeverityInfo, "token/"+tok.ID, "token %s of role %s created", tok.ID, tok.Role)
	redacted := tok.Redacted()
	return Result{Token: &redacted}
}

// dropExpiredTokens makes room: who makes tokens that live for an hour must not need someone to clear up. While
// there is room they are listed with the others.
func (t *tx) dropExpiredTokens() {
	for _, tok := range t.Tokens() {
		if tok.ExpiresAt != nil && !t.at.Before(*tok.ExpiresAt) {
			t.del(tTokens, tok)
		}
	}
}

func (t *tx) revokeToken(id string) Result {
	tok, ok := t.Token(id)
	if !ok {
		return Result{Err: api.Errorf(api.CodeNotFound, "no token %s", id).WithHint("see 'cloudless token list'")}
	}
	if tok.Role == api.RoleAdmin && t.lastAdmin(id) {
		return Result{Err: api.Errorf(api.CodeConflict, "token %s is the last of role admin", id).WithHint("create another admin token first")}
	}
	t.del(tTokens, tok)
	t.event(api.EventTokenRevoked, api.SeverityWarning, "token/"+id, "token %s of role %s revoked", id, tok.Role)
	return Result{}
}

func (t *tx) lastAdmin(id string) bool {
	for _, tok := range t.Tokens() {
		if tok.ID != id && tok.Role == api.RoleAdmin && (tok.ExpiresAt == nil || tok.ExpiresAt.After(t.at)) {
			return false
		}
	}
	return true
}

// spend checks a join token against role, name and time, and takes one use of it.
func (t *tx) spend(id string, role api.Role, name string) *api.Error {
	tok, ok := t.Token(id)
	switch {
	case !ok:
		return api.Errorf(api.CodeUnauthorized, "the join token is unknown or was revoked").WithHint("make one with 'cloudless token create --role %s'", role)
	case tok.Role != role:
		return api.Errorf(api.CodeUnauthorized, "the join token is for role %s, not %s", tok.Role, role).WithHint("make one with 'cloudless token create --role %s'", role)
	case tok.ExpiresAt != nil && !t.at.Before(*tok.ExpiresAt):
		return api.Errorf(api.CodeUnauthorized, "the join token expired at %s", tok.ExpiresAt.Format(time.RFC3339)).WithHint("make one with 'cloudless token create --role %s'", role)
	case tok.Name != "" && tok.Name != name:
		return api.Errorf(api.CodeUnauthorized, "the join token is for the name %q, not %q", tok.Name, name).WithHint("start with --name %s, or make another token", tok.Name)
	case tok.Limited && tok.Uses <= 0:
		return api.Errorf(api.CodeUnauthorized, "the join token has been used as often as it may be").WithHint("make one with 'cloudless token create --role %s'", role)
	}
	if tok.Limited {
		used := *tok
		used.Uses--
		used.ModifyIndex = t.index
		t.put(tTokens, &used)
	}
	return nil
}

func (t *tx) useToken(u UseToken) Result {
	return Result{Err: t.spend(u.TokenID, u.Role, u.Name)}
}

func (t *tx) putArtifact(a api.Artifact) Result {
	old, known := t.Artifact(a.Digest)
	a.CreatedAt, a.CreateIndex, a.ModifyIndex = t.at, t.index, t.index
	if known {
		a.CreatedAt, a.CreateIndex = old.CreatedAt, old.CreateIndex
	} else {
		t.event(api.EventArtifactStored, api.SeverityInfo, "artifact/"+a.Digest, "stored %s of %d bytes", a.Kind, a.Size)
	}
	t.put(tArtifacts, &a)
	return Result{}
}

func (t *tx) removeArtifact(digest string) Result {
	a, ok := t.Artifact(digest)
	if !ok {
		return refuse(api.CodeNotFound, "no artifact %s", digest)
	}
	if t.NamedArtifacts()[digest] {
		return refuse(api.CodeConflict, "artifact %s is named by a version of a workload", digest)
	}
	t.del(tArtifacts, a)
	return Result{}
}

// remember keeps an answer until it expires; beyond MaxIdempotencyKeys the oldest one goes.
func (t *tx) remember(a Answer) Result {
	if old, ok := t.Answer(a.Key); ok {
		t.del(tAnswers, old)
	}
	a.Index = t.index
	t.put(tAnswers, &a)
	rows := all[Answer](t.View, tAnswers, "age")
	for i, row := range rows {
		if over := len(rows)-i > api.MaxIdempotencyKeys; !over && row.Expires.After(t.at) {
			break
		}
		t.del(tAnswers, row)
	}
	return Result{}
}
