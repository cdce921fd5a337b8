package objects

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// large is a store whose backup takes several pieces, one of its rows among them.
func large(t testing.TB) *Store {
	t.Helper()
	s := openStore(t, vfs.NewMem())
	applyAll(t, s, life())
	var chunks []int
	for i := range 50_000 {
		chunks = append(chunks, i)
	}
	for _, key := range []string{"c", "d"} {
		if res := apply(t, s, s.Applied()+1, at(put(key, chunks...))); res[0].Err != nil {
			t.Fatal(res[0].Err)
		}
	}
	return s
}

// A backup that comes by the log replaces all rows at its last piece, and nothing before; a coordinator
// that starts again or comes later in between goes on with the pieces that follow.
func TestARestoreComesInPieces(t *testing.T) {
	from := large(t)
	defer closeStore(t, from)
	want := backup(t, from)
	cmds := pieces(t, "r1", want)
	if len(cmds) < 4 {
		t.Fatalf("only %d pieces", len(cmds))
	}
	fs := vfs.NewMem()
	s := openStore(t, fs)
	apply(t, s, 1, at(bucketNamed("foreign")))
	for i, c := range cmds {
		if rowsOf(backup(t, s)) == rowsOf(want) {
			t.Fatalf("replaced after %d pieces of %d", i, len(cmds))
		}
		apply(t, s, s.Applied()+1, c)
		apply(t, s, s.Applied()+1, at(bucketNamed("meanwhile")))
		closeStore(t, s)
		s = openStore(t, fs)
		fs = vfs.NewMem()
		s = moved(t, s, fs)
	}
	apply(t, s, s.Applied()+1, at(Command{DeleteBucket: &DeleteBucket{Name: "meanwhile"}}))
	if rowsOf(backup(t, s)) != rowsOf(want) || !s.Restored().Equal(day) {
		t.Errorf("other rows than in the backup, restored %v", s.Restored())
	}
	closeStore(t, s)
}

// moved is the same store on another disk.
func moved(t *testing.T, s *Store, fs vfs.FS) *Store {
	t.Helper()
	to := openStore(t, fs)
	if err := catchUp(to, dump(t, s)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	return to
}

// What was answered and not heard may be sent again; what does not follow is refused, and a restore that
// begins takes the place of one that has not ended.
func TestPiecesComeInOrderAndMayComeTwice(t *testing.T) {
	from := large(t)
	defer closeStore(t, from)
	want := backup(t, from)
	one, two := pieces(t, "r1", want), pieces(t, "r2", want)
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	for _, step := range []struct {
		c    Command
		code api.Code
	}{
		{one[1], api.CodeConflict},
		{one[0], ""}, {one[0], ""}, {one[1], ""}, {one[1], ""}, {one[3], api.CodeConflict},
		{two[1], api.CodeConflict}, {two[0], ""}, {one[2], api.CodeConflict}, {two[1], ""},
		{at(Command{Restore: &RestorePiece{ID: "r1", Drop: true}}), ""}, {two[2], ""},
		{at(Command{Restore: &RestorePiece{ID: "r2", Drop: true}}), ""}, {two[3], api.CodeConflict},
	} {
		if res := apply(t, s, s.Applied()+1, step.c); codeOf(res[0].Err) != step.code {
			t.Fatalf("piece %d of %s: %v, want %q", step.c.Restore.Number, step.c.Restore.ID, res[0].Err, step.code)
		}
	}
	restore(t, s, "r3", want)
	last := pieces(t, "r3", want)
	if res := apply(t, s, s.Applied()+1, last[len(last)-1]); res[0].Err != nil || rowsOf(backup(t, s)) != rowsOf(want) {
		t.Errorf("the last piece, come twice: %v", res[0].Err)
	}
}

func TestPiecesThatCannotBeAreRefused(t *testing.T) {
	row := func(key, value string) []byte { return appendField(appendField(nil, []byte(key)), []byte(value)) }
	for name, c := range map[string]struct {
		piece RestorePiece
		code  api.Code
	}{
		"an id with a byte that it may not have": {RestorePiece{ID: "a/b"}, api.CodeInvalid},
		"a row of nothing":                       {RestorePiece{ID: "r", Rows: row("", "x")}, api.CodeInvalid},
		"a row that is no row":                   {RestorePiece{ID: "r", Rows: row("\x00", "x")}, api.CodeInvalid},
		"rows out of order":                      {RestorePiece{ID: "r", Rows: append(row("bb", "x"), row("ba", "x")...)}, api.CodeInvalid},
		"a row twice":                            {RestorePiece{ID: "r", Rows: append(row("bb", "x"), row("bb", "x")...)}, api.CodeInvalid},
		"a row that goes on with none":           {RestorePiece{ID: "r", Rows: row("bb", "x"), More: true}, api.CodeInvalid},
		"a key that is cut":                      {RestorePiece{ID: "r", Rows: []byte{5, 'b'}}, api.CodeInvalid},
		"a value that is cut":                    {RestorePiece{ID: "r", Rows: []byte{1, 'b', 9, 'x'}}, api.CodeInvalid},
		"a key at its limit":                     {RestorePiece{ID: "r", Rows: row("b"+strings.Repeat("x", maxRowKeyBytes-1), "")}, ""},
		"a key over its limit":                   {RestorePiece{ID: "r", Rows: row("b"+strings.Repeat("x", maxRowKeyBytes), "")}, api.CodeInvalid},
		"a piece at its limit":                   {RestorePiece{ID: "r", Rows: row("b", strings.Repeat("x", maxPieceBytes-2-3))}, ""},
		"a piece over its limit":                 {RestorePiece{ID: "r", Rows: row("b", strings.Repeat("x", maxPieceBytes-1-3))}, api.CodeTooLarge},
	} {
		s := openStore(t, vfs.NewMem())
		before := dump(t, s)
		if res := apply(t, s, 1, at(Command{Restore: &c.piece})); codeOf(res[0].Err) != c.code {
			t.Errorf("%s: %v, want %q", name, res[0].Err, c.code)
		}
		if got := dump(t, s); c.code != "" && !bytes.Equal(got[:3], before[:3]) {
			t.Errorf("%s: something was staged", name)
		}
		closeStore(t, s)
	}
}

// A piece shares no entry: what came with it would be of rows that it replaces.
func TestAPieceIsAnEntryByItself(t *testing.T) {
	piece := at(Command{Restore: &RestorePiece{ID: "r1"}})
	one, err := EncodeCommands([]Command{piece})
	if err != nil {
		t.Fatal(err)
	}
	other, err := EncodeCommands([]Command{at(bucketNamed("assets"))})
	if err != nil || one.Fits(other) || other.Fits(one) || !other.Fits(other) {
		t.Errorf("a piece fits beside another command, %v", err)
	}
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	res := apply(t, s, 1, at(bucketNamed("assets")), piece)
	if d := cmp.Diff([]api.Code{"", api.CodeInvalid}, []api.Code{codeOf(res[0].Err), codeOf(res[1].Err)}); d != "" {
		t.Error(d)
	}
}

// A damaged backup is found out before its last piece, and so replaces nothing.
func TestADamagedBackupHasNoLastPiece(t *testing.T) {
	from := openStore(t, vfs.NewMem())
	defer closeStore(t, from)
	applyAll(t, from, life())
	eachDamage(backup(t, from), func(what string, bad []byte) {
		p, err := ReadPieces(bytes.NewReader(bad), "r1")
		for err == nil {
			var piece *RestorePiece
			if piece, err = p.Next(); piece != nil && piece.Last {
				t.Fatalf("%s: it has a last piece", what)
			}
		}
		if err == io.EOF || api.CodeOf(err) != api.CodeInvalid {
			t.Fatalf("%s: %v", what, err)
		}
	})
}

// When rows were restored is known after a start, too.
func TestTheTimeOfARestoreIsKept(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	empty := backup(t, s)
	if !s.Restored().IsZero() {
		t.Errorf("restored %v", s.Restored())
	}
	restore(t, s, "r1", empty)
	for range 2 {
		if !s.Restored().Equal(day) {
			t.Errorf("restored %v", s.Restored())
		}
		closeStore(t, s)
		s = openStore(t, fs)
	}
	later := at(Command{Restore: &RestorePiece{ID: "r2", Last: true}})
	later.At = day.Add(time.Hour)
	apply(t, s, s.Applied()+1, later)
	if !s.Restored().Equal(later.At) {
		t.Errorf("restored %v", s.Restored())
	}
	closeStore(t, s)
}

// A row that could not be read later, in a backup that is whole otherwise, is found before anything is
// replaced.
func TestABackupOfRowsThatCannotBeReadIsRefused(t *testing.T) {
	for _, letter := range []string{bucketKeys, usageKeys, objectKeys, uploadKeys, partKeys, sessionKeys, countKeys} {
		var b bytes.Buffer
		if err := writeBackup(&b, mapRows{letter + "x": []byte("junk")}, 1); err != nil {
			t.Fatal(err)
		}
		p, err := ReadPieces(&b, "r1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Next(); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("row %q: %v", letter, err)
		}
	}
}
