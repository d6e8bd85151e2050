package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/lab/image"
	"heliotrope/internal/guest"
	"heliotrope/internal/inventory"
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

	ova     bool
	address string // of the guest, for an OVA alone, as the next one
	mtu     int    // bytes
}

func newGuestBuild() *cobra.Command {
	g := &guestBuild{out: "heliotrope-guest", mtu: 1500}
	cmd := &cobra.Command{
		Use:   "build --key FILE",
		Short: "Make the measured guest: a kernel and an initramfs for Xen and KVM, or an OVA for vSphere",
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
leaves nothing.

With --ova it makes guest.ova for vSphere instead of the first two. The guest then boots from
its own disk by EFI, so it is told its address and MTU here, and they must be those of the
inventory. systemd-boot-efi is downloaded, too. Secure Boot must be off, as it is in the OVA.
QEMU has started such a guest; no vCenter and no ESXi host has ever been given one.`,
		Example: `  heliotrope guest build --key ~/.ssh/id_ed25519.pub
  heliotrope guest build --key keys/id.pub --out guests/lab-1
  heliotrope guest build --key keys/id.pub --json | jq -r .host_key
  heliotrope guest build --key keys/id.pub --ova --address 198.18.0.9/24 --out guests/lab-3`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !g.ova && (cmd.Flags().Changed("address") || cmd.Flags().Changed("mtu")) {
				return usageError{errors.New("--address and --mtu are for --ova: every other guest is told them by its host, from the inventory")}
			}
			return g.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&g.keys, "key", nil, "a `file` of public keys that may log in as root: the controller's; may be repeated")
	flags.StringVar(&g.out, "out", g.out, "the `folder` to make, which must not be there")
	flags.StringVar(&g.mirror, "debian-mirror", "", "package archive; empty: the default of mmdebstrap")
	flags.BoolVar(&g.asJSON, "json", false, "print JSON: what guest.json has")
	flags.BoolVar(&g.ova, "ova", false, "make an OVA for vSphere")
	flags.StringVar(&g.address, "address", "", "with --ova: the guest's `address` on the test network with the prefix length, such as 198.18.0.9/24")
	flags.IntVar(&g.mtu, "mtu", g.mtu, "with --ova: the MTU of the guest's interface, in `bytes`")
	return cmd
}

func (g *guestBuild) run(ctx context.Context, out, progress io.Writer) error {
	keys, err := g.authorized()
	settings, ovaErr := g.ovaSettings()
	if err := errors.Join(err, ovaErr); err != nil {
		return usageError{err}
	}
	if missing := image.MissingTools(image.GuestTools(g.ova)); len(missing) > 0 {
		return lab.MissingPackages(missing)
	}
	log := newLog(progress)
	built, err := image.BuildGuest(ctx, image.GuestRequest{Dir: g.out, Mirror: g.mirror, AuthorizedKeys: keys, OVA: settings,
		Progress: func(text string) { log.Info().Msg(text) }})
	if err != nil {
		return err
	}
	if g.asJSON {
		return printJSON(out, built)
	}
	if g.ova {
		_, err = fmt.Fprintf(out, "The guest in %s has Linux %s. Import %s as the template that the inventory names, or have that done\nfor each trial (import), and add this to the inventory:\n\n%s",
			g.out, built.Kernel, image.GuestOVAFile, g.templateSettings(built))
		return err
	}
	_, err = fmt.Fprintf(out, "The guest in %s has Linux %s. Copy %s and %s to %s on the hosts of both sites,\nand add this to the inventory, with a free address and the MTU of the test network:\n\n%s",
		g.out, built.Kernel, image.GuestKernelFile, image.GuestInitrdFile, guestFolder, g.settings(built))
	return err
}

// authorized are the keys of all files; every problem at once.
func (g *guestBuild) authorized() ([]string, error) {
	if len(g.keys) == 0 {
		return nil, errors.New("--key is missing: a file of public keys, without which nobody gets into the guest")
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
		return nil, errors.Join(problems...)
	}
	return all, nil
}

// ovaSettings are the settings of an OVA; nil when none is wanted.
func (g *guestBuild) ovaSettings() (*image.OVASettings, error) {
	if !g.ova {
		return nil, nil //nolint:nilnil // nil means that no OVA is wanted
	}
	if g.address == "" {
		return nil, errors.New("--address is missing: a guest that boots from its own disk must have its address in it, such as 198.18.0.9/24")
	}
	address, err := netip.ParsePrefix(g.address)
	if err != nil {
		return nil, fmt.Errorf("--address %q: want an address with its network's prefix length, such as 198.18.0.9/24", g.address)
	}
	if err := inventory.CheckGuestNetwork(address, g.mtu); err != nil {
		return nil, err
	}
	return &image.OVASettings{Address: address, MTU: g.mtu}, nil
}

// guestFolder is the folder on the hosts that the printed settings name. Any other will do.
const guestFolder = "/usr/local/lib/heliotrope"

// privateKey is the file of the private key that belongs to the first file of public keys, if
// that has the usual name, FILE.pub.
func (g *guestBuild) privateKey() string {
	key, is := strings.CutSuffix(g.keys[0], ".pub")
	if absolute, err := filepath.Abs(key); is && err == nil {
		return absolute
	}
	return "keys/id"
}

// templateSettings returns the guest section of an inventory for a guest of an OVA.
func (g *guestBuild) templateSettings(built image.Guest) string {
	return fmt.Sprintf(`guest:
  memory_mib: %d
  address: %s
  mtu: %d
  ssh:
    user: root
    key_file: %s
    host_keys: [%s]
`, image.OVAMemoryMiB, built.Address, built.MTU, g.privateKey(), built.HostKey)
}

// settings returns the guest section of an inventory for hosts that start a kernel.
func (g *guestBuild) settings(built image.Guest) string {
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
`, path.Join(guestFolder, image.GuestKernelFile), path.Join(guestFolder, image.GuestInitrdFile), g.privateKey(), built.HostKey)
}
