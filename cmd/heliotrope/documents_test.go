package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testsIn are the names of the tests, fuzz tests and benchmarks in a folder and all below it.
func testsIn(t *testing.T, root string) map[string]bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	there := map[string]bool{}
	for _, file := range filesOf(t, root, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range declared.FindAllStringSubmatch(string(text), -1) {
			there[found[1]] = true
		}
	}
	return there
}

// TestNamedTestsExist: a document that says which test shows something names one that is there.
func TestNamedTestsExist(t *testing.T) {
	root := filepath.Join("..", "..")
	there := testsIn(t, root)
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	for _, document := range documents(t, root) {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, found := range named.FindAllStringSubmatch(string(text), -1) {
			assert.True(t, there[found[1]], "%s: there is no test %s", document, found[1])
		}
	}
	assert.Greater(t, len(there), 500, "the tests were not found")
}

// TestWhereThingsAre: CONTRIBUTING.md's list of folders has every package, and nothing else. A line without a
// name before it goes on with the line above; an indented name is a folder below the last one that is not indented. A
// package may also be named in the line of the folder that it is in.
func TestWhereThingsAre(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	require.NoError(t, err)
	_, list, found := strings.Cut(string(text), "## Where things are\n\n```\n")
	require.True(t, found, "CONTRIBUTING.md has no list of folders")
	list, _, _ = strings.Cut(list, "```")
	listed, above, last := map[string]string{}, "", ""
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		name, about, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		switch indent := len(line) - len(strings.TrimLeft(line, " ")); {
		case indent > 2:
			listed[last] += " " + line
			continue
		case indent > 0:
			name = above + "/" + name
		default:
			above = name
		}
		listed[name], last = about, name
		assert.DirExists(t, filepath.Join(root, name))
	}
	for _, file := range filesOf(t, root, func(name string) bool { return strings.HasSuffix(name, ".go") }) {
		folder, err := filepath.Rel(root, filepath.Dir(file))
		require.NoError(t, err)
		if _, there := listed[folder]; there || folder == "." || strings.Contains(folder, "testdata") {
			continue
		}
		in := filepath.Dir(folder)
		for listed[in] == "" && in != "." {
			in = filepath.Dir(in)
		}
		if !strings.Contains(listed[in], "a folder for each") && !regexp.MustCompile(`\b`+filepath.Base(folder)+`\b`).MatchString(listed[in]) {
			assert.Fail(t, "a package that is not listed", "%s: CONTRIBUTING.md, 'Where things are', does not name it", folder)
		}
	}
}

// TestExcerptOfAnInventory: the inventory at the beginning of docs/inventory.md is the one in examples/, in its order. Only
// comments stand in one of the two alone, and what the document leaves out.
func TestExcerptOfAnInventory(t *testing.T) {
	settings := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
				lines = append(lines, strings.TrimRight(line, " \n"))
			}
		}
		return lines
	}
	root := filepath.Join("..", "..")
	document, err := os.ReadFile(filepath.Join(root, "docs", "inventory.md"))
	require.NoError(t, err)
	whole, err := os.ReadFile(filepath.Join(root, "examples", "inventories", "lab-1.yaml"))
	require.NoError(t, err)
	_, excerpt, found := strings.Cut(string(document), "```yaml\n")
	require.True(t, found, "docs/inventory.md has no block of YAML")
	excerpt, _, _ = strings.Cut(excerpt, "```")
	shown, rest := settings(excerpt), settings(string(whole))
	assert.Greater(t, len(shown), 20, "lines of the excerpt")
	for _, line := range shown {
		at := slices.Index(rest, line)
		require.GreaterOrEqual(t, at, 0, "examples/inventories/lab-1.yaml has no such line, or has it earlier: %q", line)
		rest = rest[at+1:]
	}
}
