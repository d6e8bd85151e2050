package kvm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// sizeOf prints the size of a block device or a file in bytes, and then the
// first bytes of its contents.
const sizeOf = `if test -b "$1"; then blockdev --getsize64 "$1"; else stat -L -c %s -- "$1"; fi
head -c 32 -- "$1" | od -A n -v -t x1`

// The positions in the header of a qcow2 image of its magic number and of the
// size of its disk, big-endian (docs/interop/qcow2.txt of QEMU).
const (
	qcow2Magic  = "QFI\xfb"
	qcow2SizeAt = 24
)

// size is the size of a private disk.
type size struct {
	room int64 // bytes of the block device or the file
	disk int64 // bytes of the disk inside it
}

func parseSize(text string, disk hypervisor.Disk) (s size, err error) {
	first, rest, _ := strings.Cut(text, "\n")
	if s.room, err = strconv.ParseInt(first, 10, 64); err == nil && s.room < 0 {
		err = fmt.Errorf("%d bytes are no size", s.room)
	}
	if err != nil || disk.Base == "" {
		s.disk = s.room
		return s, err
	}
	header, err := hex.DecodeString(strings.Join(strings.Fields(rest), ""))
	if err != nil {
		return s, err
	}
	if len(header) < qcow2SizeAt+8 || !strings.HasPrefix(string(header), qcow2Magic) {
		return s, fmt.Errorf("it is no image of format qcow2, and should be one over %s", disk.Base)
	}
	s.disk = int64(binary.BigEndian.Uint64(header[qcow2SizeAt:])) //nolint:gosec // 8 EiB and more are refused
	if s.disk < 0 {
		return s, errors.New("what is in the image is said to have 8 EiB or more")
	}
	return s, nil
}

// compareSizes requires that the target's private disk has room for the
// source's.
func (m *migration) compareSizes(ctx context.Context) error {
	var sizes [2]size
	for i, disk := range []struct {
		host *Host
		hypervisor.Disk
	}{{m.from, m.order.Domain.Disk}, {m.to, m.order.AtTarget.Disk}} {
		text, err := disk.host.script(ctx, sizeOf, disk.Path)
		if err != nil {
			return fmt.Errorf("look for the private disk: %w", err)
		}
		if sizes[i], err = parseSize(text, disk.Disk); err != nil {
			return disk.host.failed("look for the size of "+disk.Path, err)
		}
	}
	for _, c := range []struct {
		what        string
		here, there int64
	}{{"the disk", sizes[0].room, sizes[1].room}, {"what is in", sizes[0].disk, sizes[1].disk}} {
		if c.there < c.here {
			return fault.New(fault.Infrastructure, "%s: %s %s has %d bytes, and the source's %d: make it larger",
				m.to.Host(), c.what, m.order.AtTarget.Disk.Path, c.there, c.here)
		}
	}
	return nil
}
