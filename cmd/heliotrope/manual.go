package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// sourceDate names the environment variable with the date of the build, in seconds since 1970, by
// https://reproducible-builds.org/specs/source-date-epoch/.
const sourceDate = "SOURCE_DATE_EPOCH"

func newManual() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages, one for each command",
		Long: `Write the manual pages into a folder, which is made where it is not there: one for each
command, of the same text as its --help. Their date is today, or that of the environment
variable SOURCE_DATE_EPOCH (seconds since 1970).`,
		Example: `  heliotrope man ~/.local/share/man/man1
  man heliotrope-run`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := manualDate()
			if err != nil {
				return err
			}
			return writeManual(cmd.Root(), args[0], date)
		},
	}
}

// manualDate is the date of the manual pages.
func manualDate() (time.Time, error) {
	text := os.Getenv(sourceDate)
	if text == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("%s: %q is not a number of seconds", sourceDate, text)}
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// writeManual writes the pages of a command and of all its subcommands into a folder. It changes the commands,
// which cannot be used for anything else afterwards.
func writeManual(root *cobra.Command, dir string, date time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	forManual(root)
	header := doc.GenManHeader{Section: "1", Date: &date, Source: "Heliotrope " + version, Manual: "Heliotrope"}
	return doc.GenManTree(root, &header, dir)
}

// forManual converts the texts of a command and all its subcommands to Markdown, which cobra's
// generator takes.
func forManual(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	cmd.Long = asMarkdown(cmd.Long)
	cmd.LocalFlags() // merges the parents' flags
	for _, child := range cmd.Commands() {
		forManual(child)
	}
}

// special matches characters with a meaning in Markdown that texts for a terminal contain.
var special = regexp.MustCompile(`[\\*_<>\[\]#|]`)

// asMarkdown converts a text for a terminal to Markdown that looks the same: blocks that have columns or indented
// lines keep their lines.
func asMarkdown(text string) string {
	blocks := strings.Split(text, "\n\n")
	for i, block := range blocks {
		if strings.HasPrefix(block, " ") || strings.Contains(block, "  ") {
			blocks[i] = "```\n" + block + "\n```"
		} else {
			blocks[i] = special.ReplaceAllString(block, `\$0`)
		}
	}
	return strings.Join(blocks, "\n\n")
}
