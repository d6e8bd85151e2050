package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal"
)

// hinted is what hint returns in a command with these flags.
func hinted(t *testing.T, flags, words []string) string {
	t.Helper()
	var made string
	root := newRoot(io.Discard, io.Discard)
	probe := &cobra.Command{Use: "probe", Run: func(cmd *cobra.Command, _ []string) { made = hint(cmd.Context(), words...) }}
	(&campaignCommand{}).flags(probe)
	probe.Flags().String("address", "", "")
	root.AddCommand(probe)
	root.SetArgs(append([]string{"probe"}, flags...))
	require.NoError(t, root.ExecuteContext(t.Context()))
	return made
}

// TestHint: an advised command finds the same controller.
func TestHint(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	usual, err := temporal.DefaultDir()
	require.NoError(t, err)
	watch, serve := []string{"watch", "quick"}, []string{"serve"}
	for _, test := range []struct {
		flags, words []string
		want         string
	}{
		{nil, watch, "`heliotrope watch quick`"},
		{[]string{"--state-dir", usual}, watch, "`heliotrope watch quick`"},
		{[]string{"--state-dir", "/srv/state"}, watch, "`heliotrope watch quick --state-dir /srv/state`"},
		{[]string{"--state-dir", "/srv/it's here", "--address", "127.0.0.1:7"}, watch, `` + "`heliotrope watch quick --state-dir '/srv/it'\\''s here'`"},
		{[]string{"--address", "127.0.0.1:17233"}, serve, "`heliotrope serve --address 127.0.0.1:17233`"},
		{[]string{"--address", temporal.DefaultAddress}, serve, "`heliotrope serve`"},
	} {
		assert.Equal(t, test.want, hinted(t, test.flags, test.words), "%v", test.flags)
	}
	assert.Equal(t, "`heliotrope serve`", hint(t.Context(), "serve"))
}

// TestHintsAreMade: messages advise commands that take --state-dir only through hint, which
// repeats the user's flag. Commands for another controller are excepted, because its state
// folder is not known.
func TestHintsAreMade(t *testing.T) {
	var names []string
	for _, command := range newRoot(io.Discard, io.Discard).Commands() {
		if command.Flags().Lookup("state-dir") != nil {
			names = append(names, command.Name())
		}
	}
	require.Contains(t, names, "watch")
	advised := regexp.MustCompile("(`|: +)heliotrope (" + strings.Join(names, "|") + ")\\b")
	elsewhere := regexp.MustCompile("`heliotrope stop` (there|and its --state-dir)")
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(node ast.Node) bool {
			literal, is := node.(*ast.BasicLit)
			if is && !strings.HasSuffix(file, "_test.go") && literal.Kind == token.STRING && advised.MatchString(literal.Value) && !elsewhere.MatchString(literal.Value) {
				t.Errorf("%s: %s: make it by hint", file, literal.Value)
			}
			return true
		})
	}
}
