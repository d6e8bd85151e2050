package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNamedTestsExist: a document that says which test shows something names one that is there.
func TestNamedTestsExist(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	there := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || entry.IsDir() && entry.Name() == "node_modules":
			return skipFolder(err)
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range declared.FindAllStringSubmatch(string(text), -1) {
			there[found[1]] = true
		}
		return err
	}))
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	for _, document := range documents(t, filepath.Join("..", "..")) {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, found := range named.FindAllStringSubmatch(string(text), -1) {
			assert.True(t, there[found[1]], "%s: there is no test %s", document, found[1])
		}
	}
	assert.Greater(t, len(there), 500, "the tests were not found")
}

// skipFolder leaves a folder out where there is no error.
func skipFolder(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}
