package main

import "testing"

func TestATableReplacesItsOwnSectionAlone(t *testing.T) {
	page := "# Page\n" + openMark("a") + "old a\n" + closeMark("a") + "by hand\n" + openMark("b") + "old b\n" + closeMark("b") + "end\n"
	got, err := replaceSection(page, "a", "new\n")
	want := "# Page\n" + openMark("a") + "new\n" + closeMark("a") + "by hand\n" + openMark("b") + "old b\n" + closeMark("b") + "end\n"
	if err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := replaceSection(got, "a", "new\n"); err != nil || again != want {
		t.Errorf("the second time %q, %v", again, err)
	}
	for name, broken := range map[string]string{
		"no section": "# Page\n", "no end": openMark("a"), "no beginning": closeMark("a"), "two": page + page, "the wrong way round": closeMark("a") + openMark("a"),
	} {
		if got, err := replaceSection(broken, "a", "new\n"); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}
