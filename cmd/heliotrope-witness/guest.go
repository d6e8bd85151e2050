package main

import (
	"context"
	"io"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/beat"
)

// runGuest reports from the guest until the context ends.
func runGuest(ctx context.Context, args []string, _ io.Writer) error {
	var config witness.GuestConfig
	if err := decode("config", args[0], &config); err != nil {
		return err
	}
	if err := config.Check(); err != nil {
		return badInput{err}
	}
	return beat.Guest(ctx, config)
}
