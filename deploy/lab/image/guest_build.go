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
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"heliotrope/internal/fault"
	"heliotrope/internal/guest"
)

// Files of a guest that BuildGuest makes, beside GuestKernelFile and GuestInitrdFile.
const (
	GuestOVAFile      = "guest.ova"  // instead of these two, for vSphere
	GuestManifestFile = "guest.json" // Guest as JSON
	GuestSumsFile     = "SHA256SUMS" // of all other files, as sha256sum(1) checks them
)

// guestRecipe has the packages of which a guest is made. The nodes' image contains the same
// ones for its guest.
var guestRecipe = Recipe{Suite: "bookworm", Packages: []string{"linux-image-cloud-amd64", "busybox-static", "fio", "dropbear-bin"},
	GuestModules: guestModules}

// ovaRecipe is the same for vSphere, with the drivers of its devices. systemd-boot-efi has the
// program with which EFI starts the kernel.
var ovaRecipe = Recipe{Suite: guestRecipe.Suite, Packages: append(slices.Clone(guestRecipe.Packages), "systemd-boot-efi"),
	GuestModules: vsphereModules}

// guestSpaceBytes is what a build needs free where the folder is to be: mostly the packages
// and what is extracted of them.
const guestSpaceBytes = 2 << 30

// GuestTools are the programs that BuildGuest calls for a kernel and an initramfs, or for an
// OVA, and Debian's packages that have them.
func GuestTools(ova bool) map[string]string {
	tools := maps.Clone(Tools)
	delete(tools, "mke2fs") // a guest has no disk but the one under test
	if ova {
		delete(tools, "xz") // its kernel stays compressed
		delete(tools, "lz4")
		maps.Copy(tools, diskTools)
	}
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
	// OVA, when not nil, asks for an OVA instead of a kernel and an initramfs.
	OVA      *OVASettings
	Progress func(string) // told what is happening, in a few words
}

// OVASettings are what a guest must be told when it is made, because it boots from its own
// disk and so gets no kernel command line from its host.
type OVASettings struct {
	Address netip.Prefix // of the guest on the test network
	MTU     int          // of its interface, bytes
}

// Guest is a measured guest for real hosts: a kernel and an initramfs, which hosts of Xen
// (PVH) and KVM start directly, or an OVA, of which a vCenter makes a template. The initramfs
// or the OVA holds the private half of HostKey.
type Guest struct {
	Built time.Time `json:"built"`
	Suite string    `json:"suite"` // Debian's release
	// Kernel is the kernel's release, as uname(1) tells it.
	Kernel string `json:"kernel"`
	// HostKey is the fingerprint of the key by which the guest's SSH server is known.
	HostKey        string            `json:"host_key"`
	AuthorizedKeys []string          `json:"authorized_keys"`  // their fingerprints
	Address        netip.Prefix      `json:"address,omitzero"` // of OVASettings, as the next one
	MTU            int               `json:"mtu,omitempty"`
	SHA256         map[string]string `json:"sha256"` // of the kernel and the initramfs, or of the OVA
}

// BuildGuest makes the folder of a measured guest from Debian's packages, with a new host
// key. It works in a temporary folder beside the wanted one, and renames that at the end. On
// an error, or when ctx ends, it removes the temporary folder: the wanted folder is either
// complete or absent. It never overwrites anything. The error is fault.BadInput when the
// folder cannot be made or has no room for the build.
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
	if err := checkSpace(partial, guestSpaceBytes, "name a folder on a larger disk"); err != nil {
		return Guest{}, fault.As(fault.BadInput, err)
	}
	recipe := guestRecipe
	if r.OVA != nil {
		recipe = ovaRecipe
	}
	recipe.Mirror = r.Mirror
	b := guestBuilder{builder: builder{recipe: recipe, dir: partial, tree: filepath.Join(partial, "tree"), progress: r.Progress}, keys: r.AuthorizedKeys, ova: r.OVA}
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
	keys  []string     // of who may log in
	ova   *OVASettings // nil for a kernel and an initramfs
	image string       // the kernel's bzImage
	guest Guest
}

// buildStep is one step of a guest's build.
type buildStep struct {
	what string
	do   func(context.Context) error
}

func (b *guestBuilder) run(ctx context.Context) error {
	steps := []buildStep{
		{"download and extract Debian's packages", b.extract},
		{"unpack the kernel", b.kernel},
		{"make the initramfs", b.guestInitrd},
		{"make the guest's keys", b.identity},
	}
	if b.ova != nil {
		steps = append(steps, buildStep{"make the disk", b.systemDisk}, buildStep{"make the OVA", b.pack})
	}
	steps = append(steps, buildStep{"note what it is", b.describe})
	for i, step := range steps {
		b.progress(fmt.Sprintf("guest %d/%d: %s", i+1, len(steps), step.what))
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// kernel finds the guest's kernel and, unless it is for an OVA, writes it uncompressed: an ELF
// file with the note by which Xen and QEMU find its PVH entry (the kernel's
// arch/x86/platform/pvh).
func (b *guestBuilder) kernel(ctx context.Context) error {
	const prefix = "vmlinuz-"
	images, err := filepath.Glob(filepath.Join(b.tree, "boot", prefix+"*"))
	if err != nil {
		return err
	}
	if len(images) != 1 {
		return fmt.Errorf("expected one kernel in %s, found %v", filepath.Join(b.tree, "boot"), images)
	}
	b.image, b.guestRelease = images[0], strings.TrimPrefix(filepath.Base(images[0]), prefix)
	if b.ova != nil {
		return nil
	}
	return extractKernel(ctx, b.image, filepath.Join(b.dir, GuestKernelFile))
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
	products, rest := []string{GuestKernelFile, GuestInitrdFile}, []string{b.tree, filepath.Join(b.dir, stubsDir)}
	if b.ova != nil {
		b.guest.Address, b.guest.MTU = b.ova.Address, b.ova.MTU
		products, rest = []string{GuestOVAFile}, append(rest, filepath.Join(b.dir, GuestInitrdFile), b.work())
	}
	for _, name := range products {
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
	for _, name := range append(products, GuestManifestFile) {
		sum, err := hashFile(filepath.Join(b.dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, name)
	}
	if err := os.WriteFile(filepath.Join(b.dir, GuestSumsFile), []byte(sums.String()), 0o644); err != nil {
		return err
	}
	for _, path := range rest {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
