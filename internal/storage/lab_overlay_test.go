//go:build lab

package storage_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/mirror"
)

// overlays are private disks over a base.
var overlays = storage.Kind{Name: "overlay", New: func(setup storage.Setup) (storage.Driver, error) {
	setup.Options = storage.Options{"copy": "incremental"}
	return mirror.Kind.New(setup)
}}

// TestLabOverlay needs hosts with qemu-img; without it, Check must say so.
func TestLabOverlay(t *testing.T) {
	lab := openLab(t)
	system := lab.driver(t, overlays, lab.hosts)
	if lab.run(t, storage.SiteA, "sh", "-c", "command -v qemu-img || true") == "" {
		require.ErrorContains(t, system.Check(t.Context()), "install the package qemu-utils")
		return
	}
	t.Run("life cycle", func(t *testing.T) { overlayLife(t, lab, system) })
	t.Run("cut off", func(t *testing.T) { cutOff(t, lab, overlays) })
}

func overlayLife(t *testing.T, lab *lab, system storage.Driver) {
	ctx := t.Context()
	lab.clean(t, system)
	require.NoError(t, system.Check(ctx))
	before := lab.snapshot(t)
	started := time.Now()
	disk, err := system.Provision(ctx, spec, storage.SiteA)
	require.NoError(t, err)
	t.Logf("provision: %s %v over %v", since(started), disk.Device, disk.Base)
	lab.io(t, disk, storage.SiteA, "write -P 7 5M 1M")
	again, err := system.Provision(ctx, spec, storage.SiteA)
	require.NoError(t, err)
	require.Equal(t, disk, again)
	lab.io(t, disk, storage.SiteA, "read -P 7 5M 1M")
	require.NotEqual(t, "0", lab.run(t, storage.SiteA, "blockdev", "--getro", disk.Base[storage.SiteA]))

	// The view is the disk's contents, even while the overlay is open; and an open
	// overlay is not made blank, whichever site is said to be home.
	closeIt := lab.open(t, disk, storage.SiteA)
	for _, written := range []string{"7", "8"} {
		started = time.Now()
		copies, err := system.(storage.Copier).Copies(ctx, disk, storage.SiteA)
		require.NoError(t, err)
		t.Logf("read out of the overlay in %s", since(started))
		lab.run(t, storage.SiteA, "qemu-io", "-r", "-f", "raw", "-t", "none", "-c", "read -P "+written+" 5M 1M", copies[0].Path)
		if written == "7" {
			require.ErrorContains(t, system.FinishMigration(ctx, disk, storage.SiteB), "Is another process using the image")
			require.ErrorContains(t, system.PrepareMigration(ctx, disk, storage.SiteB, storage.SiteA), "Is another process using the image")
			closeIt()
			lab.io(t, disk, storage.SiteA, "write -P 8 5M 1M")
		}
	}

	// What a failed migration left at the target must not be in the next one's
	// result.
	lab.io(t, disk, storage.SiteB, "write -P 9 9M 1M")
	for range 2 {
		require.NoError(t, system.PrepareMigration(ctx, disk, storage.SiteA, storage.SiteB))
	}
	lab.io(t, disk, storage.SiteB, "read -P 0 9M 1M")
	for range 2 {
		require.NoError(t, system.FinishMigration(ctx, disk, storage.SiteB))
	}
	lab.io(t, disk, storage.SiteA, "read -P 0 5M 1M")
	// The overlay has room for all of the disk.
	lab.io(t, disk, storage.SiteA, "write -P 5 0 64M")
	for range 2 {
		require.NoError(t, system.Teardown(ctx))
	}
	lab.asBefore(t, before)
}

// io runs a qemu-io(1) command on an overlay. Reading a pattern other than the
// given one is an error of that command.
func (l *lab) io(t *testing.T, disk storage.Disk, site storage.Site, command string) {
	t.Helper()
	output := l.run(t, site, "qemu-io", "-f", "qcow2", "-t", "none", "-c", command, disk.Device[site])
	require.NotContains(t, output, "Pattern verification failed")
}

// open makes a QEMU hold an overlay open until the returned function is called.
func (l *lab) open(t *testing.T, disk storage.Disk, site storage.Site) (end func()) {
	t.Helper()
	commands, typed := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := l.hosts[string(site)].Run(context.WithoutCancel(t.Context()), remote.Command{Args: []string{"qemu-io", "-f", "qcow2", disk.Device[site]}, Stdin: commands})
		ended <- err
	}()
	for limit := time.Now().Add(time.Minute); ; {
		if strings.Contains(l.run(t, site, "sh", "-c", `qemu-img info "$1" 2>&1 || true`, "sh", disk.Device[site]), "lock") {
			break
		}
		require.True(t, time.Now().Before(limit), "nobody has it open")
	}
	return func() {
		require.NoError(t, typed.Close())
		require.NoError(t, <-ended)
	}
}
