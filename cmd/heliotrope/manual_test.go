package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
)

// everyCommand calls do for each command that a user sees, with its words: run, lab up.
func everyCommand(cmd *cobra.Command, words []string, do func(cmd *cobra.Command, words []string)) {
	do(cmd, words)
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			everyCommand(child, append(words[:len(words):len(words)], child.Name()), do)
		}
	}
}

// flagsOf are the flags that a command's own help shows.
func flagsOf(cmd *cobra.Command) (names []string) {
	cmd.InitDefaultHelpFlag()
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	})
	return names
}

// TestManualHasEveryCommandAndFlag checks that nothing of the command line is missing in the manual pages, and
// that they are the same whenever they are made.
func TestManualHasEveryCommandAndFlag(t *testing.T) {
	t.Setenv(sourceDate, "1700000000")
	dir := filepath.Join(t.TempDir(), "man1")
	code, _, stderr := run(t, "man", dir)
	require.Zero(t, code, stderr)
	pages := 0
	everyCommand(newRoot(nil, nil), []string{"heliotrope"}, func(cmd *cobra.Command, words []string) {
		pages++
		text, err := os.ReadFile(filepath.Join(dir, strings.Join(words, "-")+".1"))
		if !assert.NoError(t, err) {
			return
		}
		page := strings.ReplaceAll(string(text), `\-`, "-")
		assert.Contains(t, page, "Nov 2023", words)
		assert.Contains(t, page, cmd.Short, words)
		for _, name := range flagsOf(cmd) {
			assert.Contains(t, page, "--"+name, words)
		}
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				assert.Contains(t, page, strings.Join(words, "-")+"-"+child.Name()+"(1)", words)
			}
		}
	})
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, pages)
}

// TestCompletionHasEveryCommandAndFlag asks what a shell asks when somebody presses Tab.
func TestCompletionHasEveryCommandAndFlag(t *testing.T) {
	ownHome(t)
	everyCommand(newRoot(nil, nil), nil, func(cmd *cobra.Command, words []string) {
		offered := func(beginning string) string {
			code, stdout, stderr := run(t, append(append([]string{cobra.ShellCompNoDescRequestCmd}, words...), beginning)...)
			require.Zero(t, code, stderr)
			return "\n" + stdout
		}
		flags := offered("--")
		for _, name := range flagsOf(cmd) {
			assert.Contains(t, flags, "\n--"+name, words)
		}
		children := offered("")
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				assert.Contains(t, children, "\n"+child.Name()+"\n", words)
			}
		}
	})
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, stdout, stderr := run(t, "completion", shell)
		assert.Zero(t, code, stderr)
		assert.Contains(t, stdout, "heliotrope", shell)
	}
	code, _, stderr := run(t, "completion", "tcsh")
	assert.Equal(t, exitBadInput, code, stderr)
}

func TestManualRefusesADateThatIsNone(t *testing.T) {
	t.Setenv(sourceDate, "yesterday")
	code, _, stderr := run(t, "man", t.TempDir())
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, stderr, sourceDate)
}

func TestAsMarkdown(t *testing.T) {
	assert.Equal(t, "one \\* two\n\n```\n three * four\n```\n\n```\nA   a_b\nBC  c\n```\n\nfive\\_six \\<seven\\>",
		asMarkdown("one * two\n\n three * four\n\nA   a_b\nBC  c\n\nfive_six <seven>"))
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := run(t, "version", "--json")
	require.Zero(t, code, stderr)
	var said versions
	require.NoError(t, json.Unmarshal([]byte(stdout), &said))
	assert.Equal(t, version, said.Version)
	assert.Equal(t, dataset.SchemaVersion, said.Schemas.Dataset)
	assert.NotZero(t, said.Schemas.Campaign)
	assert.NotZero(t, said.Schemas.Inventory)
	assert.NotEmpty(t, said.TemporalServers)
	assert.Contains(t, said.Go, "go1.")
	code, stdout, stderr = run(t, "version")
	assert.Zero(t, code, stderr)
	assert.Contains(t, stdout, "heliotrope "+version)
	code, _, _ = run(t, "version", "now")
	assert.Equal(t, exitBadInput, code)
}

func TestMadeOf(t *testing.T) {
	made := madeOf(&debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{
		{Path: "example.org/a", Version: "v1.0.0", Sum: "h1:AAAA"},
		{Path: "example.org/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/c", Version: "v2.0.0", Sum: "h1:BBBB"}},
	}, Settings: []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "arm64"}}})
	assert.Equal(t, "linux/arm64", made.Platform)
	assert.Equal(t, []builtModule{{Path: "example.org/a", Version: "v1.0.0", Sum: "h1:AAAA"}, {Path: "example.org/c", Version: "v2.0.0", Sum: "h1:BBBB"}}, made.Modules)
	assert.Empty(t, madeOf(nil).Modules)
}
