package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/lab/image"
	"heliotrope/internal/guest"
)

func newGuest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guest",
		Short: "Make what real hosts start the measured guest from",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGuestBuild())
	return cmd
}

// guestBuild is the command guest build.
type guestBuild struct {
	out    string
	keys   []string // files of public keys
	mirror string
	asJSON bool
}

func newGuestBuild() *cobra.Command {
	g := &guestBuild{out: "heliotrope-guest"}
	cmd := &cobra.Command{
		Use:   "build --key FILE",
		Short: "Make a kernel and an initramfs of the measured guest, for hosts of Xen and KVM",
		Long: `Make a kernel and an initramfs of the measured guest, for hosts of Xen (PVH) and KVM: the
guest of the emulated testbed, with keys of your own. It is made in a new folder, on any
machine with the programs that it needs: Debian's packages linux-image-cloud-amd64,
busybox-static, fio and dropbear-bin, with all their dependencies, are downloaded from Debian's
archive by mmdebstrap, which verifies their signatures, and extracted. No root is needed, and
nothing in them is executed. The folder then contains

  guest-vmlinux   the kernel, for both hypervisors
  guest-initrd    all else of the guest, with a host key of its own: keep it to yourself
  guest.json      what it is: kernel, keys, checksums
  SHA256SUMS      for sha256sum --check

Copy the first two to the same folder on the hosts of both sites, and add what is printed to
the inventory. A folder that exists is never overwritten, and a build that is interrupted
leaves nothing. For vSphere there is no such guest: make a template (docs/inventory.md).`,
		Example: `  heliotrope guest build --key ~/.ssh/id_ed25519.pub
  heliotrope guest build --key keys/id.pub --out guests/lab-1
  heliotrope guest build --key keys/id.pub --json | jq -r .host_key`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&g.keys, "key", nil, "a `file` of public keys that may log in as root: the controller's; may be repeated")
	flags.StringVar(&g.out, "out", g.out, "the `folder` to make, which must not be there")
	flags.StringVar(&g.mirror, "debian-mirror", "", "package archive; empty: the default of mmdebstrap")
	flags.BoolVar(&g.asJSON, "json", false, "print JSON: what guest.json has")
	return cmd
}

func (g *guestBuild) run(ctx context.Context, out, progress io.Writer) error {
	keys, err := g.authorized()
	if err != nil {
		return err
	}
	if missing := image.MissingTools(image.GuestTools()); len(missing) > 0 {
		return lab.MissingPackages(missing)
	}
	log := newLog(progress)
	built, err := image.BuildGuest(ctx, image.GuestRequest{Dir: g.out, Mirror: g.mirror, AuthorizedKeys: keys,
		Progress: func(text string) { log.Info().Msg(text) }})
	if err != nil {
		return err
	}
	if g.asJSON {
		return printJSON(out, built)
	}
	_, err = fmt.Fprintf(out, "The guest in %s has Linux %s. Copy %s and %s to %s on the hosts of both sites,\nand add this to the inventory, with a free address and the MTU of the test network:\n\n%s",
		g.out, built.Kernel, image.GuestKernelFile, image.GuestInitrdFile, guestFolder, g.settings(built))
	return err
}

// authorized are the keys of all files; every problem at once.
func (g *guestBuild) authorized() ([]string, error) {
	if len(g.keys) == 0 {
		return nil, usageError{errors.New("--key is missing: a file of public keys, without which nobody gets into the guest")}
	}
	var all []string
	var problems []error
	for _, file := range g.keys {
		text, err := os.ReadFile(file)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		keys, err := guest.ParseAuthorizedKeys(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", file, err))
		}
		for _, key := range keys {
			if !slices.Contains(all, key) {
				all = append(all, key)
			}
		}
	}
	if len(problems) > 0 {
		return nil, usageError{errors.Join(problems...)}
	}
	return all, nil
}

// guestFolder is the folder on the hosts that the printed settings name. Any other will do.
const guestFolder = "/usr/local/lib/heliotrope"

// settings returns the guest section of an inventory. It names the private key that belongs
// to the first file of public keys, if that has the usual name, FILE.pub.
func (g *guestBuild) settings(built image.Guest) string {
	key, is := strings.CutSuffix(g.keys[0], ".pub")
	if absolute, err := filepath.Abs(key); is && err == nil {
		key = absolute
	} else {
		key = "keys/id"
	}
	return fmt.Sprintf(`guest:
  kernel: %s
  ramdisk: %s
  memory_mib: 128
  address: 198.18.0.9/24
  mtu: 1500
  ssh:
    user: root
    key_file: %s
    host_keys: [%s]
`, path.Join(guestFolder, image.GuestKernelFile), path.Join(guestFolder, image.GuestInitrdFile), key, built.HostKey)
}
