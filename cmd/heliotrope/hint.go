package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/remote"
)

// given is what a command line says of where the controller is, where that is not the
// default. The commands that this one advises must say it, too.
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

// hint is an advice in the backquotes of a message.
func hint(ctx context.Context, words ...string) string { return "`" + advice(ctx, words...) + "`" }

// advice is a command of ours that somebody may type next: with the --state-dir, and for serve
// the --address, of the command line that runs. It must be one that takes them.
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

// shellWord is a word as a shell wants it: in quotes where it needs them.
func shellWord(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-+=@%,"
	if strings.Trim(word, plain) == "" && word != "" {
		return word
	}
	return remote.Words(word)
}
