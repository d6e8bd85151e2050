package main

import (
	"os"
	"path/filepath"
	"regexp"
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
