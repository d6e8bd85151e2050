// Package guest defines the measured guest: how it is configured, the form of its
// keys, and the domain that a hypervisor is asked to run. The guest's user space
// is an initramfs; see deploy/lab/image for how it is made.
package guest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cavaliergopher/cpio"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

// ProgramDir is the folder in the guest for our programs: the worker, the
// witness.
const ProgramDir = "/opt/heliotrope"

// Identity makes a general initramfs the guest of one testbed.
type Identity struct {
	HostKey        ed25519.PrivateKey // of the guest's ssh server
	AuthorizedKeys []string           // lines of authorized_keys, for root
}

// Archive is an initramfs archive to be appended to the guest's own (the kernel
// unpacks concatenated archives one after the other).
func (i Identity) Archive() ([]byte, error) {
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	for _, file := range []struct {
		path    string
		content []byte
	}{
		{"etc/dropbear/dropbear_ed25519_host_key", dropbearKey(i.HostKey)},
		{"root/.ssh/authorized_keys", []byte(strings.Join(i.AuthorizedKeys, "\n") + "\n")},
	} {
		header := &cpio.Header{Name: file.path, Mode: cpio.TypeReg | 0o600, Size: int64(len(file.content)), Links: 1}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("guest identity: %w", err)
		}
		if _, err := w.Write(file.content); err != nil {
			return nil, fmt.Errorf("guest identity: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("guest identity: %w", err)
	}
	return out.Bytes(), nil
}

// dropbearKey is a private key in dropbear's own format (buf_put_ed25519_priv_key
// in its ed25519.c): the algorithm's name, then the 32-byte seed and the
// 32-byte public key, both as strings with a 32-bit big-endian length.
func dropbearKey(key ed25519.PrivateKey) []byte {
	var out []byte
	for _, part := range [][]byte{[]byte("ssh-ed25519"), key} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part))) //nolint:gosec // 11 and 64
		out = append(out, part...)
	}
	return out
}

// MAC is the guest's hardware address. It is in the range of the Xen project
// (IEEE's 00:16:3e) and ends in the last three bytes of the guest's address on the
// test network, so that no two guests share one whose addresses differ there.
func MAC(address netip.Addr) string {
	b := address.AsSlice()
	b = b[len(b)-3:]
	return fmt.Sprintf("00:16:3e:%02x:%02x:%02x", b[0], b[1], b[2])
}

// Cmdline is the kernel command line, which the guest's init reads.
func Cmdline(name string, devices hypervisor.Devices, g inventory.Guest) string {
	return fmt.Sprintf("console=%s quiet loglevel=3 mitigations=off net.ifnames=0 heliotrope.name=%s heliotrope.nic=%s heliotrope.ip=%s heliotrope.mtu=%d",
		devices.Console, name, devices.NIC, g.Address, g.MTU)
}

// TemplateCmdline is the kernel command line of a guest that boots from a disk, as a clone of
// a template does: address and mtu (bytes) are those of its interface on the test network, and
// drivers is the name of its list of modules. Its console is the first serial port, or the
// screen of a machine without one.
func TemplateCmdline(address netip.Prefix, mtu int, drivers string) string {
	devices := hypervisor.Devices{NIC: "eth0", Console: "ttyS0"}
	return "console=tty0 " + Cmdline("guest", devices, inventory.Guest{Address: address, MTU: mtu}) + " heliotrope.drivers=" + drivers
}

// Domain is the measured guest of a testbed, as a hypervisor runs it on the given
// host with the given disk. A guest that boots from its own disk gets no kernel
// command line from us.
func Domain(inv *inventory.Inventory, name string, devices hypervisor.Devices, host *inventory.Machine, disk hypervisor.Disk) hypervisor.Domain {
	cmdline := ""
	if inv.Guest.Kernel != "" {
		cmdline = Cmdline(name, devices, inv.Guest)
	}
	return hypervisor.Domain{
		Name: name, MemoryMiB: inv.Guest.MemoryMiB, VCPUs: 1,
		Kernel: inv.Guest.Kernel, Ramdisk: inv.Guest.Ramdisk, Cmdline: cmdline,
		NativeTSC: inv.Guest.NativeTSC, Disk: disk, MAC: MAC(inv.Guest.Address.Addr()), Bridge: host.Bridge,
	}
}
