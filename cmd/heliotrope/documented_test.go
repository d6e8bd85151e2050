package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documented is a command line in a document.
type documented struct {
	where string   // file:line
	whole bool     // as somebody would type it, not a mention of it
	line  string   // as it stands there
	words []string // the command in it, without what the shell does beside; the first one is the program
}

// ours says whether the program is one of the repository's.
func (d documented) ours() bool { return programs.MatchString(d.words[0]) }

// heliotropes says whether the program is heliotrope itself.
func (d documented) heliotropes() bool { return path.Base(d.words[0]) == "heliotrope" }

// documents are the texts that tell people what to type.
func documents(t *testing.T, root string) []string {
	t.Helper()
	return filesOf(t, root, func(name string) bool {
		// The changelog mentions commands that no longer exist.
		return filepath.Ext(name) == ".md" && name != "CHANGELOG.md"
	})
}

// filesOf are the repository's files of the wanted names, without what was built or fetched, test data, and results.
func filesOf(t *testing.T, root string, wanted func(name string) bool) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && file != root
		measured := file == filepath.Join(root, "docs", "results")
		if entry.IsDir() && (hidden || measured || slices.Contains([]string{"node_modules", "bin", "testdata"}, entry.Name())) {
			return filepath.SkipDir
		}
		if !entry.IsDir() && wanted(entry.Name()) {
			files = append(files, file)
		}
		return nil
	}))
	return files
}

var (
	mention  = regexp.MustCompile("`([^`]+)`")
	fence    = regexp.MustCompile("^ *```([a-z]*)")
	programs = regexp.MustCompile(`^((\./|bin/)?heliotrope|make|tools/[a-z0-9-]+)$`)
	word     = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`)
	// A command line ends where the shell does something else.
	beyond = regexp.MustCompile(`\s(#|\||[0-9]?[><]|&&|;|&).*$|;.*$`)
)

// linesOf are the commands in a document: all of its blocks of shell, and those of ours that it mentions.
func linesOf(t *testing.T, file string) (found []documented) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	language, block := "", false
	for number, line := range strings.Split(strings.ReplaceAll(string(text), "\\\n", ""), "\n") {
		where := fmt.Sprintf("%s:%d", file, number+1)
		if opened := fence.FindStringSubmatch(line); opened != nil {
			block, language = !block, opened[1]
			continue
		}
		if block {
			typed, prompt := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if language == "sh" || prompt {
				found = append(found, split(where, typed, true)...)
			}
			continue
		}
		for _, code := range mention.FindAllStringSubmatch(line, -1) {
			found = append(found, oursOf(split(where, code[1], false))...)
		}
	}
	return found
}

var (
	setting = regexp.MustCompile(`^[A-Z_]+=`)
	asUser  = regexp.MustCompile(`^sudo( -u [a-z]+)? `)
)

// split is the command in a line, if there is one; sudo and settings of the environment may stand before it.
func split(where, line string, whole bool) []documented {
	words := word.FindAllString(asUser.ReplaceAllString(beyond.ReplaceAllString(line, ""), ""), -1)
	for len(words) > 0 && setting.MatchString(words[0]) {
		words = words[1:]
	}
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	return []documented{{where: where, whole: whole, line: line, words: words}}
}

// oursOf are those of the commands whose program is one of the repository's.
func oursOf(all []documented) []documented {
	return slices.DeleteFunc(all, func(one documented) bool { return !one.ours() })
}

// TestDocumentedCommands: every command that a document or a help text tells people to type
// exists, with its flags, and with its files when they are ours.
func TestDocumentedCommands(t *testing.T) {
	root := filepath.Join("..", "..")
	var all []documented
	for _, file := range documents(t, root) {
		all = append(all, oursOf(linesOf(t, file))...)
	}
	for _, command := range commandsOf(newRoot(io.Discard, io.Discard)) {
		for _, line := range strings.Split(command.Example, "\n") {
			all = append(all, oursOf(split(command.CommandPath()+" --help", strings.TrimSpace(line), true))...)
		}
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	asked := 0
	for _, line := range all {
		switch program := line.words[0]; {
		case program == "make":
			for _, target := range line.words[1:] {
				if !strings.ContainsAny(target, "=-") || strings.HasPrefix(target, "test-") {
					assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(target)+`:`, string(makefile), line.where)
				}
			}
		case strings.HasPrefix(program, "tools/"):
			_, err := os.Stat(filepath.Join(root, program))
			assert.NoError(t, err, line.where)
		default:
			asked++
			assert.NoError(t, understood(line), "%s: %s", line.where, strings.Join(line.words, " "))
		}
		for _, argument := range line.words[1:] {
			if strings.HasPrefix(argument, "examples/") {
				assert.FileExists(t, filepath.Join(root, argument), line.where)
			}
		}
	}
	assert.Greater(t, asked, 100, "commands of heliotrope in the documents")
}

// commandsOf are a command and all its subcommands.
func commandsOf(command *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{command}
	for _, sub := range command.Commands() {
		all = append(all, commandsOf(sub)...)
	}
	return all
}

// understood is an error when heliotrope has no such command, flag or number of arguments.
// A mention may leave out arguments, and has names in capitals in place of values.
func understood(line documented) error {
	root := newRoot(io.Discard, io.Discard)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	words := line.words[1:]
	if !line.whole {
		words = strings.Fields(strings.NewReplacer("[", "", "]", "", "…", "", "|", " ").Replace(strings.Join(words, " ")))
	}
	command, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	command.InitDefaultHelpFlag()
	for _, argument := range rest {
		if argument == "--" {
			break
		}
		if name, is := strings.CutPrefix(argument, "--"); is {
			name, _, _ = strings.Cut(name, "=")
			if command.Flag(name) == nil {
				return fmt.Errorf("%s has no flag --%s", command.CommandPath(), name)
			}
		}
	}
	if !line.whole {
		return nil
	}
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	return command.ValidateArgs(command.Flags().Args())
}
