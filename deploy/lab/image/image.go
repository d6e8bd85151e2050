// Package image builds what the emulated testbed boots: one Debian root file system for all
// nodes, their kernel and initrd, the Xen hypervisor if the hosts are to run it, and the kernel
// and initramfs of the measured guest.
//
// It promises that an image is either complete or absent: a build works in a folder of its own
// and renames it at the end, and Open verifies every file with the checksums that the build
// wrote. Images are cached by a hash of everything that determines their content (Recipe.Hash).
//
// It needs no root, and executes nothing of the image: packages are extracted, never configured.
package image

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Files of an image, relative to its folder.
const (
	RootFile        = "root.ext4"     // the nodes' root file system, raw
	XenFile         = "xen"           // the hypervisor, a multiboot ELF; only in images of Xen
	NodeKernelFile  = "node-vmlinux"  // the nodes' kernel, an uncompressed ELF
	NodeInitrdFile  = "node-initrd"   // mounts the root file system
	GuestKernelFile = "guest-vmlinux" // the measured guest's kernel, with a PVH entry
	GuestInitrdFile = "guest-initrd"  // the measured guest's whole user space
	manifestFile    = "manifest.json"
)

// files lists the files of the recipe's image.
func (r Recipe) files() []string {
	files := []string{RootFile, NodeKernelFile, NodeInitrdFile, GuestKernelFile, GuestInitrdFile}
	if r.Hypervisor == Xen {
		files = append(files, XenFile)
	}
	return files
}

// NodeGuestDir is the folder in a node's root file system that has the guest's kernel and
// initramfs, under the same names.
const NodeGuestDir = "/usr/lib/heliotrope/guest"

// ErrCorrupt says that a cached image does not match its own checksums.
var ErrCorrupt = errors.New("cached image is damaged")

// Image is a complete image in the cache.
type Image struct {
	Dir string
}

// Path returns the absolute path of one of the image's files.
func (i Image) Path(file string) string { return filepath.Join(i.Dir, file) }

type manifest struct {
	RecipeHash string            `json:"recipe_hash"`
	Built      time.Time         `json:"built"`
	SHA256     map[string]string `json:"sha256"`
}

// Cache is a folder with images, each in a folder of its own.
type Cache struct {
	Dir string
}

// DefaultCache returns heliotrope/images under the user's cache folder.
func DefaultCache() (Cache, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return Cache{}, fmt.Errorf("find the user's cache folder: %w", err)
	}
	return Cache{Dir: filepath.Join(dir, "heliotrope", "images")}, nil
}

func (c Cache) imageDir(recipe Recipe) string {
	return filepath.Join(c.Dir, recipe.Hash())
}

// Open returns the cached image of the recipe after verifying every file. The error is
// fs.ErrNotExist when there is no image, and ErrCorrupt when it is damaged.
func (c Cache) Open(recipe Recipe) (Image, error) {
	dir := c.imageDir(recipe)
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		if _, statErr := os.Stat(dir); statErr == nil {
			return Image{}, fmt.Errorf("%w: %s has no readable manifest", ErrCorrupt, dir)
		}
		return Image{}, err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Image{}, fmt.Errorf("%w: %s: %w", ErrCorrupt, filepath.Join(dir, manifestFile), err)
	}
	for _, name := range recipe.files() {
		sum, err := hashFile(filepath.Join(dir, name))
		if err != nil {
			return Image{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if sum != m.SHA256[name] {
			return Image{}, fmt.Errorf("%w: %s does not match its checksum", ErrCorrupt, filepath.Join(dir, name))
		}
	}
	return Image{Dir: dir}, nil
}

// Remove deletes the recipe's image from the cache.
func (c Cache) Remove(recipe Recipe) error { return os.RemoveAll(c.imageDir(recipe)) }

// Ensure returns the recipe's image, and builds it if the cache has none or a damaged one. Builds
// of several processes wait for each other. progress is told what is happening, in a few words.
func (c Cache) Ensure(ctx context.Context, recipe Recipe, progress func(string)) (Image, error) {
	if image, err := c.Open(recipe); err == nil {
		return image, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return Image{}, fmt.Errorf("make the image cache: %w", err)
	}
	lock := flock.New(filepath.Join(c.Dir, "build.lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return Image{}, fmt.Errorf("wait for another image build (%s): %w", lock.Path(), err)
	}
	defer lock.Unlock() //nolint:errcheck // the lock ends with the process at the latest

	image, err := c.Open(recipe)
	if err == nil {
		return image, nil
	}
	if errors.Is(err, ErrCorrupt) {
		progress(err.Error() + ": building it again")
		if err := c.Remove(recipe); err != nil {
			return Image{}, err
		}
	}
	if err := c.sweep(); err != nil {
		return Image{}, err
	}
	return c.build(ctx, recipe, progress)
}

const partialSuffix = ".partial"

// sweep removes what interrupted builds left. The caller must hold the build lock.
func (c Cache) sweep() error {
	leftovers, err := filepath.Glob(filepath.Join(c.Dir, "*"+partialSuffix))
	if err != nil {
		return err
	}
	for _, dir := range leftovers {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove a half-built image: %w", err)
		}
	}
	return nil
}

func (c Cache) build(ctx context.Context, recipe Recipe, progress func(string)) (Image, error) {
	final := c.imageDir(recipe)
	partial := final + partialSuffix
	if err := checkSpace(c.Dir, buildSpaceBytes, "set XDG_CACHE_HOME to a larger disk"); err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return Image{}, fmt.Errorf("make the build folder: %w", err)
	}
	defer os.RemoveAll(partial) //nolint:errcheck // swept by the next build too

	b := builder{recipe: recipe, dir: partial, tree: filepath.Join(partial, "tree"), progress: progress}
	if err := b.run(ctx); err != nil {
		return Image{}, fmt.Errorf("build the testbed image: %w", err)
	}
	m := manifest{RecipeHash: recipe.Hash(), Built: time.Now().UTC(), SHA256: map[string]string{}}
	for _, name := range recipe.files() {
		sum, err := hashFile(filepath.Join(partial, name))
		if err != nil {
			return Image{}, err
		}
		m.SHA256[name] = sum
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Image{}, err
	}
	if err := os.WriteFile(filepath.Join(partial, manifestFile), append(text, '\n'), 0o644); err != nil {
		return Image{}, err
	}
	if err := os.Rename(partial, final); err != nil { //nolint:forbidigo // a whole folder
		return Image{}, fmt.Errorf("put the finished image in its place: %w", err)
	}
	return Image{Dir: final}, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Recipe determines an image's content, except for the versions that Debian's archive has at the
// time.
type Recipe struct {
	Hypervisor string   // of the sites' hosts, Xen or KVM
	Suite      string   // Debian release, "bookworm"
	Mirror     string   // package archive; empty means mmdebstrap's default for the suite
	Packages   []string // Debian packages of the nodes, dependencies are added
	Modules    []string // kernel modules of the nodes, dependencies are added
	// GuestModules are kernel modules of the measured guest in the order of loading, by the
	// name of the list from which the guest's init loads them. Dependencies are added.
	GuestModules map[string][]string
	Unwanted     []string // patterns of files of the packages that the nodes do without
	RootBytes    int64    // size of the nodes' root file system (sparse)
}

// Hash identifies the image that this recipe makes. It covers the recipe, the files that are
// added to its packages, and the builder's own source.
func (r Recipe) Hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%s\n%s\n%d\n", r.Hypervisor, r.Suite, r.Mirror,
		strings.Join(r.Packages, ","), strings.Join(r.Modules, ","), strings.Join(r.Unwanted, ","), r.RootBytes)
	for _, overlay := range []string{"node", "initrd", "guest", r.Hypervisor} {
		hashTree(h, overlays, overlay)
	}
	hashTree(h, sources, ".")
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// hashTree covers the path and the content of every file. An embedded file system lists its files
// in a fixed order.
func hashTree(h io.Writer, tree embed.FS, root string) {
	err := fs.WalkDir(tree, root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := tree.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(content), content)
		return err
	})
	if err != nil {
		panic(err) // the files are part of this binary
	}
}
