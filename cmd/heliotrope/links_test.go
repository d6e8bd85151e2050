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

var (
	linked  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```")
)

// anchors are the names by which a document's headings can be linked to, as GitHub makes
// them: lower case, with dashes for blanks, without characters that are not letters,
// digits, dashes or underscores.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, title := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		found[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(title[1])), ""), " ", "-")] = true
	}
	return found
}

// TestDocumentedLinks: targets of a document's links within the repository exist, including the
// headings.
func TestDocumentedLinks(t *testing.T) {
	files := documents(t, filepath.Join("..", ".."))
	texts := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		texts[file] = string(text)
	}
	checked := 0
	for _, file := range files {
		for _, found := range linked.FindAllStringSubmatch(fenced.ReplaceAllString(texts[file], ""), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			checked++
			name, anchor, _ := strings.Cut(found[1], "#")
			target := file
			if name != "" {
				target = filepath.Join(filepath.Dir(file), name)
			}
			if _, err := os.Stat(target); !assert.NoError(t, err, "%s links to %s", file, found[1]) || anchor == "" {
				continue
			}
			assert.True(t, anchors(texts[target])[anchor], "%s links to %s: no such heading", file, found[1])
		}
	}
	assert.Greater(t, checked, 100, "links in the documents")
}
