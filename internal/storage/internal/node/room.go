package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/problem"
	"heliotrope/internal/storage"
)

// Room refuses a folder whose file system has less free space: a sparse file that
// cannot be filled would fail in the middle of a measurement.
func (n *Node) Room(ctx context.Context, folder string, wantBytes int64) error {
	output, err := n.Run(ctx, "stat", "-f", "-c", "%a %S", folder) // free blocks, and the size of a block in bytes
	if err != nil {
		return err
	}
	free, err := n.sumFree(folder, output)
	if err != nil {
		return err
	}
	return n.enough(folder, free, wantBytes, "the disk wants")
}

// besideBytes is what is written to a host's folder before the first disk: our
// programs, 26 MiB, and what they record.
const besideBytes = 28 << 20

// freeText prints the free blocks of a folder's file system and the size of a block
// in bytes. Then it prints a line with KiB and a name for the folder, and one for
// each sibling whose name is the folder's followed by a dot: the label's programs
// and recordings. The folder need not exist yet, and file systems mounted in it do
// not count.
const freeText = `
place=$1
until [ -d "$place" ]; do place=$(dirname "$place"); done
stat -f -c '%a %S' "$place"
for ours in "$1" "$1".*; do
	if [ -d "$ours" ]; then du -skx "$ours"; fi
done`

// CheckRoom checks whether there will be enough free space for a disk on a host on
// which nothing has begun. Space that is taken by anything with the label counts as
// free: a trial first removes every disk, of any kind of storage, and the space for
// the programs is part of what it needs. A disk that is to be filled is refused
// where the witness's program may not run.
func (n *Node) CheckRoom(ctx context.Context, wantBytes int64, disk storage.Spec) error {
	if disk.Fill.Bytes > 0 && !n.witness {
		return n.errNotFilled()
	}
	folder, err := n.ownDir(ctx)
	if err != nil {
		return err
	}
	output, err := n.Run(ctx, "sh", "-c", freeText, "free", folder)
	if err != nil {
		return err
	}
	free, err := n.sumFree(folder, output)
	if err != nil {
		return err
	}
	return n.enough(folder, free, wantBytes+besideBytes, "the disk and Heliotrope's own programs want")
}

// sumFree reads the output of freeText: the free space in bytes, including what our
// own files take.
func (n *Node) sumFree(folder, output string) (bytes int64, err error) {
	first, rest, _ := strings.Cut(output, "\n")
	unreadable := func(err error) (int64, error) {
		return 0, fmt.Errorf("%s: free space of %s: %q: %w", n.Name(), folder, output, err)
	}
	var blocks, blockBytes int64
	if _, err := fmt.Sscan(first, &blocks, &blockBytes); err != nil {
		return unreadable(err)
	}
	if blocks < 0 || blockBytes < 0 || blockBytes > 0 && blocks > mostFree/blockBytes {
		return unreadable(errNotFree)
	}
	bytes = blocks * blockBytes
	for line := range strings.Lines(rest) {
		var kib int64
		if _, err := fmt.Sscan(line, &kib); err != nil {
			return unreadable(err)
		}
		if kib < 0 || kib > mostFree>>10 || bytes > mostFree {
			return unreadable(errNotFree)
		}
		bytes += kib << 10
	}
	return bytes, nil
}

// mostFree is more than any file system has: 4 EiB.
const mostFree = 1 << 62

var errNotFree = errors.New("a number of bytes that cannot be")

func (n *Node) enough(folder string, freeBytes, wantBytes int64, what string) error {
	if freeBytes < wantBytes {
		return problem.New(fault.BadInput, n.Name(), folder, fmt.Sprintf("it has %d MiB of free space, and %s %d MiB", freeBytes>>20, what, wantBytes>>20),
			"make room there or choose another data_dir")
	}
	return nil
}
