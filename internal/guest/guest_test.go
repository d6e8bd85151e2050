package guest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

func TestDropbearKey(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	got := dropbearKey(key)
	want := "0000000b" + hex.EncodeToString([]byte("ssh-ed25519")) + "00000040" + hex.EncodeToString(key)
	if hex.EncodeToString(got) != want {
		t.Errorf("key %x, want %s", got, want)
	}
}

func TestIdentityArchive(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	content, err := Identity{HostKey: key, AuthorizedKeys: []string{"ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"}}.Archive()
	if err != nil {
		t.Fatal(err)
	}
	if len(content)%4 != 0 {
		t.Errorf("%d bytes: the kernel wants archives padded to 4", len(content))
	}
	reader := cpio.NewReader(bytes.NewReader(content))
	for _, want := range []string{"etc/dropbear/dropbear_ed25519_host_key", "root/.ssh/authorized_keys"} {
		header, err := reader.Next()
		if err != nil || header.Name != want || header.Mode.Perm() != 0o600 {
			t.Fatalf("%+v, %v; want %s", header, err, want)
		}
	}
	keys, err := io.ReadAll(reader)
	if err != nil || string(keys) != "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n" {
		t.Errorf("authorized keys %q, %v", keys, err)
	}
}

// TestTemplateCmdline: init finds its settings, and the last console is the serial port.
func TestTemplateCmdline(t *testing.T) {
	words := strings.Fields(TemplateCmdline(netip.MustParsePrefix("198.18.0.9/24"), 1400, "other"))
	consoles := []string{}
	for _, word := range words {
		if strings.HasPrefix(word, "console=") {
			consoles = append(consoles, word)
		}
	}
	if strings.Join(consoles, " ") != "console=tty0 console=ttyS0" {
		t.Errorf("consoles %v", consoles)
	}
	for _, want := range []string{"net.ifnames=0", "heliotrope.nic=eth0", "heliotrope.ip=198.18.0.9/24", "heliotrope.mtu=1400", "heliotrope.drivers=other"} {
		if !slices.Contains(words, want) {
			t.Errorf("no %s in %q", want, words)
		}
	}
}

func TestDomain(t *testing.T) {
	inv := &inventory.Inventory{Guest: inventory.Guest{Kernel: "/k", Ramdisk: "/r", MemoryMiB: 96, MTU: 1400,
		Address: netip.MustParsePrefix("198.18.0.10/24")}}
	devices := hypervisor.Devices{Disk: "/dev/vda", NIC: "ens3", Console: "ttyS0"}
	domain := Domain(inv, "lab.guest", devices, &inventory.Machine{Bridge: "br7"}, hypervisor.Disk{Path: "/dev/sda"})
	if domain.MAC != "00:16:3e:12:00:0a" || domain.Bridge != "br7" || domain.Disk.Path != "/dev/sda" || domain.MemoryMiB != 96 {
		t.Errorf("%+v", domain)
	}
	for _, want := range []string{"console=ttyS0", "heliotrope.name=lab.guest", "heliotrope.nic=ens3", "heliotrope.ip=198.18.0.10/24", "heliotrope.mtu=1400"} {
		if !strings.Contains(domain.Cmdline, want) {
			t.Errorf("no %s in %q", want, domain.Cmdline)
		}
	}
	inv.Guest.Address = netip.MustParsePrefix("fd00:198:18::a:10/64")
	if domain := Domain(inv, "lab.guest", devices, &inventory.Machine{}, hypervisor.Disk{}); domain.MAC != "00:16:3e:0a:00:10" || !strings.Contains(domain.Cmdline, "heliotrope.ip=fd00:198:18::a:10/64 ") {
		t.Errorf("with IPv6: %+v", domain)
	}
	inv.Guest.Kernel, inv.Guest.Ramdisk = "", ""
	if clone := Domain(inv, "lab.guest", devices, &inventory.Machine{}, hypervisor.Disk{}); clone.Cmdline != "" {
		t.Errorf("a clone of a template has the command line %q", clone.Cmdline)
	}
}
