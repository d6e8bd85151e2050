package testbed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/gather"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
)

// lookAtFiles prints a line for each of its arguments that can be read: bytes, the SHA-256
// of its first and last 64 KiB, its first 6 bytes, the 4 at 514 ("-" where it is shorter),
// and its path. A whole initramfs is not hashed: an emulated host would take seconds.
const lookAtFiles = `for file; do
	[ -r "$file" ] || continue
	bytes=$(wc -c < "$file")
	sum=$({ head -c 65536 "$file"; tail -c 65536 "$file"; } | sha256sum)
	first=$(od -An -v -tx1 -N6 "$file")
	setup=$(od -An -v -tx1 -j514 -N4 "$file" 2> /dev/null)
	echo "${bytes##* } ${sum%% *} $(printf %s ${first:--}) $(printf %s ${setup:--}) $file"
done`

const lookAtFilesTimeout = time.Minute

// startFile is what a site's host says of a file that the guest is started from.
type startFile struct {
	host, path   string
	bytes, ends  string // its size, and the SHA-256 of its ends
	first, setup string // bytes of it, in hexadecimal
}

// Beginnings of what a guest is started from, in hexadecimal.
const (
	magicELF   = "7f454c46" // elf(5)
	magicSetup = "48647253" // "HdrS" at 0x202 of a bzImage (the kernel's Documentation/arch/x86/boot.rst)
)

// magicsInitramfs are those of a cpio archive in the newc format and with checksums, and of
// gzip, bzip2, lzma, xz, lzo, lz4 and zstd (the kernel's init/initramfs.c and
// lib/decompress.c).
var magicsInitramfs = []string{"303730373031", "303730373032", "1f8b", "425a", "5d00", "fd377a585a", "894c5a4f", "02214c18", "28b52ffd"}

// checkGuestFiles checks the guest's kernel and ramdisk on the hosts of both sites: each must
// be such a file, and the same on both hosts. It says nothing of a file that is missing, which
// the hypervisor's driver reports, or that the login may not read: the hypervisor may.
func (t *Testbed) checkGuestFiles(ctx context.Context) error {
	kernel, ramdisk := t.Inventory.Guest.Kernel, t.Inventory.Guest.Ramdisk
	if kernel == "" || !t.hasShells() {
		return nil
	}
	found, err := gather.Results(sites, func(site storage.Site) ([]startFile, error) {
		host := t.hosts[t.Site(site).Name]
		result, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", lookAtFiles, "sh", kernel, ramdisk}, Env: []string{"LC_ALL=C"}, Timeout: lookAtFilesTimeout})
		return parseStartFiles(host.Name(), string(result.Stdout)), err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range judgeStartFiles(kernel, ramdisk, found[0], found[1]) {
		errs = append(errs, &p)
	}
	return errors.Join(errs...)
}

// parseStartFiles reads what lookAtFiles prints; lines that are none of its are left out.
func parseStartFiles(host, text string) []startFile {
	var files []startFile
	for line := range strings.Lines(text) {
		if parts := strings.SplitN(strings.TrimSpace(line), " ", 5); len(parts) == 5 {
			files = append(files, startFile{host: host, bytes: parts[0], ends: parts[1], first: parts[2], setup: parts[3], path: parts[4]})
		}
	}
	return files
}

// judgeStartFiles reports files that are not what they should be, and files that differ
// between the two hosts.
func judgeStartFiles(kernel, ramdisk string, a, b []startFile) (all []problem.Problem) {
	for _, file := range slices.Concat(a, b) {
		begins := func(magic string) bool { return strings.HasPrefix(file.first, magic) }
		switch {
		case file.path == kernel && !begins(magicELF) && file.setup != magicSetup:
			all = append(all, problem.Bad(file.host, file.path, "it is no kernel: neither an ELF file nor a bzImage", "put the guest's kernel there"))
		case file.path == ramdisk && !slices.ContainsFunc(magicsInitramfs, begins):
			all = append(all, problem.Bad(file.host, file.path, "it is no initramfs: neither a cpio archive nor a compressed one", "put the guest's initramfs there"))
		}
	}
	for _, of := range b {
		i := slices.IndexFunc(a, func(other startFile) bool { return other.path == of.path })
		if i >= 0 && (a[i].bytes != of.bytes || a[i].ends != of.ends) {
			all = append(all, problem.Bad(of.host, of.path, fmt.Sprintf("it is another file than on %s (%s and %s bytes): the guest would not be the same at both sites", a[i].host, of.bytes, a[i].bytes),
				"copy one and the same file to both hosts"))
		}
	}
	return all
}

// hasShells reports whether commands can be run on the hosts of both sites.
func (t *Testbed) hasShells() bool {
	return !slices.ContainsFunc(sites, func(site storage.Site) bool { return t.hosts[t.Site(site).Name] == nil })
}
