//go:build lab

package testbed_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// BenchmarkWitnesses measures what watching costs the guest's I/O: IOPS with the
// witnesses on all machines and without, in pairs whose order alternates. The
// ledger writes to the disk itself and is left out. Only on a machine that does
// nothing else.
func BenchmarkWitnesses(b *testing.B) {
	ctx := b.Context()
	tb := open(b)
	ref := trial.Ref{Campaign: "bench", DiskBytes: diskBytes, Trial: campaign.Trial{Sequence: 1, Seed: 42,
		Cell: campaign.Cell{Access: database, WAN: "lan"}}}
	system, err := tb.Storage("iscsi", drbd.Options{})
	must(b, err)
	disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes}, storage.SiteA)
	must(b, err)
	_, err = tb.StartGuest(ctx, storage.SiteA, disk, 0)
	must(b, err)
	machines := append(tb.HostNames(), testbed.GuestName)
	install(ctx, b, tb, machines...)
	load, err := tb.Load(ref)
	must(b, err)
	must(b, load.Start(ctx))
	iops(ctx, b, load) // it settles

	const pairs = 6
	var ratios []float64
	for b.Loop() {
		for pair := range pairs {
			ref.Attempt++
			var on, off float64
			measureOn := func() { on = watched(ctx, b, tb, ref, machines, load) }
			measureOff := func() { off = iops(ctx, b, load) }
			if pair%2 == 0 {
				measureOn()
				measureOff()
			} else {
				measureOff()
				measureOn()
			}
			b.Logf("pair %d: %.1f IOPS watched, %.1f not", pair+1, on, off)
			ratios = append(ratios, on/off)
		}
	}
	slices.Sort(ratios)
	median := (ratios[(len(ratios)-1)/2] + ratios[len(ratios)/2]) / 2
	b.ReportMetric(100*(1-median), "%-IOPS-lost")
	b.Logf("ratios %.3f, median %.3f", ratios, median)
}

// watched is the IOPS while the witnesses run.
func watched(ctx context.Context, b *testing.B, tb *testbed.Testbed, ref trial.Ref, machines []string, load record.Recording) float64 {
	b.Helper()
	var witnesses []record.Recording
	for _, name := range machines {
		recording, err := tb.Witness(ref, name)
		must(b, err)
		must(b, recording.Start(ctx))
		witnesses = append(witnesses, recording)
	}
	result := iops(ctx, b, load)
	for _, recording := range witnesses {
		must(b, recording.Remove(ctx))
	}
	return result
}

// iops is the load's over some seconds, after as many to settle.
func iops(ctx context.Context, b *testing.B, load record.Recording) float64 {
	b.Helper()
	const settle, measure = 4 * time.Second, 15 * time.Second
	<-time.After(settle)
	_, err := load.Progress(ctx)
	must(b, err)
	<-time.After(measure)
	progress, err := load.Progress(ctx)
	must(b, err)
	return progress.IOPS
}
