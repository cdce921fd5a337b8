// Package mirror decides how a folder and a bucket are brought into step. It is pure: Plan compares what is
// in the folder, what is in the bucket, and what both had when they were last in step (the base), and says
// what to do about each name. agent/volume does it.
//
// Nothing that nobody has seen is ever destroyed: a change wins over a deletion, and of two changes to one
// file that of the bucket keeps the name, while the local one is set aside under another.
package mirror

import (
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cloudless/cloudless/api"
)

// Stamp changes whenever a file does.
type Stamp struct {
	Inode   uint64 `json:"inode"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // its status change time, nanoseconds since 1970
}

// File is what is in the folder under a name.
type File struct {
	Stamp Stamp
	ETag  string // of its bytes; needed where the stamp is not the base's
	Busy  bool   // it changed a moment ago and may be half written
}

// Object is what is in the bucket under a name.
type Object struct {
	ETag string
	Size int64
}

// Base is what file and object were when they were last the same.
type Base struct {
	Stamp Stamp  `json:"stamp"`
	ETag  string `json:"etag"`
}

// Kind is what to do about a name.
type Kind string

// The kinds. The shell does the actions of a plan in their order.
const (
	Forget   Kind = "forget"   // neither has it any more: drop it from the base
	Note     Kind = "note"     // they are the same: put it into the base
	SetAside Kind = "setAside" // rename the file to As, so that the object can be fetched
	Remove   Kind = "remove"   // the file
	Fetch    Kind = "fetch"    // the object, into the file
	Send     Kind = "send"     // the file, if the object still has ETag; if ETag is "", if there is none
	Delete   Kind = "delete"   // the object, if it still has ETag
)

// Action is one thing to do.
type Action struct {
	Kind Kind
	Name string
	ETag string // of the object that was compared with
	As   string
}

// Mode says which way changes go.
type Mode struct {
	Send bool   // local changes go to the bucket; else the folder becomes what the bucket is
	Mark string // in the names of files that are set aside: whose they are
}

// Plan says what to do, in the order of kinds and names: what makes room before what needs it.
func Plan(files map[string]File, objects map[string]Object, base map[string]Base, m Mode) []Action {
	var actions []Action
	for _, name := range names(files, objects, base) {
		file, here := files[name]
		object, there := objects[name]
		was, known := base[name]
		step := step{name: name, file: file, here: here, object: object, there: there, was: was, known: known}
		actions = append(actions, step.decide(m)...)
	}
	slices.SortStableFunc(actions, func(a, b Action) int { return order[a.Kind] - order[b.Kind] })
	return actions
}

var order = map[Kind]int{Forget: 0, Note: 1, Remove: 2, Delete: 3, SetAside: 4, Fetch: 5, Send: 6}

// names are all that anybody knows, in order.
func names(files map[string]File, objects map[string]Object, base map[string]Base) []string {
	all := slices.Concat(slices.Collect(maps.Keys(files)), slices.Collect(maps.Keys(objects)), slices.Collect(maps.Keys(base)))
	slices.Sort(all)
	return slices.Compact(all)
}

// step is one name on all sides.
type step struct {
	name               string
	file               File
	object             Object
	was                Base
	here, there, known bool
}

// changedHere and changedThere tell what is not as it was when both were in step.
func (s *step) changedHere() bool {
	return s.here != s.known || s.here && s.file.Stamp != s.was.Stamp && s.file.ETag != s.was.ETag
}

func (s *step) changedThere() bool {
	return s.there != s.known || s.there && s.object.ETag != s.was.ETag
}

func (s *step) do(k Kind) []Action { return []Action{{Kind: k, Name: s.name, ETag: s.object.ETag}} }

func (s *step) decide(m Mode) []Action {
	here, there := s.changedHere(), s.changedThere()
	switch {
	case !s.here && !s.there:
		return s.do(Forget)
	case !here && !there && s.file.Stamp == s.was.Stamp:
		return nil
	case s.here && s.there && s.file.ETag == s.object.ETag, !here && !there:
		return s.do(Note) // it was touched, or both have changed alike
	case !m.Send:
		return s.follow()
	case s.here && s.file.Busy:
		return nil // a later pass sees it whole
	case !here:
		return s.follow()
	case !there:
		return s.lead()
	}
	return s.clash(m)
}

// follow makes the file what the object is.
func (s *step) follow() []Action {
	if s.there {
		return s.do(Fetch)
	}
	return s.do(Remove)
}

// lead makes the object what the file is.
func (s *step) lead() []Action {
	if s.here {
		return s.do(Send)
	}
	return s.do(Delete)
}

// clash is for what has changed on both sides.
func (s *step) clash(m Mode) []Action {
	switch {
	case !s.here:
		return s.do(Fetch)
	case !s.there:
		return s.do(Send)
	}
	return []Action{{Kind: SetAside, Name: s.name, As: aside(s.name, m.Mark, s.file.ETag)}, {Kind: Fetch, Name: s.name, ETag: s.object.ETag}}
}

// aside is the name of a file that lost its own: beside it, and another for other bytes.
func aside(name, mark, etag string) string {
	dir, file := path.Split(name)
	tail := ".conflict-" + mark + "-" + etag[:min(len(etag), 8)]
	for len(file) > 0 && (len(file)+len(tail) > maxFileName || !utf8.ValidString(file)) {
		file = file[:len(file)-1]
	}
	return dir + file + tail
}

// Limits of names, those of Linux.
const (
	maxFileName = 255
	maxFilePath = api.MaxObjectKeyBytes
)

// Fault says why a key cannot be a file's name, "" if it can.
func Fault(key string) string {
	switch {
	case len(key) > maxFilePath:
		return "it is too long"
	case !utf8.ValidString(key) || strings.ContainsRune(key, 0):
		return "it is no text"
	case strings.HasPrefix(key, "/") || strings.HasSuffix(key, "/"):
		return "it begins or ends with a slash"
	}
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return "it has nothing between two slashes"
		case part == "." || part == "..":
			return "it has a part that is . or .."
		case len(part) > maxFileName:
			return "a part of it is too long"
		}
	}
	return ""
}

// Usable takes out of objects what cannot be files, and says why not, by key. Where one key would have to be
// both a file and the folder of another, the folder wins.
func Usable(objects map[string]Object) (skipped map[string]string) {
	skipped = map[string]string{}
	folders := map[string]bool{}
	for key := range objects {
		if why := Fault(key); why != "" {
			skipped[key] = why
			continue
		}
		for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for key := range objects {
		if folders[key] && skipped[key] == "" {
			skipped[key] = "it is also the folder of other keys"
		}
	}
	maps.DeleteFunc(objects, func(key string, _ Object) bool { return skipped[key] != "" })
	return skipped
}
