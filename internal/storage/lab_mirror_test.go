//go:build lab

package storage_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/mirror"
)

// TestLabMirror tests private disks that a hypervisor copies as a whole. How it
// copies them, full or synchronous, makes no difference here.
func TestLabMirror(t *testing.T) {
	lab := openLab(t)
	t.Run("life cycle", func(t *testing.T) { mirrorLife(t, lab) })
	t.Run("cut off", func(t *testing.T) { cutOff(t, lab, mirror.Kind) })
}

// mirrorLife writes a different text at each site: nothing is shared, and only
// the copy at the site that is not home is made blank.
func mirrorLife(t *testing.T, lab *lab) {
	ctx := t.Context()
	system := lab.driver(t, mirror.Kind, lab.hosts)
	lab.clean(t, system)
	require.NoError(t, system.Check(ctx))
	require.NoError(t, system.(storage.Roomer).CheckRoom(ctx, spec))
	before := lab.snapshot(t)
	disk, err := system.Provision(ctx, spec, storage.SiteA)
	require.NoError(t, err)
	again, err := lab.driver(t, mirror.Kind, lab.hosts).Provision(ctx, spec, storage.SiteA) // by another process
	require.NoError(t, err)
	require.Equal(t, disk, again)

	home := storage.SiteA
	for range 2 {
		there := home.Other()
		atHome := lab.write(t, disk, home, 3)
		for range 2 {
			require.NoError(t, system.PrepareMigration(ctx, disk, home, there))
		}
		moved := lab.write(t, disk, there, 3) // as the hypervisor would
		lab.compare(t, disk, home, 3, atHome)
		for range 2 {
			require.NoError(t, system.FinishMigration(ctx, disk, there))
		}
		lab.compare(t, disk, there, 3, moved)
		assert.True(t, lab.isBlank(t, disk, home), "the former home at %s has its copy still", home)
		assert.False(t, lab.isBlank(t, disk, there))
		home = there
	}
	for range 2 {
		require.NoError(t, system.Teardown(ctx))
	}
	lab.asBefore(t, before)
}

// isBlank says whether all of a site's disk reads as zeros.
func (l *lab) isBlank(t *testing.T, disk storage.Disk, site storage.Site) bool {
	t.Helper()
	return l.run(t, site, "sh", "-c", `tr -d '\0' < "$1" | head -c 1 | wc -c`, "sh", disk.Device[site]) == "0"
}
