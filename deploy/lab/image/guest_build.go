package image

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"heliotrope/internal/fault"
	"heliotrope/internal/guest"
)

// Files of a guest that BuildGuest makes, beside GuestKernelFile and GuestInitrdFile.
const (
	GuestManifestFile = "guest.json" // Guest as JSON
	GuestSumsFile     = "SHA256SUMS" // of all other files, as sha256sum(1) checks them
)

// guestRecipe has the packages of which a guest is made. The nodes' image contains the same
// ones for its guest.
var guestRecipe = Recipe{Suite: "bookworm", Packages: []string{"linux-image-cloud-amd64", "busybox-static", "fio", "dropbear-bin"}}

// GuestTools are the programs that BuildGuest calls, and Debian's packages that have them.
func GuestTools() map[string]string {
	tools := maps.Clone(Tools)
	delete(tools, "mke2fs") // a guest has no disk but the one under test
	return tools
}

// GuestRequest says what guest to build.
type GuestRequest struct {
	// Dir is the folder to make. Nothing may be there; the folder above is.
	Dir string
	// Mirror is Debian's package archive; empty means mmdebstrap's default.
	Mirror string
	// AuthorizedKeys may log in as root: lines of guest.ParseAuthorizedKeys.
	AuthorizedKeys []string
	Progress       func(string) // told what is happening, in a few words
}

// Guest is a measured guest for real hosts: a kernel and an initramfs, which hosts of Xen
// (PVH) and KVM start directly. The initramfs holds the private half of HostKey.
type Guest struct {
	Built time.Time `json:"built"`
	Suite string    `json:"suite"` // Debian's release
	// Kernel is the kernel's release, as uname(1) tells it.
	Kernel string `json:"kernel"`
	// HostKey is the fingerprint of the key by which the guest's SSH server is known.
	HostKey        string            `json:"host_key"`
	AuthorizedKeys []string          `json:"authorized_keys"` // their fingerprints
	SHA256         map[string]string `json:"sha256"`          // of the kernel and the initramfs
}

// BuildGuest makes the folder of a measured guest from Debian's packages, with a new host
// key. It works in a temporary folder beside the wanted one, and renames that at the end. On
// an error, or when ctx ends, it removes the temporary folder: the wanted folder is either
// complete or absent. It never overwrites anything. The error is fault.BadInput when the
// folder cannot be made.
func BuildGuest(ctx context.Context, r GuestRequest) (Guest, error) {
	dir, err := filepath.Abs(r.Dir)
	if err != nil {
		return Guest{}, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return Guest{}, fault.New(fault.BadInput, "%s is there already, and nothing is written over: name a folder that is not there", r.Dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Guest{}, fault.As(fault.BadInput, err)
	}
	partial, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-*"+partialSuffix)
	if err != nil {
		return Guest{}, fault.As(fault.BadInput, fmt.Errorf("make the folder of the build: %w", err))
	}
	defer os.RemoveAll(partial) //nolint:errcheck // what stays has a name of its own, and no build looks at it
	recipe := guestRecipe
	recipe.Mirror = r.Mirror
	b := guestBuilder{builder: builder{recipe: recipe, dir: partial, tree: filepath.Join(partial, "tree"), progress: r.Progress}, keys: r.AuthorizedKeys}
	if err := b.run(ctx); err != nil {
		return Guest{}, fmt.Errorf("build the guest: %w", err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, partial, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE); err != nil { // renameat2(2)
		return Guest{}, fmt.Errorf("put the finished guest in its place: %w", err)
	}
	return b.guest, nil
}

// guestBuilder makes a guest alone.
type guestBuilder struct {
	builder
	keys  []string // of who may log in
	guest Guest
}

func (b *guestBuilder) run(ctx context.Context) error {
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"download and extract Debian's packages", b.extract},
		{"unpack the kernel", b.kernel},
		{"make the initramfs", b.guestInitrd},
		{"make the guest's keys", b.identity},
		{"note what it is", b.describe},
	}
	for i, step := range steps {
		b.progress(fmt.Sprintf("guest %d/%d: %s", i+1, len(steps), step.what))
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// kernel writes the guest's kernel uncompressed: an ELF file with the note by which Xen
// and QEMU find its PVH entry (the kernel's arch/x86/platform/pvh).
func (b *guestBuilder) kernel(ctx context.Context) error {
	const prefix = "vmlinuz-"
	images, err := filepath.Glob(filepath.Join(b.tree, "boot", prefix+"*"))
	if err != nil {
		return err
	}
	if len(images) != 1 {
		return fmt.Errorf("expected one kernel in %s, found %v", filepath.Join(b.tree, "boot"), images)
	}
	b.guestRelease = strings.TrimPrefix(filepath.Base(images[0]), prefix)
	return extractKernel(ctx, images[0], filepath.Join(b.dir, GuestKernelFile))
}

// identity makes the guest's host key, and appends it and the authorized keys to the
// initramfs. From then on only its owner may read the initramfs.
func (b *guestBuilder) identity(context.Context) error {
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(hostKey.Public())
	if err != nil {
		return err
	}
	b.guest.HostKey = ssh.FingerprintSHA256(public)
	for _, line := range b.keys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		b.guest.AuthorizedKeys = append(b.guest.AuthorizedKeys, ssh.FingerprintSHA256(key))
	}
	archive, err := guest.Identity{HostKey: hostKey, AuthorizedKeys: b.keys}.Archive()
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, GuestInitrdFile)
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	initrd, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = initrd.Write(archive)
	return errors.Join(err, initrd.Close())
}

// describe writes the manifest and the checksums, and removes what only the build needed.
func (b *guestBuilder) describe(context.Context) error {
	b.guest.Built, b.guest.Suite, b.guest.Kernel, b.guest.SHA256 = time.Now().UTC().Truncate(time.Second), b.recipe.Suite, b.guestRelease, map[string]string{}
	for _, name := range []string{GuestKernelFile, GuestInitrdFile} {
		sum, err := hashFile(filepath.Join(b.dir, name))
		if err != nil {
			return err
		}
		b.guest.SHA256[name] = sum
	}
	text, err := json.MarshalIndent(b.guest, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, GuestManifestFile), append(text, '\n'), 0o644); err != nil {
		return err
	}
	var sums strings.Builder
	for _, name := range []string{GuestKernelFile, GuestInitrdFile, GuestManifestFile} {
		sum, err := hashFile(filepath.Join(b.dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, name)
	}
	return errors.Join(os.WriteFile(filepath.Join(b.dir, GuestSumsFile), []byte(sums.String()), 0o644),
		os.RemoveAll(b.tree), os.RemoveAll(filepath.Join(b.dir, stubsDir)))
}
