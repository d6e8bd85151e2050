//go:build lab

package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
)

// These tests change a real testbed, the one that the environment variable
// HELIOTROPE_INVENTORY names. They take minutes on the emulated one. Run them
// with -count=1: a cached result says nothing about the hosts as they are
// today.

const diskBytes = 64 << 20

var spec = storage.Spec{Name: "d0", SizeBytes: diskBytes}

func TestLabLifeCycle(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.Name, func(t *testing.T) { lifeCycle(t, openLab(t), kind) })
	}
}

func lifeCycle(t *testing.T, lab *lab, kind storage.Kind) {
	system := lab.driver(t, kind, lab.hosts)
	ctx := t.Context()
	lab.clean(t, system)
	must(t, system.Check(t.Context()))
	before := lab.snapshot(t)

	started := time.Now()
	disk, err := system.Provision(ctx, spec, storage.SiteA)
	must(t, err)
	t.Logf("provision: %s %v", since(started), disk.Device)
	started = time.Now()
	again, err := system.Provision(ctx, spec, storage.SiteA)
	must(t, err)
	t.Logf("provision again: %s", since(started))
	if fmt.Sprint(disk) != fmt.Sprint(again) {
		t.Errorf("second provision: %v, want %v", again, disk)
	}
	other := lab.driver(t, kind, lab.hosts)
	if again, err = other.Provision(ctx, spec, storage.SiteA); err != nil || fmt.Sprint(disk) != fmt.Sprint(again) {
		t.Errorf("provision by another process: %v, %v, want %v", again, err, disk)
	}
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		if kind.Name == "drbd" && site == storage.SiteB {
			continue // a secondary cannot be opened
		}
		size := lab.run(t, site, "blockdev", "--getsize64", disk.Device[site])
		if size != fmt.Sprint(spec.SizeBytes) {
			t.Errorf("size at %s: %s bytes, want %d", site, size, spec.SizeBytes)
		}
	}

	home := storage.SiteA
	for round := range 2 {
		there := home.Other()
		first := lab.write(t, disk, home, 3+round)
		started = time.Now()
		must(t, system.PrepareMigration(ctx, disk, home, there))
		must(t, system.PrepareMigration(ctx, disk, home, there))
		t.Logf("prepare %s to %s, twice: %s", home, there, since(started))
		lab.compare(t, disk, there, 3+round, first)
		second := lab.write(t, disk, there, 40+round)
		lab.compare(t, disk, home, 40+round, second)
		started = time.Now()
		must(t, system.FinishMigration(ctx, disk, there))
		must(t, system.FinishMigration(ctx, disk, there))
		t.Logf("finish at %s, twice: %s", there, since(started))
		lab.compare(t, disk, there, 40+round, second)
		home = there
	}
	if verifier, ok := system.(storage.Verifier); ok {
		started = time.Now()
		bytes, err := verifier.Verify(ctx, disk)
		must(t, err)
		t.Logf("verify: %s", since(started))
		if bytes != 0 {
			t.Errorf("verify: %d bytes out of sync", bytes)
		}
	}
	started = time.Now()
	must(t, system.Teardown(ctx))
	t.Logf("teardown: %s", since(started))
	started = time.Now()
	must(t, system.Teardown(ctx))
	t.Logf("teardown again: %s", since(started))
	lab.asBefore(t, before)
}

// manyCutOffs, when set in the environment, has the tests cut off at thirty
// times as many places.
const manyCutOffs = "HELIOTROPE_MANY_CUT_OFFS"

// nextCutOff is how many steps further to cut off next. It varies, so that many
// runs together reach every step.
func nextCutOff() int {
	if os.Getenv(manyCutOffs) != "" {
		return 2 + rand.IntN(7)
	}
	return 90 + rand.IntN(120)
}

// TestLabCutOff cuts provisions and teardowns off at some places.
func TestLabCutOff(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.Name, func(t *testing.T) { cutOff(t, openLab(t), kind) })
	}
}

// cutOff cuts a provision off, and then either finishes it or tears down what there is, now or
// after the next provision. It cuts off the teardown of each finished disk, not later than the
// provision, and then either repeats it or first provides the disk again. The first provision and
// the last one, which is not cut off, are finished.
func cutOff(t *testing.T, lab *lab, kind storage.Kind) {
	sound := lab.driver(t, kind, lab.hosts)
	lab.clean(t, sound)
	before := lab.snapshot(t)
	provide := func(ctx context.Context, system storage.Driver) error {
		_, err := system.Provision(ctx, spec, storage.SiteA)
		return err
	}
	tearDown := func(ctx context.Context, system storage.Driver) error { return system.Teardown(ctx) }
	first, done := true, false
	for after := 1 + rand.IntN(nextCutOff()); !done; after += nextCutOff() {
		err := lab.cutOffAfter(t, after, kind, provide)
		if err != nil && !errors.Is(err, errCut) && !errors.Is(err, context.Canceled) {
			t.Errorf("provision cut off after %d: %v", after, err)
		}
		done = err == nil
		whole := first || done || rand.IntN(2) == 0
		first = false
		if whole {
			disk, err := sound.Provision(t.Context(), spec, storage.SiteA)
			if err != nil {
				t.Fatalf("provision after a cut-off at %d: %v", after, err)
			}
			lab.write(t, disk, storage.SiteA, 1)
			if lab.cutOffAfter(t, 1+rand.IntN(after), kind, tearDown) != nil && rand.IntN(2) == 0 {
				must(t, provide(t.Context(), sound))
			}
		}
		// A half-made disk may stay for the next provision; a complete one may not.
		if whole || rand.IntN(2) == 0 {
			if err := sound.Teardown(t.Context()); err != nil {
				t.Fatalf("teardown after a cut-off at %d: %v", after, err)
			}
			lab.asBefore(t, before)
		}
	}
}

// cutOffAfter cuts off after so many steps what a driver does, and returns its error: nil when it was done before that.
func (l *lab) cutOffAfter(t *testing.T, after int, kind storage.Kind, do func(context.Context, storage.Driver) error) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	cut := &cutter{left: after, cancel: cancel}
	err := do(ctx, l.driver(t, kind, cut.wrap(l.hosts)))
	t.Logf("cut off after %d: %v", after, err)
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func since(started time.Time) time.Duration { return time.Since(started).Round(time.Millisecond) }

// write writes a MiB of noise at a place, past the page cache, and returns its
// digest.
func (l *lab) write(t *testing.T, disk storage.Disk, site storage.Site, mebibyte int) string {
	t.Helper()
	var noise [1 << 20]byte
	seed := sha256.Sum256(fmt.Append(nil, time.Now().UnixNano()))
	_, _ = rand.NewChaCha8(seed).Read(noise[:])
	_, err := l.hosts[string(site)].Run(t.Context(), remote.Command{
		Args:  []string{"dd", "of=" + disk.Device[site], "bs=64k", "iflag=fullblock", "oflag=direct", fmt.Sprintf("seek=%d", mebibyte*16), "conv=notrunc,fsync"},
		Stdin: bytes.NewReader(noise[:]),
	})
	must(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(noise[:]))
}

// compare reads what write wrote, past the page cache.
func (l *lab) compare(t *testing.T, disk storage.Disk, site storage.Site, mebibyte int, want string) {
	t.Helper()
	var content bytes.Buffer
	_, err := l.hosts[string(site)].Run(t.Context(), remote.Command{
		Args:   []string{"dd", "if=" + disk.Device[site], "bs=64k", "count=16", "iflag=direct", fmt.Sprintf("skip=%d", mebibyte*16)},
		Stdout: &content,
	})
	must(t, err)
	if got := fmt.Sprintf("%x", sha256.Sum256(content.Bytes())); got != want {
		t.Errorf("%s reads other data than was written (%d bytes)", site, content.Len())
	}
}
