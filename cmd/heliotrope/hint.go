package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/remote"
)

// given is where the controller is, when the command line does not use the default.
// Commands that a message advises must contain it, too.
type given struct{ stateDir, address string }

type givenKey struct{}

// rememberGiven keeps in the command's context what hint needs.
func rememberGiven(cmd *cobra.Command) {
	var g given
	set := func(name string) string {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			return flag.Value.String()
		}
		return ""
	}
	if dir := set("state-dir"); dir != "" {
		absolute, err := filepath.Abs(dir)
		usual, _ := temporal.DefaultDir()
		if err == nil && absolute != usual {
			g.stateDir = absolute
		}
	}
	if address := set("address"); address != temporal.DefaultAddress {
		g.address = address
	}
	cmd.SetContext(context.WithValue(cmd.Context(), givenKey{}, g))
}

// hint is a command that a message advises, in backquotes.
func hint(ctx context.Context, words ...string) string { return "`" + advice(ctx, words...) + "`" }

// advice is one of our commands that somebody may type next. It gets the --state-dir of the
// current command line, and serve also the --address. The command must be one that takes these
// flags.
func advice(ctx context.Context, words ...string) string {
	g, _ := ctx.Value(givenKey{}).(given)
	if g.stateDir != "" {
		words = append(words, "--state-dir", shellWord(g.stateDir))
	}
	if g.address != "" && words[0] == "serve" {
		words = append(words, "--address", shellWord(g.address))
	}
	return "heliotrope " + strings.Join(words, " ")
}

// shellWord quotes a word for a shell where that is needed.
func shellWord(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-+=@%,"
	if strings.Trim(word, plain) == "" && word != "" {
		return word
	}
	return remote.Words(word)
}
