package image

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// archive writes an initramfs: a cpio archive in the newc format
// (Documentation/driver-api/early-userspace/buffer-format.rst), uncompressed,
// because memory is cheaper than emulated decompression.
type archive struct {
	file *os.File
	cpio *cpio.Writer
	made map[string]bool
}

func createArchive(path string) (*archive, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &archive{file: file, cpio: cpio.NewWriter(file), made: map[string]bool{}}, nil
}

func (a *archive) close() error {
	err := a.cpio.Close()
	if closeErr := a.file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// dir adds a folder and those above it, each once.
func (a *archive) dir(path string) error {
	path = strings.Trim(path, "/")
	if path == "" || path == "." || a.made[path] {
		return nil
	}
	if err := a.dir(filepath.Dir(path)); err != nil {
		return err
	}
	a.made[path] = true
	return a.cpio.WriteHeader(&cpio.Header{Name: path, Mode: cpio.TypeDir | 0o755, Links: 2})
}

func (a *archive) bytes(path string, content []byte, mode fs.FileMode) error {
	path = strings.Trim(path, "/")
	if err := a.dir(filepath.Dir(path)); err != nil {
		return err
	}
	header := &cpio.Header{Name: path, Mode: cpio.TypeReg | cpio.FileMode(mode.Perm()), Size: int64(len(content)), Links: 1}
	if err := a.cpio.WriteHeader(header); err != nil {
		return err
	}
	_, err := a.cpio.Write(content)
	return err
}

func (a *archive) copy(path, source string, mode fs.FileMode) error {
	content, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	return a.bytes(path, content, mode)
}

func (a *archive) link(path, target string) error {
	path = strings.Trim(path, "/")
	if err := a.dir(filepath.Dir(path)); err != nil {
		return err
	}
	header := &cpio.Header{Name: path, Mode: cpio.TypeSymlink | 0o777, Size: int64(len(target)), Links: 1, Linkname: target}
	if err := a.cpio.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.WriteString(a.cpio, target)
	return err
}

// withArchive writes one archive and closes it whatever happens.
func withArchive(path string, fill func(*archive) error) error {
	a, err := createArchive(path)
	if err != nil {
		return err
	}
	err = fill(a)
	if closeErr := a.close(); err == nil {
		err = closeErr
	}
	return err
}

// nodeInitrd holds busybox, the modules that reach the root disk, and init.
func (b *builder) nodeInitrd(ctx context.Context) error {
	index, err := indexModules(ctx, b.tree, b.nodeRelease)
	if err != nil {
		return err
	}
	order, err := index.closure(initrdModules)
	if err != nil {
		return err
	}
	return withArchive(filepath.Join(b.dir, NodeInitrdFile), func(a *archive) error {
		if err := a.copy("bin/busybox", filepath.Join(b.tree, "bin/busybox"), 0o755); err != nil {
			return err
		}
		var names strings.Builder
		for _, path := range order {
			fmt.Fprintln(&names, filepath.Base(path))
			if err := a.copy("lib/"+filepath.Base(path), filepath.Join(index.dir, path), 0o644); err != nil {
				return err
			}
		}
		if err := a.bytes("modules", []byte(names.String()), 0o644); err != nil {
			return err
		}
		content, err := overlays.ReadFile("initrd/init")
		if err != nil {
			return err
		}
		return a.bytes("init", content, 0o755)
	})
}

// GuestProgramDir is where the measured guest keeps programs of ours.
const GuestProgramDir = "/opt/heliotrope"

// guestInitrd holds busybox, dropbear, fio and the drivers of each hypervisor's
// disk and network. It is the guest's whole user space: its data disk is only
// measured.
func (b *builder) guestInitrd(ctx context.Context) error {
	index, err := indexModules(ctx, b.tree, b.guestRelease)
	if err != nil {
		return err
	}
	stubs, err := b.stubLibraries(ctx, filepath.Join(b.tree, "usr/bin/fio"))
	if err != nil {
		return err
	}
	return withArchive(filepath.Join(b.dir, GuestInitrdFile), func(a *archive) error {
		if err := a.dir(GuestProgramDir); err != nil {
			return err
		}
		if err := addGuestModules(a, index, b.recipe.GuestModules); err != nil {
			return err
		}
		if err := b.guestPrograms(a, stubs); err != nil {
			return err
		}
		return b.guestFiles(a)
	})
}

// addGuestModules adds the guest's modules, and for each hypervisor a list of
// its own in the order of loading.
func addGuestModules(a *archive, index *moduleIndex, modules map[string][]string) error {
	added := map[string]bool{}
	for _, drivers := range slices.Sorted(maps.Keys(modules)) {
		order, err := index.closure(modules[drivers])
		if err != nil {
			return err
		}
		var names strings.Builder
		for _, path := range order {
			name := filepath.Base(path)
			fmt.Fprintln(&names, name)
			if added[name] {
				continue
			}
			added[name] = true
			if err := a.copy("lib/modules/"+name, filepath.Join(index.dir, path), 0o644); err != nil {
				return err
			}
		}
		if err := a.bytes("lib/modules/"+drivers, []byte(names.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) guestFiles(a *archive) error {
	for path, overlay := range map[string]string{"init": "guest/init", "etc/inittab": "guest/inittab"} {
		content, err := overlays.ReadFile(overlay)
		if err != nil {
			return err
		}
		if err := a.bytes(path, content, overlayMode(overlay, content)); err != nil {
			return err
		}
	}
	if err := a.bytes("etc/passwd", []byte("root::0:0:root:/root:/bin/sh\n"), 0o644); err != nil {
		return err
	}
	if err := a.bytes("etc/shells", []byte("/bin/sh\n"), 0o644); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "sbin", "usr/bin", "usr/sbin", "etc/dropbear", "root/.ssh", "var/log"} {
		if err := a.dir(dir); err != nil {
			return err
		}
	}
	return nil
}

// guestPrograms adds the guest's programs with the libraries they load.
func (b *builder) guestPrograms(a *archive, stubs map[string]string) error {
	programs := map[string]string{"bin/busybox": "bin/busybox", "usr/bin/fio": "usr/bin/fio", "usr/sbin/dropbear": "usr/sbin/dropbear"}
	if err := a.link("bin/sh", "/bin/busybox"); err != nil {
		return err
	}
	needed := map[string]bool{}
	for path, source := range programs {
		if err := a.copy(path, filepath.Join(b.tree, source), 0o755); err != nil {
			return err
		}
		if err := b.libraries(filepath.Join(b.tree, source), stubs, needed); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		source, err := b.findLibrary(name, stubs)
		if err != nil {
			return err
		}
		if err := a.copy("lib/x86_64-linux-gnu/"+name, source, 0o755); err != nil {
			return err
		}
	}
	loader, err := b.findLibrary("ld-linux-x86-64.so.2", stubs)
	if err != nil {
		return err
	}
	return a.copy("lib64/ld-linux-x86-64.so.2", loader, 0o755)
}

// libraries collects the shared libraries an ELF file loads, recursively.
func (b *builder) libraries(path string, stubs map[string]string, needed map[string]bool) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer file.Close() //nolint:errcheck // read only
	names, err := file.ImportedLibraries()
	if err != nil {
		return nil //nolint:nilerr // a static program has no dynamic section
	}
	for _, name := range names {
		if needed[name] {
			continue
		}
		needed[name] = true
		source, err := b.findLibrary(name, stubs)
		if err != nil {
			return err
		}
		if err := b.libraries(source, stubs, needed); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) findLibrary(name string, stubs map[string]string) (string, error) {
	if stub, ok := stubs[name]; ok {
		return stub, nil
	}
	for _, dir := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64"} {
		path := filepath.Join(b.tree, dir, name)
		if resolved, err := filepath.EvalSymlinks(path); err == nil && strings.HasPrefix(resolved, b.tree) {
			return resolved, nil
		}
	}
	return "", fmt.Errorf("library %s is in none of the packages", name)
}
