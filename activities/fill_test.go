package activities

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/activities/pulse"
	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
)

// guestBed is a guest on this machine.
type guestBed struct {
	rest
	dir string
}

func (b guestBed) Machine(string) remote.Host   { return remote.Local("guest") }
func (b guestBed) ProgramDir(string) string     { return b.dir }
func (b guestBed) RunDir(_, name string) string { return filepath.Join(b.dir, "run", name) }
func (b guestBed) GuestDevices() hypervisor.Devices {
	return hypervisor.Devices{Disk: filepath.Join(b.dir, "disk")}
}

const filler = `#!/bin/sh
echo "$@" >> "${0%/*}/calls"
echo "$4" > progress
echo "$4 2500"
`

// TestFillInGuest: the guest fills a disk that the hypervisor has made, once. It leaves
// alone a disk that is already filled, or that must stay empty.
func TestFillInGuest(t *testing.T) {
	bed := guestBed{dir: t.TempDir()}
	const mebibyte = 1 << 20
	disk := filepath.Join(bed.dir, "disk")
	require.NoError(t, os.WriteFile(disk, []byte(strings.Repeat("x", 4*mebibyte)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(bed.dir, "heliotrope-witness"), []byte(filler), 0o755))
	t.Cleanup(func() {
		require.NoError(t, record.Process{Host: bed.Machine(""), Dir: bed.RunDir("", "fill")}.Remove(context.WithoutCancel(t.Context())))
	})
	made := storage.Disk{Spec: storage.Spec{Name: "disk", SizeBytes: 4 * mebibyte, Fill: storage.Fill{Seed: 7, Bytes: 3 * mebibyte}}}
	blank := storage.Disk{Spec: storage.Spec{Name: "disk", SizeBytes: 4 * mebibyte}}
	done := made
	done.Filled.Bytes = 3 * mebibyte
	for _, left := range []storage.Disk{blank, done} {
		require.NoError(t, fillInGuest(t.Context(), bed, &pulse.Pulse{}, &left))
		require.NoFileExists(t, filepath.Join(bed.dir, "calls"))
	}
	for range 2 {
		filled := made
		require.NoError(t, fillInGuest(t.Context(), bed, &pulse.Pulse{}, &filled))
		require.Equal(t, storage.Filled{Bytes: 3 * mebibyte, Took: 2500e6}, filled.Filled)
	}
	calls, err := os.ReadFile(filepath.Join(bed.dir, "calls"))
	require.NoError(t, err)
	require.Equal(t, "fill "+disk+" 0 3145728 7\n", string(calls))
	content, err := os.ReadFile(disk)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("x", 3*mebibyte)+strings.Repeat("\x00", mebibyte), string(content))
}

func TestHowTheDiskIsFilled(t *testing.T) {
	target := Target{Ref: trial.Ref{DiskBytes: 64 << 20, LedgerBytes: 8 << 20, Trial: campaign.Trial{Seed: 9}}}
	require.Equal(t, storage.Fill{Seed: 9, Bytes: 56 << 20}, ProvisionInput{Target: target, Precondition: campaign.PreconditionFill}.fill())
	for _, not := range []string{"", campaign.PreconditionNone} {
		require.Zero(t, ProvisionInput{Target: target, Precondition: not}.fill())
	}
}

// TestRowSaysHowTheDiskWasFilled: the row says it, except in campaigns that an older
// program began.
func TestRowSaysHowTheDiskWasFilled(t *testing.T) {
	row := func(provisioned Provisioned) account {
		a := account{input: ConcludeInput{Known: Known{Provisioned: provisioned}}}
		a.fillPrecondition()
		return a
	}
	old := row(Provisioned{}).row
	require.Nil(t, old.Precondition)
	require.Nil(t, old.PreconditionBytes)
	require.Nil(t, old.PreconditionS)
	none := row(Provisioned{Precondition: campaign.PreconditionNone}).row
	require.Equal(t, "none", *none.Precondition)
	require.Zero(t, *none.PreconditionBytes)
	filled := row(Provisioned{Precondition: campaign.PreconditionFill, Disk: storage.Disk{Filled: storage.Filled{Bytes: 56 << 20, Took: 1500e6}}}).row
	require.Equal(t, []any{"fill", int64(56 << 20), 1.5}, []any{*filled.Precondition, *filled.PreconditionBytes, *filled.PreconditionS})
}
