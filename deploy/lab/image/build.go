package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"heliotrope/internal/remote"
)

// buildSpaceBytes is what a build needs free beneath the cache: the package
// tree, the packages themselves and the file system made of them.
const buildSpaceBytes = 3 << 30

type builder struct {
	recipe   Recipe
	dir      string // where the image's files are made
	tree     string // the nodes' root file system as a folder
	progress func(string)

	nodeRelease  string // uname -r of the nodes' kernel
	guestRelease string // uname -r of the guest's kernel
}

func (b *builder) run(ctx context.Context) error {
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"download and extract Debian's packages", b.extract},
		{"unpack the kernels", b.kernels},
		{"make the guest's initramfs", b.guestInitrd},
		{"lay out the node's file system", b.layout},
		{"select the kernel modules", b.modules},
		{"make the node's initrd", b.nodeInitrd},
		{"make the root file system", b.rootFileSystem},
	}
	for i, step := range steps {
		b.progress(fmt.Sprintf("image %d/%d: %s", i+1, len(steps), step.what))
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return errors.Join(os.RemoveAll(b.tree), os.RemoveAll(filepath.Join(b.dir, stubsDir)))
}

// local runs a command of the build on this machine.
func local(ctx context.Context, args ...string) ([]byte, error) {
	result, err := remote.Local("this machine").Run(ctx, remote.Command{Args: args})
	return result.Stdout, err
}

// extract unpacks the packages without configuring them, so that no root, no
// user namespace and no emulated maintainer script is needed.
func (b *builder) extract(ctx context.Context) error {
	args := []string{"fakeroot", "mmdebstrap", "--mode=chrootless", "--variant=extract",
		"--include=" + strings.Join(b.recipe.Packages, ","),
		"--format=directory", b.recipe.Suite, b.tree}
	if b.recipe.Mirror != "" {
		args = append(args, b.recipe.Mirror)
	}
	_, err := local(ctx, args...)
	return err
}

// kernels finds the two kernels, and writes them and, in an image of Xen, Xen uncompressed: under
// emulation their own decompressors would take many seconds of every boot.
func (b *builder) kernels(ctx context.Context) error {
	boot := filepath.Join(b.tree, "boot")
	images, err := filepath.Glob(filepath.Join(boot, "vmlinuz-*"))
	if err != nil {
		return err
	}
	for _, image := range images {
		release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		file := NodeKernelFile
		if strings.Contains(release, "-cloud-") {
			file, b.guestRelease = GuestKernelFile, release
		} else {
			b.nodeRelease = release
		}
		if err := extractKernel(ctx, image, filepath.Join(b.dir, file)); err != nil {
			return err
		}
	}
	if b.nodeRelease == "" || b.guestRelease == "" {
		return fmt.Errorf("expected one ordinary and one cloud kernel in %s, found %v", boot, images)
	}
	if b.recipe.Hypervisor != Xen {
		return nil
	}
	hypervisors, err := filepath.Glob(filepath.Join(boot, "xen-*.gz"))
	if err != nil {
		return err
	}
	if len(hypervisors) != 1 {
		return fmt.Errorf("expected one hypervisor in %s, found %v", boot, hypervisors)
	}
	return gunzipFile(hypervisors[0], filepath.Join(b.dir, XenFile))
}

// unwanted parts of the packages, which no node reads.
var unwanted = []string{"usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/info", "usr/share/lintian",
	"usr/share/perl", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base", "usr/lib/python3*",
	"usr/share/zoneinfo", "usr/lib/gcc", "usr/share/gdb", "usr/lib/systemd", "lib/systemd", "var/cache", "var/lib/apt",
	"usr/lib/x86_64-linux-gnu/libperl*", "usr/share/initramfs-tools", "boot"}

// layout removes what no node needs and adds what Debian's maintainer scripts
// or our own boot would.
func (b *builder) layout(context.Context) error {
	for _, pattern := range slices.Concat(unwanted, b.recipe.Unwanted) {
		paths, err := filepath.Glob(filepath.Join(b.tree, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	for _, dir := range []string{"proc", "sys", "run", "root/.ssh", "mnt", "var/lib/nfs/v4recovery", "var/lib/drbd",
		"var/log/xen", "var/lib/xen", "var/lib/iscsi", "etc/drbd.d", "etc/exports.d", "bin", "sbin"} {
		if err := os.MkdirAll(filepath.Join(b.tree, dir), 0o755); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"var/run": "/run", "var/lock": "/run/lock",
		"bin/sh": "/bin/dash", "sbin/init": "/bin/busybox"} {
		if err := os.RemoveAll(filepath.Join(b.tree, link)); err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(b.tree, link)); err != nil {
			return err
		}
	}
	if err := b.linkApplets(); err != nil {
		return err
	}
	for _, overlay := range []string{"node", b.recipe.Hypervisor} {
		if err := copyOverlay(overlay, b.tree); err != nil {
			return err
		}
	}
	guestDir := filepath.Join(b.tree, NodeGuestDir)
	if err := os.MkdirAll(guestDir, 0o755); err != nil {
		return err
	}
	for _, file := range []string{GuestKernelFile, GuestInitrdFile} {
		if err := copyFile(filepath.Join(b.dir, file), filepath.Join(guestDir, file), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// linkApplets links busybox under the names that Debian's packages left free.
func (b *builder) linkApplets() error {
	for _, name := range applets {
		if b.hasCommand(name) {
			continue
		}
		if err := os.Symlink("/bin/busybox", filepath.Join(b.tree, "bin", name)); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) hasCommand(name string) bool {
	for _, dir := range []string{"bin", "sbin", "usr/bin", "usr/sbin"} {
		if _, err := os.Lstat(filepath.Join(b.tree, dir, name)); err == nil {
			return true
		}
	}
	return false
}

func (b *builder) rootFileSystem(ctx context.Context) error {
	path := filepath.Join(b.dir, RootFile)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(path, b.recipe.RootBytes); err != nil {
		return err
	}
	// fakeroot shows the tree's files as root's, and so mke2fs stores them.
	_, err := local(ctx, "fakeroot", "mke2fs", "-q", "-F", "-t", "ext4",
		"-O", "^has_journal,^metadata_csum,^64bit", "-m", "0", "-L", "heliotrope", "-d", b.tree, path)
	return err
}

// copyOverlay lays one of the embedded folders over dir. Scripts, known by
// their first two bytes, become executable.
func copyOverlay(overlay, dir string) error {
	return fs.WalkDir(overlays, overlay, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, strings.TrimPrefix(path, overlay))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := overlays.ReadFile(path)
		if err != nil {
			return err
		}
		// A package's file may be a link to elsewhere: replace, never follow.
		if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.WriteFile(target, content, overlayMode(path, content))
	})
}

func overlayMode(path string, content []byte) fs.FileMode {
	switch {
	case bytes.HasPrefix(content, []byte("#!")):
		return 0o755
	case filepath.Base(path) == "shadow":
		return 0o600
	}
	return 0o644
}

// checkSpace says in one line when dir's file system has too little room, and what to do
// other than to free some.
func checkSpace(dir string, needBytes uint64, otherwise string) error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	freeBytes := stat.Bavail * uint64(stat.Bsize) //nolint:gosec // a block size is positive
	if freeBytes < needBytes {
		return fmt.Errorf("not enough disk space in %s: %d MiB free, %d MiB needed; free some, or %s",
			dir, freeBytes>>20, needBytes>>20, otherwise)
	}
	return nil
}

// Tools are the programs a build calls, and Debian's packages that have them.
var Tools = map[string]string{
	"fakeroot": "fakeroot", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs",
	"depmod": "kmod", "xz": "xz-utils", "lz4": "lz4", "ld": "binutils",
}

// MissingTools lists the Debian packages of those tools that are not in PATH
// or Debian's sbin folders.
func MissingTools(tools map[string]string) []string {
	var missing []string
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, pkg)
		}
	}
	return missing
}
