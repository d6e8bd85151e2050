package iscsi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"path"
	"strings"

	"heliotrope/internal/storage/internal/node"
)

// serialSuffix ends the names of the files that hold the disks' serial numbers.
const serialSuffix = ".serial"

// serialBytes is how many bytes of a serial number are random. The disk's world
// wide name is made from the first 25 hexadecimal digits.
const serialBytes = 16

func (s *System) serialFile(ctx context.Context, disk string) (string, error) {
	dir, err := s.store.Dir(ctx, kind)
	return path.Join(dir, disk+serialSuffix), err
}

// serial is the serial number of a disk; "" when it has none yet.
func (s *System) serial(ctx context.Context, disk string) (string, error) {
	file, err := s.serialFile(ctx, disk)
	if err != nil {
		return "", err
	}
	return s.store.ReadIfThere(ctx, file)
}

// newSerial gives a disk a serial number that was never used before. A multipath
// map that an earlier disk has left on a host would claim a disk with the same
// serial number.
func (s *System) newSerial(ctx context.Context, disk string) error {
	file, err := s.serialFile(ctx, disk)
	if err != nil {
		return err
	}
	var number [serialBytes]byte
	_, _ = rand.Read(number[:]) // it never fails
	return s.store.Replace(ctx, file, hex.EncodeToString(number[:])+"\n")
}

// pageHeaderBytes is the length of the header before the serial number in its page
// of vital product data (SPC-4, 7.8.15). LIO ends the number with a zero byte.
const pageHeaderBytes = 4

// checkSerial makes sure that a device is the disk with that serial number,
// according to the page that the kernel has read from it.
func checkSerial(ctx context.Context, n *node.Node, device, serial string) error {
	page, err := n.Read(ctx, "/sys/class/block/"+device+"/device/vpd_pg80")
	if err != nil {
		return err
	}
	found := ""
	if len(page) > pageHeaderBytes {
		found = strings.Trim(page[pageHeaderBytes:], "\x00 ")
	}
	if serial == "" || found != serial {
		return node.Unusable("%s: /dev/%s has the serial number %q, and that of our disk is %q: tear the testbed's disks down",
			n.Name(), device, found, serial)
	}
	return nil
}

// checkHolders refuses a disk that something on the host uses, such as multipath,
// which would queue the guest's I/O in its own way.
func checkHolders(ctx context.Context, n *node.Node, found session) error {
	holders, err := n.Holders(ctx, found.device)
	if err != nil || len(holders) == 0 {
		return err
	}
	return node.Unusable("%s: /dev/%s, the disk of %s, is held by %s: let multipath and LVM there ignore the vendor LIO-ORG (blacklist in multipath.conf, global_filter in lvm.conf), and remove that device (multipath -f, dmsetup remove)",
		n.Name(), found.device, found.target, strings.Join(holders, ", "))
}
