package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/trial"
)

// Settings of the whole matrix: `make test-faults`. Without seeds only shortMatrix is run.
var (
	faultSeeds = flag.Int("fault-seeds", 0, "how often each fault is injected in each phase; 0: some faults in some phases, once")
	faultSlots = flag.Int("fault-slots", 2, "how many faults are injected side by side")
	faultOnly  = flag.String("fault-only", "", "only faults of which KIND in PHASE matches this regular expression")
)

// shortMatrix is what each run of the tests does: each of these kinds in one phase.
var shortMatrix = map[string]trial.Phase{
	"controller killed":   trial.Migrate,
	"server killed":       trial.Collect,
	"both killed":         trial.Teardown,
	"database lost":       trial.Verify,
	"campaign terminated": trial.WarmUp,
	"lane terminated":     trial.Attest,
	"lane drained":        trial.Collect,
	"campaign cancelled":  trial.Provision,
	"host away":           trial.Teardown,
	"WAN lost":            trial.Shape,
	"leftovers":           "",
}

// faultPhases are the phases in which the model is called.
var faultPhases = slices.DeleteFunc(slices.Clone(trial.Phases), func(p trial.Phase) bool {
	return p == trial.Before || p == trial.After
})

// faultCells are the faults to inject, always in the same order.
func faultCells() []*cell {
	var cells []*cell
	only := regexp.MustCompile(*faultOnly)
	add := func(kind *faultKind, phase trial.Phase, seed int) {
		c := &cell{kind: kind, phase: phase, seed: seed}
		if !only.MatchString(fmt.Sprintf("%s in %s", kind.name, phase)) {
			return
		}
		hash := fnv.New64a()
		_, _ = io.WriteString(hash, c.String())
		c.random = rand.New(rand.NewPCG(uint64(seed), hash.Sum64()))
		cells = append(cells, c)
	}
	for _, kind := range faultKinds() {
		phases := faultPhases
		if kind.inject == nil {
			phases = []trial.Phase{""}
		}
		if phase, short := shortMatrix[kind.name]; *faultSeeds == 0 {
			if short {
				add(kind, phase, 0)
			}
			continue
		}
		for _, phase := range phases {
			for seed := range *faultSeeds {
				add(kind, phase, seed)
			}
		}
	}
	for i, c := range cells {
		c.name = fmt.Sprintf("fault-%d", i+1)
	}
	return cells
}

// TestFaults injects faults into campaigns of the real program and the real server, and
// checks that every trial is there once, and nothing else.
func TestFaults(t *testing.T) {
	useServer(t)
	t.Setenv(commandLineEnv, "1")
	cells := faultCells()
	require.NotEmpty(t, cells)
	program := ownProgram(t)
	folder := t.TempDir()
	queue := make(chan *cell, len(cells))
	for _, c := range cells {
		queue <- c
	}
	close(queue)
	var all sync.WaitGroup
	for number := range min(*faultSlots, len(cells)) {
		all.Go(func() { runCells(t.Context(), program, filepath.Join(folder, fmt.Sprintf("slot-%d", number)), queue) })
	}
	all.Wait()
	var text strings.Builder
	printMatrix(&text, cells)
	fmt.Fprintln(os.Stderr, text.String())
	for _, c := range cells {
		if len(c.damage.problems) > 0 {
			t.Errorf("%s (%s):\n  %s", c, c.name, strings.Join(c.damage.problems, "\n  "))
		}
	}
}

// runCells runs one cell after the other on one slot. After a cell with a failure the next
// one gets a new slot.
func runCells(ctx context.Context, program, folder string, queue <-chan *cell) {
	var s *slot
	end := func() error {
		if s == nil {
			return nil
		}
		defer func() { s = nil }()
		return s.end()
	}
	for c := range queue {
		c.folder = filepath.Join(folder, c.name)
		if s == nil {
			var err error
			if s, err = newSlot(ctx, program, filepath.Join(folder, "state-"+c.name)); err != nil {
				c.damage.add(nil, "%v", err)
			}
		}
		c.slot = s
		if len(c.damage.problems) == 0 {
			c.run(ctx)
		}
		if *faultSeeds > 0 {
			fmt.Fprintf(os.Stderr, "%-50s %4.0f s  %s\n", c, c.took.Seconds(), cmp.Or(strings.Join(c.damage.problems, "; "), "ok"))
		}
		if len(c.damage.problems) > 0 {
			if err := end(); err != nil {
				c.damage.add(nil, "end the slot: %v", err)
			}
		}
	}
	if err := end(); err != nil {
		fmt.Fprintln(os.Stderr, "end a slot:", err)
	}
}

// printMatrix prints how many of the injected faults of each kind and phase were survived,
// and what they cost.
func printMatrix(out io.Writer, cells []*cell) {
	columns := append([]trial.Phase{""}, faultPhases...)
	fmt.Fprintf(out, "%-22s", "fault \\ phase")
	for _, phase := range columns {
		fmt.Fprintf(out, "%11s", cmp.Or(string(phase), "any"))
	}
	fmt.Fprintln(out, "  goes on after")
	total, sum := 0, damage{}
	for _, kind := range faultKinds() {
		line, longest, any := fmt.Sprintf("%-22s", kind.name), time.Duration(0), false
		for _, phase := range columns {
			good, tried := 0, 0
			for _, c := range cells {
				if c.kind.name != kind.name || c.phase != phase {
					continue
				}
				tried++
				if len(c.damage.problems) == 0 {
					good++
				}
				longest = max(longest, c.goneOn)
				sum.lost, sum.double, sum.leftovers = sum.lost+c.damage.lost, sum.double+c.damage.double, sum.leftovers+c.damage.leftovers
			}
			count := ""
			if tried > 0 {
				count, any = fmt.Sprintf("%d/%d", good, tried), true
			}
			total += tried
			line += fmt.Sprintf("%11s", count)
		}
		if longest > 0 {
			line += fmt.Sprintf("  %.1f s at most", longest.Seconds())
		}
		if any {
			fmt.Fprintln(out, line)
		}
	}
	fmt.Fprintf(out, "%d faults injected: %d trials lost, %d double, %d leftovers\n", total, sum.lost, sum.double, sum.leftovers)
}
