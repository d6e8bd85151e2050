//go:build lab

package storage_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/engine"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// filledSpec is a disk that is filled except for the ledger's part.
var filledSpec = storage.Spec{Name: "d0", SizeBytes: 32 << 20, Fill: storage.Fill{Seed: 4711, Bytes: 24 << 20}}

// TestLabFilled: no copy of a provided disk has a hole, and all copies have the
// same contents.
func TestLabFilled(t *testing.T) {
	lab := openLab(t)
	lab.WitnessBinary = filepath.Join(t.TempDir(), witness.Program)
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", lab.WitnessBinary, "heliotrope/cmd/heliotrope-witness")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	t.Cleanup(func() {
		for _, host := range lab.hosts {
			files, err := host.Files(context.WithoutCancel(t.Context()))
			require.NoError(t, err)
			require.NoError(t, files.RemoveAll(lab.ProgramDir(host.Name())))
		}
	})
	kinds := slices.Clone(privateToo)
	if lab.run(t, storage.SiteA, "sh", "-c", "command -v qemu-img || true") != "" {
		kinds = append(kinds, overlays)
	}
	for _, kind := range kinds {
		t.Run(kind.Name, func(t *testing.T) { filled(t, lab, kind) })
	}
}

func filled(t *testing.T, lab *lab, kind storage.Kind) {
	ctx := t.Context()
	system := lab.driver(t, kind, lab.hosts)
	lab.clean(t, system)
	started := time.Now()
	disk, err := system.Provision(ctx, filledSpec, storage.SiteA)
	require.NoError(t, err)
	t.Logf("provision: %s, of which filling took %s", since(started), disk.Filled.Took)
	require.Equal(t, filledSpec.Fill.Bytes, disk.Filled.Bytes)
	again, err := system.Provision(ctx, filledSpec, storage.SiteA)
	require.NoError(t, err)
	require.Equal(t, disk, again)

	images := 0
	for _, machine := range []string{lab.Inventory.Sites.A, lab.Inventory.Sites.B, lab.Inventory.StoreName} {
		for _, image := range lab.images(t, machine) {
			if kind.Name == overlays.Name && strings.HasSuffix(image, ".img") {
				continue // it has what was written since
			}
			images++
			lab.hasNoHole(t, machine, image)
		}
	}
	want := 2
	if kind.Name == "iscsi" || kind.Name == "nfs" {
		want = 1
	}
	assert.Equal(t, want, images)
	if verifier, is := system.(storage.Verifier); is {
		differ, err := verifier.Verify(ctx, disk)
		require.NoError(t, err)
		assert.Zero(t, differ, "the replicas differ without having been synchronised")
	}
}

// images are the files on a machine that contain disks.
func (l *lab) images(t *testing.T, machine string) []string {
	t.Helper()
	folder := path.Join(l.Inventory.Machine(machine).DataDir, l.Name())
	result, err := l.Host(machine).Run(t.Context(), remote.Command{Args: []string{"sh", "-c",
		`[ ! -d "$1" ] || find "$1" -xdev '(' -name '*.img' -o -name '*.base' ')'`, "images", folder}})
	require.NoError(t, err)
	return strings.Fields(string(result.Stdout))
}

// hasNoHole counts the blocks of an image, and compares its beginning, the last
// MiB that is filled, and the zeros with what must be there.
func (l *lab) hasNoHole(t *testing.T, machine, image string) {
	t.Helper()
	host := l.Host(machine)
	result, err := host.Run(t.Context(), remote.Command{Args: []string{"stat", "-c", "%b %B", image}})
	require.NoError(t, err)
	var blocks, blockBytes int64
	_, err = fmt.Sscan(string(result.Stdout), &blocks, &blockBytes)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, blocks*blockBytes, filledSpec.SizeBytes, "%s: %s has holes", machine, image)

	local := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(local, nil, 0o600))
	require.NoError(t, os.Truncate(local, filledSpec.SizeBytes))
	require.NoError(t, engine.Fill(t.Context(), local, 0, filledSpec.Fill.Bytes, filledSpec.Fill.Seed, func(int64) {}))
	want, err := os.ReadFile(local)
	require.NoError(t, err)
	const mebibyte = 1 << 20
	for _, at := range []int64{0, filledSpec.Fill.Bytes/mebibyte - 1, filledSpec.SizeBytes/mebibyte - 1} {
		var content bytes.Buffer
		_, err := host.Run(t.Context(), remote.Command{Stdout: &content,
			Args: []string{"dd", "if=" + image, "bs=1M", "count=1", fmt.Sprintf("skip=%d", at)}})
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want[at*mebibyte:][:mebibyte], content.Bytes()), "%s: %s has other bytes at MiB %d", machine, image, at)
	}
}
