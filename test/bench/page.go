package main

import (
	"fmt"
	"os"
	"strings"
)

// A page of docs has a section for each table, between two lines that name it; what stands around them is
// written by people, and stays.

func openMark(name string) string  { return "<!-- table " + name + " -->\n" }
func closeMark(name string) string { return "<!-- end of table " + name + " -->\n" }

// writeSection puts a table into its section of a page.
func writeSection(path, name, table string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := replaceSection(string(page), name, table)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func replaceSection(page, name, table string) (string, error) {
	before, rest, opened := strings.Cut(page, openMark(name))
	_, after, closed := strings.Cut(rest, closeMark(name))
	if !opened || !closed || strings.Contains(after, openMark(name)) {
		return "", fmt.Errorf("the table belongs between one line %q and one %q", strings.TrimSpace(openMark(name)), strings.TrimSpace(closeMark(name)))
	}
	return before + openMark(name) + table + closeMark(name) + after, nil
}
