package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

// wan shapes a testbed's WAN by hand; a campaign does that by itself.
func (c *labCommand) wan() *cobra.Command {
	var lease time.Duration
	var names []string
	for _, profile := range wan.Profiles() {
		names = append(names, profile.Name)
	}
	cmd := &cobra.Command{
		Use:   "wan [PROFILE]",
		Short: "Show how the WAN is shaped, or shape it",
		Long: `Show how the WAN between the sites is shaped, or shape it: with the name of a
profile (` + strings.Join(names, ", ") + `) or with numbers.
The host itself removes the shaping when the lease ends; lan shapes nothing. While
a campaign holds the path, it is left as it is.`,
		Example: `  heliotrope lab wan
  heliotrope lab wan transatlantic
  heliotrope lab wan rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit --lease 10m
  heliotrope lab wan lan`,
		Args:      usageArgs(cobra.MaximumNArgs(1)),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			profile := wan.Profile{}
			if len(args) == 1 {
				var err error
				if profile, err = wan.ParseProfile(args[0]); err != nil {
					return usageError{err}
				}
			}
			l, err := c.open()
			if err != nil {
				return err
			}
			inv, err := l.Inventory()
			if err != nil {
				return err
			}
			tb, err := testbed.Connect(inv)
			if err != nil {
				return err
			}
			defer tb.Close() //nolint:errcheck // the process ends
			shaper := tb.Shaper()
			switch {
			case len(args) == 0:
			case profile.IsShaping():
				err = shaper.Shape(cmd.Context(), byHand, profile, lease)
			default:
				err = shaper.Clear(cmd.Context(), byHand)
			}
			if err != nil {
				return sayWhoHolds(err, time.Now())
			}
			state, err := shaper.State(cmd.Context())
			if err != nil {
				return err
			}
			return printWAN(cmd.OutOrStdout(), state)
		},
	}
	cmd.Flags().DurationVar(&lease, "lease", time.Hour, "how long the shaping lasts")
	return cmd
}

// byHand is the owner of a path that this command shapes.
const byHand = "heliotrope lab wan"

// sayWhoHolds says, when a campaign holds the path, until when it does and what to do.
func sayWhoHolds(err error, now time.Time) error {
	var held *wan.HeldError
	if !errors.As(err, &held) {
		return err
	}
	return fmt.Errorf("the path is held by %s, as %s, until %s and longer while that runs: another shaping would spoil what it measures; "+
		"let it end, or end it (heliotrope cancel)", held.Owner, held.Profile, now.Add(held.Left).Format(time.TimeOnly))
}

func printWAN(out io.Writer, state wan.State) error {
	shaped := "not shaped"
	if state.ToA != nil || state.ToB != nil {
		shaped = "shaped as " + state.Profile
	}
	if state.LeaseHeld {
		shaped += fmt.Sprintf(", held by %s for %s more", state.Owner, state.LeaseLeft.Round(time.Second))
	}
	_, err := fmt.Fprintln(out, "the WAN is "+shaped)
	return err
}
