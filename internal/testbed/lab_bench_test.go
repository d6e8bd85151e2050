//go:build lab

package testbed_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"heliotrope/internal/campaign"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// BenchmarkWitnesses measures what watching costs the guest's I/O: IOPS while the
// witnesses run on all machines and while they are stopped by a signal, in pairs
// whose order alternates. The ledger writes to the disk itself and is left out.
// Only on a machine that does nothing else.
func BenchmarkWitnesses(b *testing.B) {
	ctx := b.Context()
	tb := open(b)
	ref := trial.Ref{Campaign: "bench", DiskBytes: diskBytes, Trial: campaign.Trial{Sequence: 1, Seed: 42,
		Cell: campaign.Cell{Storage: "iscsi", Access: database, WAN: "lan"}}}
	system, err := tb.Storage("iscsi", nil)
	must(b, err)
	disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes}, storage.SiteA)
	must(b, err)
	_, err = tb.StartGuest(ctx, storage.SiteA, testbed.Guest{Disk: disk})
	must(b, err)
	machines := append(hosts(tb), testbed.GuestName)
	install(ctx, b, tb, machines...)
	load, err := tb.Load(ref)
	must(b, err)
	must(b, load.Start(ctx))
	for _, name := range machines {
		recording, err := tb.Witness(ref, name)
		must(b, err)
		must(b, recording.Start(ctx))
	}
	iops(ctx, b, load) // it settles

	const pairs = 10
	var ratios []float64
	for b.Loop() {
		for pair := range pairs {
			var on, off float64
			for _, watched := range []bool{pair%2 == 0, pair%2 != 0} {
				if watched {
					signal(ctx, b, tb, machines, "CONT")
					on = iops(ctx, b, load)
				} else {
					signal(ctx, b, tb, machines, "STOP")
					off = iops(ctx, b, load)
				}
			}
			b.Logf("pair %d: %.1f IOPS watched, %.1f not", pair+1, on, off)
			ratios = append(ratios, on/off)
		}
	}
	signal(ctx, b, tb, machines, "CONT") // for their end
	slices.Sort(ratios)
	median := (ratios[(len(ratios)-1)/2] + ratios[len(ratios)/2]) / 2
	b.ReportMetric(100*(1-median), "%-IOPS-lost")
	b.Logf("ratios %.3f, median %.3f", ratios, median)
}

// signal signals the witnesses on all machines at the same time.
func signal(ctx context.Context, b *testing.B, tb *testbed.Testbed, machines []string, name string) {
	b.Helper()
	var all errgroup.Group
	for _, machine := range machines {
		all.Go(func() error {
			_, err := tb.Machine(machine).Run(ctx, remote.Command{
				Args: []string{"sh", "-c", `kill "-$1" $(pidof "$2")`, "sh", name, witness.Program}})
			return err
		})
	}
	must(b, all.Wait())
}

// iops is the load's over some seconds, after it has settled.
func iops(ctx context.Context, b *testing.B, load record.Recording) float64 {
	b.Helper()
	const settle, measure = time.Second, 6 * time.Second
	<-time.After(settle)
	_, err := load.Progress(ctx)
	must(b, err)
	<-time.After(measure)
	progress, err := load.Progress(ctx)
	must(b, err)
	return progress.IOPS
}
