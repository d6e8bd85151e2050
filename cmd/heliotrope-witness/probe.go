package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"heliotrope/internal/wan/probe"
)

func runProbeReceive(ctx context.Context, args []string, stdout io.Writer) error {
	listen, plan, err := parseProbe(args)
	if err != nil {
		return err
	}
	// Once this line is printed, the sender may send.
	ready := func() { fmt.Fprintln(stdout, "ready") }
	results, err := probe.Receive(ctx, listen, plan, ready)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(results)
}

func runProbeSend(ctx context.Context, args []string, _ io.Writer) error {
	to, plan, err := parseProbe(args)
	if err != nil {
		return err
	}
	return probe.Send(ctx, to, plan)
}

func parseProbe(args []string) (netip.AddrPort, probe.Plan, error) {
	address, err := parseAddress(args[0])
	if err != nil {
		return address, probe.Plan{}, err
	}
	var plan probe.Plan
	if err := decode("plan", args[1], &plan); err != nil {
		return address, plan, err
	}
	if err := plan.Check(); err != nil {
		return address, plan, badInput{err}
	}
	return address, plan, nil
}
