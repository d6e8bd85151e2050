//go:build lab

package image

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"heliotrope/internal/freeport"
	"heliotrope/internal/guest"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
)

// Firmware of Debian's package ovmf: UEFI for QEMU, its code and its variables.
const (
	firmwareCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

const underTestBytes = 48 << 20 // the size of the disk under test

// TestLabOVABoots builds an OVA of Debian's packages and starts its disk in QEMU with devices
// such as ESXi has: UEFI, a paravirtual SCSI controller, with the disk under test at its second
// target, and a VMXNET3 card. The guest must answer over SSH to its key alone, and know its
// disks and its network.
//
// Debian's firmware has no driver for that controller. So the firmware finds the same disk a
// second time, as a SATA disk, for which the guest has no driver. No ESXi is involved: QEMU's
// devices and firmware are other programs than VMware's.
func TestLabOVABoots(t *testing.T) {
	b := buildReal(t, &OVASettings{Address: netip.MustParsePrefix("198.18.0.9/24"), MTU: 1400})
	_, folder := unpackOVA(t, filepath.Join(b.dir, GuestOVAFile))
	disk, variables := filepath.Join(folder, ovaDiskFile), filepath.Join(folder, "variables")
	require.NoError(t, copyFile(firmwareVariables, variables, 0o600))
	b.start(t, "-drive", "if=pflash,format=raw,readonly=on,file="+firmwareCode, "-drive", "if=pflash,format=raw,file="+variables,
		"-drive", "if=none,id=firmware,format=vmdk,snapshot=on,file="+disk, "-device", "ide-hd,bus=ide.0,drive=firmware",
		"-device", "pvscsi,id=scsi",
		"-drive", "if=none,id=system,format=vmdk,snapshot=on,file="+disk, "-device", "scsi-hd,bus=scsi.0,scsi-id=0,drive=system",
		"-device", "scsi-hd,bus=scsi.0,scsi-id=1,drive=under-test",
		"-device", "vmxnet3,netdev=test,mac=00:16:3e:12:00:09,romfile=")
	b.answers(t, map[string]string{
		"readlink /sys/class/net/eth0/device/driver": "vmxnet3",
		"cat /sys/block/sdb/size":                    fmt.Sprint(underTestBytes / sectorBytes),
		"ls -d /sys/block/sda/sda1":                  "/sys/block/sda/sda1",
		"ls /sys/block/sdb/device/scsi_disk":         "0:0:1:0",
		"cat /sys/class/scsi_host/host0/proc_name":   "vmw_pvscsi",
		"ls /sys/firmware":                           "efi",
	})
}

// TestLabGuestBoots builds a kernel and an initramfs of Debian's packages and starts them in QEMU
// as a host of KVM does.
func TestLabGuestBoots(t *testing.T) {
	b := buildReal(t, nil)
	devices := hypervisor.Devices{NIC: "eth0", Console: "ttyS0"}
	commandLine := guest.Cmdline("guest", devices, inventory.Guest{Address: netip.MustParsePrefix("198.18.0.9/24"), MTU: 1400})
	b.start(t, "-kernel", filepath.Join(b.dir, GuestKernelFile), "-initrd", filepath.Join(b.dir, GuestInitrdFile), "-append", commandLine+" no_timer_check",
		"-device", "virtio-blk-pci,drive=under-test", "-device", "virtio-net-pci,netdev=test,mac=00:16:3e:12:00:09,romfile=")
	b.answers(t, map[string]string{
		"readlink /sys/class/net/eth0/device/driver": "virtio_net",
		"cat /sys/block/vda/size":                    fmt.Sprint(underTestBytes / sectorBytes),
	})
}

// booted is a real guest that is built, started and asked.
type booted struct {
	Guest
	dir           string // that BuildGuest made
	key, stranger ssh.Signer
	ctx           context.Context // ends with QEMU
	ended         context.CancelCauseFunc
	port          netip.AddrPort // of its SSH server, on this machine
}

// buildReal builds a guest of Debian's packages; nil means a kernel and an initramfs.
func buildReal(t *testing.T, ova *OVASettings) *booted {
	t.Helper()
	limited, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	b := &booted{dir: filepath.Join(t.TempDir(), "guest"), key: newSigner(t), stranger: newSigner(t), port: freeport.Loopback(t)}
	b.ctx, b.ended = context.WithCancelCause(limited)
	var err error
	b.Guest, err = BuildGuest(b.ctx, GuestRequest{Dir: b.dir, AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(b.key.PublicKey()))},
		OVA: ova, Progress: func(text string) { t.Log(text) }})
	require.NoError(t, err)
	return b
}

// start starts QEMU with the arguments for what the guest boots from and for its devices: drive
// under-test is a blank disk, and netdev test leads to the guest's SSH server alone. It waits
// until the guest is ready. QEMU ends with the test.
func (b *booted) start(t *testing.T, args ...string) {
	t.Helper()
	folder := t.TempDir()
	console, underTest := filepath.Join(folder, "console"), filepath.Join(folder, "under-test")
	require.NoError(t, os.WriteFile(underTest, nil, 0o600))
	require.NoError(t, os.Truncate(underTest, underTestBytes))
	require.NoError(t, os.WriteFile(console, nil, 0o600))
	// Emulated: where there is /dev/kvm, it need not work.
	args = append([]string{"-name", "guest", "-machine", "q35", "-accel", "tcg",
		"-m", fmt.Sprint(OVAMemoryMiB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:" + console,
		"-drive", "if=none,id=under-test,format=raw,file=" + underTest,
		"-netdev", fmt.Sprintf("user,id=test,restrict=on,net=198.18.0.0/24,host=198.18.0.2,hostfwd=tcp:%s-198.18.0.9:22", b.port)}, args...)
	qemu := exec.CommandContext(b.ctx, "qemu-system-x86_64", args...)
	var complaints bytes.Buffer
	qemu.Stderr = &complaints
	require.NoError(t, qemu.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := qemu.Wait()
		b.ended(fmt.Errorf("QEMU has ended: %w: %s", err, complaints.String()))
	}()
	t.Cleanup(func() {
		_ = qemu.Process.Kill()
		<-done
	})
	began := time.Now()
	var said []byte
	err := poll.Until(b.ctx, time.Second, func(context.Context) (bool, error) {
		var err error
		said, err = os.ReadFile(console)
		return bytes.Contains(said, []byte("heliotrope: guest ready")), err
	})
	require.NoError(t, err, "%s", said)
	t.Logf("the guest was ready after %v", time.Since(began).Round(time.Second))
}

// answers asks the guest commands, whose output must contain the texts, and logs in with a key
// that the guest must refuse.
func (b *booted) answers(t *testing.T, expected map[string]string) {
	t.Helper()
	maps.Copy(expected, map[string]string{"hostname": "guest", "uname -r": b.Kernel, "cat /sys/class/net/eth0/mtu": "1400",
		"cat /proc/cmdline": "heliotrope.ip=198.18.0.9/24", "fio --version": "fio-"})
	host := b.login(t, b.key)
	for command, want := range expected {
		result, err := host.Run(b.ctx, remote.Command{Args: strings.Fields(command)})
		require.NoError(t, err, command)
		require.Contains(t, string(result.Stdout), want, command)
	}
	_, err := b.login(t, b.stranger).Run(b.ctx, remote.Command{Args: []string{"true"}})
	require.ErrorContains(t, err, "unable to authenticate")
}

func (b *booted) login(t *testing.T, key ssh.Signer) *remote.SSHHost {
	t.Helper()
	host, err := remote.SSH(remote.SSHConfig{Name: "guest", Address: b.port.String(), Key: key, HostKeys: []string{b.HostKey}, ConnectTimeout: 2 * time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	return host
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return signer
}
