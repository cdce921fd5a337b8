package cli

import (
	"bytes"
	"strings"
	"unicode"
)

// grid prints rows in columns. A column is as wide as its widest cell so far, so that rows which come
// later, in pages or as changes, stay in line with those before. It never cuts or wraps a value.
type grid struct {
	e      *Env
	titles []string
	widths []int
	begun  bool
}

// gap is the space between two columns.
const gap = "  "

// print appends rows; the heads come before the first ones, which may be none.
func (g *grid) print(rows [][]string) error {
	var heads [][]string
	if !g.begun && !g.e.flags.noHeaders && !g.e.flags.quiet {
		heads = [][]string{g.titles}
	}
	g.begun = true
	g.measure(heads)
	g.measure(rows)
	var out bytes.Buffer
	for _, row := range heads {
		g.line(&out, row, false)
	}
	for _, row := range rows {
		g.line(&out, row, true)
	}
	_, err := g.e.Out.Write(out.Bytes())
	return err
}

// measure widens the columns, and keeps control characters of foreign text off the terminal.
func (g *grid) measure(rows [][]string) {
	for _, row := range rows {
		for i, cell := range row {
			row[i] = strings.Map(printable, cell)
			if i == len(g.widths) {
				g.widths = append(g.widths, 0)
			}
			g.widths[i] = max(g.widths[i], width(row[i]))
		}
	}
}

func (g *grid) line(out *bytes.Buffer, row []string, painted bool) {
	for i, cell := range row {
		if i > 0 {
			out.WriteString(gap)
		}
		pad := g.widths[i] - width(cell)
		if painted && toned[g.titles[i]] {
			cell = g.e.paint(tones[cell], cell)
		}
		out.WriteString(cell)
		if i < len(row)-1 {
			out.WriteString(strings.Repeat(" ", pad))
		}
	}
	out.WriteByte('\n')
}

// toned are the columns whose words have colours on a terminal.
var toned = map[string]bool{"PHASE": true, "STATE": true, "SEVERITY": true, "HEALTH": true, "STATUS": true}

const red, green, yellow = "31", "32", "33"

var tones = map[string]string{
	"running": green, "complete": green, "ready": green, "ok": green,
	"pending": yellow, "degraded": yellow, "updating": yellow, "deleting": yellow, "starting": yellow, "backoff": yellow,
	"joining": yellow, "suspect": yellow, "unready": yellow, "draining": yellow, "cordoned": yellow, "warning": yellow,
	"failed": red, "lost": red, "error": red,
}

// width is how many places of a terminal a text takes.
func width(text string) (n int) {
	for _, r := range text {
		n += places(r)
	}
	return n
}

func places(r rune) int {
	switch {
	case unicode.Is(wide, r):
		return 2
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf): // they go on top of the letter before
		return 0
	}
	return 1
}

// fit is as much of the beginning of a text as goes into so many places.
func fit(text string, left int) string {
	for i, r := range text {
		if left -= places(r); left < 0 {
			return text[:i]
		}
	}
	return text
}

// wide are the characters that take two places: those of East Asia, and pictures (Unicode UAX 11, in whole blocks).
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0xa4cf, Stride: 1}, {Lo: 0xa960, Hi: 0xa97f, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1}, {Lo: 0xff01, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, {Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, {Lo: 0x1f900, Hi: 0x1f9ff, Stride: 1}, {Lo: 0x20000, Hi: 0x3fffd, Stride: 1}},
}

// printable keeps control characters out of the table.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return ' '
	}
	return r
}
