package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

// wan shapes a testbed's WAN by hand; a campaign does it by itself.
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
The host itself removes the shaping when the lease ends; lan shapes nothing.`,
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
			shaper := wan.New(inv, tb.Host(inv.WAN.Host))
			switch {
			case len(args) == 0:
			case profile.IsShaping():
				err = shaper.Shape(cmd.Context(), profile, lease)
			default:
				err = shaper.Clear(cmd.Context())
			}
			if err != nil {
				return err
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

func printWAN(out io.Writer, state wan.State) error {
	if state.ToA == nil && state.ToB == nil {
		_, err := fmt.Fprintln(out, "the WAN is not shaped")
		return err
	}
	_, err := fmt.Fprintf(out, "the WAN is shaped as %s, for %s more\n", state.Profile, state.LeaseLeft.Round(time.Second))
	return err
}
