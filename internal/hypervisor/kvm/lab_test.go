//go:build lab

package kvm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/require"
	"libvirt.org/go/libvirtxml"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm/watch"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/testnet"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

const (
	folder   = "/var/lib/heliotrope/kvm-test" // on the hosts
	diskMiB  = 32
	testName = trial.Guest // whose logs a teardown knows
)

// load is the guest's first program: it writes to its disk, bypassing the cache,
// and prints on the console how often it has.
const load = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /sbin /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
while read -r module; do insmod "/lib/modules/$module"; done < /lib/modules/virtio
until [ -b /dev/vda ]; do usleep 20000; done
i=0
while :; do
  dd if=/dev/zero of=/dev/vda bs=4096 count=8 seek=$((i % 256 * 8)) oflag=direct conv=notrunc 2> /dev/null || echo "failed"
  i=$((i + 1))
  echo "wrote $i" > /dev/ttyS0
done
`

// bed is what these tests need: two hosts that share a disk.
type bed struct {
	*testing.T
	hosts  [2]*Host
	kernel string // paths on both hosts
	base   string // the guest's ramdisk
	shared hypervisor.Disk
	mac    string
	bridge string
}

// openBed may be replaced, to test on hosts other than a testbed's.
var openBed = openTestbed

func openTestbed(t *testing.T) *bed {
	file := os.Getenv("HELIOTROPE_INVENTORY")
	require.NotEmpty(t, file, "HELIOTROPE_INVENTORY names no testbed: run `make test-lab`, or set it to an inventory")
	inv, err := inventory.Load(file)
	require.NoError(t, err)
	b := &bed{T: t, kernel: inv.Guest.Kernel, base: inv.Guest.Ramdisk, mac: "52:54:00:00:00:01"}
	for i, machine := range []*inventory.Machine{inv.SiteA(), inv.SiteB()} {
		b.hosts[i] = New(hypervisor.Setup{Label: inv.Name + "-kvm", Machine: *machine, Remote: connectTo(t, machine)})
		b.bridge = machine.Bridge
	}
	store := connectTo(t, inv.Store())
	b.share(store, inv)
	return b
}

func connectTo(t *testing.T, machine *inventory.Machine) remote.Host {
	key, err := remote.LoadKey(machine.SSH.KeyFile, "")
	require.NoError(t, err)
	host, err := remote.SSH(remote.SSHConfig{Name: machine.Name, Address: machine.SSH.Address, User: machine.SSH.User, Key: key, HostKeys: machine.SSH.HostKeys})
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	return host
}

// share makes both hosts mount a folder of the storage server, with an image in it.
func (b *bed) share(store remote.Host, inv *inventory.Inventory) {
	export, mount := path.Join(inv.Store().DataDir, "kvm-test"), path.Join(folder, "mnt")
	clean := func() {
		for _, h := range b.hosts {
			// A domain that was left running by a killed test holds the folder.
			require.NoError(b, h.Teardown(context.WithoutCancel(b.Context())))
			b.sh(h.remote, `umount "$1" 2>/dev/null; rm -rf -- "$2"`, mount, folder)
		}
		b.sh(store, `exportfs -u "*:$1" 2>/dev/null; rm -rf -- "$1"`, export)
	}
	clean()
	b.Cleanup(clean)
	b.sh(store, `modprobe nfsd; mkdir -p "$1" && truncate -s "$2" "$1/vm.img"
mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
exportfs -o rw,sync,no_root_squash,fsid=77 "*:$1" && { test "$(cat /proc/fs/nfsd/threads)" != 0 || { rpc.mountd -N 3; rpc.nfsd -N 3 4; }; }`,
		export, fmt.Sprintf("%dM", diskMiB))
	for _, h := range b.hosts {
		b.sh(h.remote, `modprobe nfsv4; mkdir -p "$2" && mount -t nfs4 -o vers=4.2,hard "$1" "$2"`, testnet.Bracketed(inv.Store().Address)+":"+export, mount)
	}
	b.shared = hypervisor.Disk{Path: path.Join(mount, "vm.img"), File: true}
}

// sh runs a constant text on a host.
func (b *bed) sh(host remote.Host, text string, args ...string) string {
	b.Helper()
	result, err := host.Run(context.WithoutCancel(b.Context()), remote.Command{Args: append([]string{"sh", "-c", text, "sh"}, args...), Timeout: callTimeout})
	require.NoError(b, err)
	return strings.TrimSpace(string(result.Stdout))
}

// domain is a guest that writes to a disk, and is removed at the end of the test.
func (b *bed) domain(disk hypervisor.Disk) hypervisor.Domain {
	b.Helper()
	archive := b.archive()
	ramdisk := path.Join(folder, "ramdisk")
	for _, h := range b.hosts {
		files, err := h.remote.Files(b.Context())
		require.NoError(b, err)
		require.NoError(b, files.MkdirAll(folder))
		require.NoError(b, files.WriteFile(path.Join(folder, "load"), archive, 0o644))
		b.sh(h.remote, `cat "$1" "$2/load" > "$3"`, b.base, folder, ramdisk)
		b.Cleanup(func() { require.NoError(b, h.Teardown(context.WithoutCancel(b.Context()))) })
		require.NoError(b, h.Teardown(b.Context()))
	}
	return hypervisor.Domain{Name: b.hosts[0].prefix() + testName, MemoryMiB: 128, VCPUs: 1, Kernel: b.kernel, Ramdisk: ramdisk,
		Cmdline: "console=ttyS0 quiet loglevel=3 mitigations=off rdinit=/load", Disk: disk, MAC: b.mac, Bridge: b.bridge}
}

// archive is an initramfs with the load, to be appended to the guest's own.
func (b *bed) archive() []byte {
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	require.NoError(b, w.WriteHeader(&cpio.Header{Name: "load", Mode: cpio.TypeReg | 0o755, Size: int64(len(load)), Links: 1}))
	_, err := w.Write([]byte(load))
	require.NoError(b, err)
	require.NoError(b, w.Close())
	return out.Bytes()
}

// written is the last line of the guest's console about a write.
func (b *bed) written(h *Host, name string) string {
	b.Helper()
	return b.sh(h.remote, `grep -a ^wrote "$1" 2>/dev/null | tail -n 1`, consolePath(name))
}

// writes waits until the guest has written more than before.
func (b *bed) writes(h *Host, name string) {
	b.Helper()
	before, limit := b.written(h, name), time.Now().Add(2*time.Minute)
	for now := before; now == before; now = b.written(h, name) {
		require.True(b, time.Now().Before(limit), "the guest on %s writes nothing: its console ends with %q", h.Host(), b.sh(h.remote, `tail -n 5 "$1"`, consolePath(name)))
		<-time.After(200 * time.Millisecond)
	}
}

// where requires that the domain runs on one host, and is not on the other.
func (b *bed) where(name string, here, notHere *Host) {
	b.Helper()
	states, err := here.List(b.Context())
	require.NoError(b, err)
	require.Len(b, states, 1, here.Host())
	require.Equal(b, name, states[0].Name)
	require.Equal(b, hypervisor.Running, states[0].Status, here.Host())
	states, err = notHere.List(b.Context())
	require.NoError(b, err)
	require.Empty(b, states, notHere.Host())
	pids, err := notHere.processes(b.Context(), name)
	require.NoError(b, err)
	require.Empty(b, pids)
}

// firstLine is a buffer whose channel is closed when something is written.
type firstLine struct {
	bytes.Buffer
	there chan struct{}
	once  sync.Once
}

func (w *firstLine) Write(text []byte) (int, error) {
	defer w.once.Do(func() { close(w.there) })
	return w.Buffer.Write(text)
}

// record watches a domain on a host as the witness does, from its return until the returned
// function is called, which returns the lines.
func (b *bed) record(h *Host, name string) (end func() []witness.DomainReading) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	conn, err := h.dial(ctx)
	require.NoError(b, err)
	out := firstLine{there: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- watch.Watching(ctx, conn, &out, hypervisor.UUID(name)) }()
	select {
	case <-out.there: // it is written after the watcher has subscribed to events
	case err := <-ended:
		cancel()
		b.Fatalf("%s: the watcher has ended: %v", h.Host(), err)
	}
	return func() (readings []witness.DomainReading) {
		cancel()
		require.NoError(b, <-ended)
		b.Logf("%s:\n%s", h.Host(), withoutProofs(out.String()))
		require.NoError(b, witness.ReadDomains(&out, func(r witness.DomainReading) error {
			readings = append(readings, r)
			return nil
		}))
		return readings
	}
}

func withoutProofs(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, witness.DomainWatch) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// change is the last line with a state.
func change(readings []witness.DomainReading, state string) (last witness.DomainReading) {
	for _, r := range readings {
		if r.State == state {
			last = r
		}
	}
	return last
}

// private is a disk of one host, filled with the host's name.
func (b *bed) private(h *Host, mib int) string {
	b.Helper()
	image := path.Join(folder, fmt.Sprintf("private-%d.img", mib))
	device := b.sh(h.remote, `modprobe loop; mkdir -p "$3"; yes "$4" | head -c "$2" > "$1"; d=$(losetup -f) && losetup "$d" "$1" && echo "$d"`,
		image, fmt.Sprint(mib<<20), folder, h.Host())
	b.Cleanup(func() { b.sh(h.remote, `losetup -d "$1"`, device) })
	return device
}

// overlay is a disk of one host over a base that is the same on all hosts.
func (b *bed) overlay(h *Host) hypervisor.Disk {
	b.Helper()
	devices := strings.Fields(b.sh(h.remote, `set -e
modprobe loop
mkdir -p "$1"
yes base | head -c "$2" > "$1/base"
truncate -s "$3" "$1/overlay"
base=$(losetup -f) && losetup --read-only "$base" "$1/base"
disk=$(losetup -f) && losetup "$disk" "$1/overlay"
qemu-img create -q -f qcow2 -o cluster_size=4k,backing_fmt=raw -b "$base" "$disk" "$2"
echo "$disk" "$base"`, folder, fmt.Sprint(diskMiB<<20), fmt.Sprint((diskMiB+2)<<20)))
	require.Len(b, devices, 2)
	b.Cleanup(func() { b.sh(h.remote, `losetup -d "$1"; losetup -d "$2"`, devices...) })
	return hypervisor.Disk{Path: devices[0], Base: devices[1], Copy: hypervisor.IncrementalCopy}
}

func resolution(t *testing.T) time.Duration { t.Helper(); return time.Microsecond }

// TestLabStranger: somebody else's domain is never touched, and one that stands in
// our way is reported.
func TestLabStranger(t *testing.T) {
	b := openBed(t)
	d := b.domain(b.shared)
	h := b.hosts[0]
	c, err := h.connect(t.Context())
	require.NoError(t, err)
	defer c.close()
	stranger := libvirtxml.Domain{Type: h.domainType, Name: d.Name, Memory: &libvirtxml.DomainMemory{Value: 16, Unit: "MiB"},
		OS: &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}}}
	text, err := stranger.Marshal()
	require.NoError(t, err)
	made, err := c.virt.DomainCreateXML(text, libvirt.DomainStartPaused)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.virt.DomainDestroy(made)) }()

	states, err := h.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, states)
	for what, err := range map[string]error{"Create": h.Create(t.Context(), d), "Check": h.Check(t.Context()),
		"CheckMigration": b.hosts[1].CheckMigration(t.Context(), d, h)} {
		require.ErrorContains(t, err, "is not this testbed's", what)
		require.Equal(t, fault.BadInput, fault.Of(err), what)
	}
	require.NoError(t, h.Destroy(t.Context(), d.Name))
	require.NoError(t, h.Teardown(t.Context()))
	state, _, err := c.virt.DomainGetState(made, 0)
	require.NoError(t, err)
	require.Equal(t, libvirt.DomainPaused, libvirt.DomainState(state))
}

// move migrates, and logs what it took.
func (b *bed) move(order hypervisor.Order, from *Host) hypervisor.Migration {
	b.Helper()
	source, target := b.record(from, order.Domain.Name), b.record(order.Target.(*Host), order.Domain.Name)
	var last hypervisor.Progress
	seen := 0
	order.Progress = func(p hypervisor.Progress) { last, seen = p, seen+1 }
	account, err := from.Migrate(b.Context(), order)
	require.NoError(b, err)
	before, after := source(), target()
	b.Logf("%s → %s: total %s, %d bytes, %d reports, the last of phase %q\n%s", from.Host(), order.Target.Host(), account.Duration(),
		account.StreamBytes, seen, last.Phase, account.Log)
	require.NotNil(b, account.Rounds)
	require.Positive(b, account.StreamBytes)
	require.Positive(b, seen)
	stopped, resumed := change(before, witness.DomainSuspended), change(after, witness.DomainRunning)
	b.Logf("downtime: watchers %s (two clocks); rounds %d", resumed.At.Sub(stopped.At), *account.Rounds)
	if order.Mode != hypervisor.PostCopy {
		// Without downtime_net the log says that a clock is behind: see account.
		if account.Downtime == nil {
			require.Contains(b, account.Log, "libvirt tells no downtime_net")
		} else {
			b.Logf("downtime: libvirt %s", *account.Downtime)
		}
	}
	wanted := []hypervisor.PhaseName{hypervisor.Preparing, hypervisor.Sending}
	if order.Domain.Disk.Copy != "" {
		wanted = []hypervisor.PhaseName{hypervisor.Preparing, hypervisor.Copying, hypervisor.Converging}
	}
	wanted = append(wanted, hypervisor.Switching)
	if order.Mode == hypervisor.PostCopy {
		wanted = append(wanted, hypervisor.Fetching)
	}
	var phases []hypervisor.PhaseName
	for _, phase := range account.Phases {
		phases = append(phases, phase.Name)
		b.Logf("%s: %s", phase.Name, *account.Took(phase.Name))
	}
	require.Equal(b, append(wanted, hypervisor.Releasing), phases)
	require.NotZero(b, stopped.ID, "the source's watcher has seen no suspension")
	require.NotZero(b, resumed.ID, "the target's watcher has seen nothing run")
	require.NotZero(b, change(after, witness.DomainPaused).ID, "the target's watcher has seen nothing wait")
	require.Equal(b, witness.DomainGone, change(before, witness.DomainGone).State)
	return account
}

// TestLabMigrations: one guest is made, goes through everything that can happen during a
// migration, and is destroyed. Each step starts from where the one before left it, so that
// leftovers in libvirt or in the guest would disturb the next step.
func TestLabMigrations(t *testing.T) {
	b := openBed(t)
	d := b.domain(b.shared)
	for _, step := range []struct {
		name string
		run  func(*bed, hypervisor.Domain)
	}{
		{"made", (*bed).made},
		{"paused", (*bed).paused},
		{"there and back", (*bed).thereAndBack},
		{"cancelled", (*bed).cancelled},
		{"foreign disk", (*bed).foreignDisk},
		{"controller dies after prepare", (*bed).diesAfterPrepare},
		{"controller dies after perform", (*bed).diesAfterPerform},
		{"controller dies after finish", (*bed).diesAfterFinish},
		{"post-copy", (*bed).postCopy}, // back, from where the last has left it
		{"destroyed", (*bed).destroyed},
	} {
		require.True(t, t.Run(step.name, func(t *testing.T) { step.run(b.in(t), d) }), "the guest is not where the next step begins")
	}
}

// in is the same bed, for a subtest.
func (b *bed) in(t *testing.T) *bed {
	own := *b
	own.T = t
	return &own
}

// made makes the guest on the first host, twice: one that runs is left as it is.
func (b *bed) made(d hypervisor.Domain) {
	h := b.hosts[0]
	require.NoError(b, h.Check(b.Context()))
	require.NoError(b, h.CheckMigration(b.Context(), d, b.hosts[1]))
	info, err := h.Info(b.Context())
	require.NoError(b, err)
	b.Logf("%+v", info)
	started := time.Now()
	require.NoError(b, h.Create(b.Context(), d))
	b.Logf("created in %s", time.Since(started))
	require.NoError(b, h.Create(b.Context(), d))
	b.where(d.Name, h, b.hosts[1])
	b.writes(h, d.Name)
	b.Logf("it writes after %s", time.Since(started))
}

// paused pauses the guest: the watcher sees a pause that is at least as long.
func (b *bed) paused(d hypervisor.Domain) {
	h := b.hosts[0]
	end := b.record(h, d.Name)
	require.NoError(b, h.Pause(b.Context(), d.Name))
	require.NoError(b, h.Pause(b.Context(), d.Name))
	paused := time.Now()
	states, err := h.List(b.Context())
	require.NoError(b, err)
	require.Equal(b, hypervisor.Paused, states[0].Status)
	<-time.After(2 * time.Second)
	least := time.Since(paused)
	require.NoError(b, h.Unpause(b.Context(), d.Name))
	require.NoError(b, h.Unpause(b.Context(), d.Name))
	b.writes(h, d.Name)
	readings := end()
	stopped, resumed := change(readings, witness.DomainPaused), change(readings, witness.DomainRunning)
	b.Logf("paused for at least %s, the watcher says %s", least, resumed.At.Sub(stopped.At))
	require.GreaterOrEqual(b, resumed.At.Sub(stopped.At), least)
	require.Equal(b, resolution(b.T), stopped.Spacing)
}

// destroyed destroys the guest: the watcher sees that it is gone.
func (b *bed) destroyed(d hypervisor.Domain) {
	h := b.hosts[0]
	end := b.record(h, d.Name)
	require.NoError(b, h.Destroy(b.Context(), d.Name))
	require.NoError(b, h.Destroy(b.Context(), d.Name))
	require.Equal(b, witness.DomainGone, change(end(), witness.DomainGone).State)
}

func (b *bed) thereAndBack(d hypervisor.Domain) {
	told := false
	for i := range 2 {
		from, to := b.hosts[i%2], b.hosts[(i+1)%2]
		order := hypervisor.Order{Domain: d, Target: to, AtTarget: d}
		told = b.move(order, from).Downtime != nil || told
		b.where(d.Name, to, from)
		b.writes(to, d.Name)
		again, err := from.Migrate(b.Context(), order)
		require.NoError(b, err, "it is there already")
		require.Zero(b, again.StreamBytes)
	}
	require.True(b, told, "no clock is behind both ways")
}

func (b *bed) postCopy(d hypervisor.Domain) {
	b.move(hypervisor.Order{Domain: d, Target: b.hosts[0], AtTarget: d, Mode: hypervisor.PostCopy, AutoConverge: true,
		BandwidthMiBPerSecond: 8, MaxDowntime: 10 * time.Millisecond}, b.hosts[1])
	b.where(d.Name, b.hosts[0], b.hosts[1])
	b.writes(b.hosts[0], d.Name)
}

// cancelled: the guest goes on at the source, and the target has nothing of it.
func (b *bed) cancelled(d hypervisor.Domain) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	account, err := b.hosts[0].Migrate(ctx, hypervisor.Order{Domain: d, Target: b.hosts[1], AtTarget: d, BandwidthMiBPerSecond: 1,
		Progress: func(p hypervisor.Progress) {
			if p.SentBytes > 0 {
				cancel()
			}
		}})
	b.Logf("after %s: %v\n%s", account.Duration(), err, account.Log)
	require.ErrorIs(b, err, context.Canceled)
	var failed *hypervisor.MigrationError
	require.NotErrorAs(b, err, &failed)
	b.where(d.Name, b.hosts[0], b.hosts[1])
	b.writes(b.hosts[0], d.Name)
}

// begin is a migration of the first host's domain that has come as far as ready.
func (b *bed) begin(d hypervisor.Domain) *migration {
	b.Helper()
	m := &migration{from: b.hosts[0], to: b.hosts[1], order: hypervisor.Order{Domain: d, Target: b.hosts[1], AtTarget: d}, name: d.Name}
	var err error
	m.source, err = m.from.connect(b.Context())
	require.NoError(b, err)
	b.Cleanup(m.source.close)
	m.target, err = m.to.connect(b.Context())
	require.NoError(b, err)
	b.Cleanup(m.target.close)
	require.NoError(b, m.ready(b.Context()))
	return m
}

// The controller is cut off between the phases: the next Migrate finds the domain
// on one host.

func (b *bed) diesAfterPrepare(d hypervisor.Domain) {
	m := b.begin(d)
	require.NoError(b, m.prepare(b.Context()))
	b.isFound(m, false)
}

func (b *bed) diesAfterPerform(d hypervisor.Domain) {
	m := b.begin(d)
	b.perform(m)
	b.isFound(m, false)
}

func (b *bed) diesAfterFinish(d hypervisor.Domain) {
	m := b.begin(d)
	b.perform(m)
	require.NoError(b, m.finish(false))
	b.isFound(m, true)
}

func (b *bed) perform(m *migration) {
	b.Helper()
	require.NoError(b, m.prepare(b.Context()))
	var err error
	m.cookie, err = m.source.virt.DomainMigratePerform3Params(m.domain, nil, m.params, m.cookie, m.sourceFlags())
	require.NoError(b, err)
}

// isFound makes the controller hang up, and requires the domain on one host.
func (b *bed) isFound(m *migration, wantAtTarget bool) {
	b.Helper()
	m.hangUp()
	atTarget, err := m.settle(b.Context())
	require.NoError(b, err)
	require.Equal(b, wantAtTarget, atTarget)
	here, notHere := b.hosts[0], b.hosts[1]
	if atTarget {
		here, notHere = notHere, here
	}
	b.where(m.name, here, notHere)
	b.writes(here, m.name)
}

// foreignDisk: when QEMU at the target opens a wrong disk, nothing runs there, and
// nothing is written.
func (b *bed) foreignDisk(d hypervisor.Domain) {
	foreign := path.Join(path.Dir(d.Disk.Path), "foreign.img")
	b.sh(b.hosts[0].remote, `yes foreign | head -c "$2" > "$1"`, foreign, fmt.Sprint(diskMiB<<20))
	sum := b.sh(b.hosts[1].remote, `sha256sum "$1"`, foreign)
	m := b.begin(d)
	m.opens.Disk.Path = foreign // so that the disk which QEMU opens is not the one that it must have open
	err := m.prepare(b.Context())
	require.ErrorContains(b, err, "it has opened "+d.Disk.Path+", which is not of the domain's disk")
	require.Equal(b, fault.Infrastructure, fault.Of(err))
	_, err = m.settle(b.Context())
	require.NoError(b, err)
	b.where(d.Name, b.hosts[0], b.hosts[1])
	b.writes(b.hosts[0], d.Name)
	require.Equal(b, sum, b.sh(b.hosts[1].remote, `sha256sum "$1"`, foreign))
}

// TestLabMirror: a private disk is copied to the other host behind the guest's
// writes, and back with each write waiting for the other host. Everything that the
// guest had written is there.
func TestLabMirror(t *testing.T) {
	b := openBed(t)
	var at [2]hypervisor.Domain // the guest on each host
	for i, h := range b.hosts {
		at[i] = b.domain(hypervisor.Disk{Path: b.private(h, diskMiB)})
	}
	require.NoError(t, b.hosts[0].Create(t.Context(), at[0]))
	b.writes(b.hosts[0], at[0].Name)
	tail := b.tail(b.hosts[0], at[0].Disk)
	for i, way := range []hypervisor.Copy{hypervisor.FullCopy, hypervisor.SynchronousCopy} {
		source, target := i, 1-i
		from, to, order := b.hosts[source], b.hosts[target], hypervisor.Order{Domain: at[source], AtTarget: at[target], Target: b.hosts[target]}
		order.Domain.Disk.Copy, order.AtTarget.Disk.Copy = way, way
		require.NotEqual(t, tail, b.tail(to, order.AtTarget.Disk), "the target's disk must be another, or nothing is tested")
		account := b.move(order, from)
		require.NotNil(t, account.DiskBytes)
		t.Logf("%s: %d bytes of the disk", way, *account.DiskBytes)
		require.GreaterOrEqual(t, *account.DiskBytes, int64(diskMiB<<20))
		b.where(order.Domain.Name, to, from)
		b.writes(to, order.Domain.Name)
		require.Equal(t, tail, b.tail(to, order.AtTarget.Disk))
		b.sh(from.remote, `yes stale | head -c "$2" | dd of="$1" bs=1M iflag=fullblock conv=fsync 2> /dev/null`, order.Domain.Disk.Path, fmt.Sprint(diskMiB<<20))
	}

	// Too small a disk is refused before anything is sent.
	order := hypervisor.Order{Domain: at[0], AtTarget: at[1], Target: b.hosts[1]}
	order.AtTarget.Disk.Path = b.private(b.hosts[1], 1)
	order.Domain.Disk.Copy, order.AtTarget.Disk.Copy = hypervisor.FullCopy, hypervisor.FullCopy
	_, err := b.hosts[0].Migrate(t.Context(), order)
	require.ErrorContains(t, err, "make it larger")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	b.where(at[0].Name, b.hosts[0], b.hosts[1])
}

// tail is the checksum of a private disk's last MiB, to which the load does not
// write.
func (b *bed) tail(h *Host, disk hypervisor.Disk) string {
	b.Helper()
	return b.sh(h.remote, `tail -c 1048576 "$1" | sha256sum`, disk.Path)
}

// TestLabIncremental: of a private disk over a base that both hosts have, only what
// was written is copied, in both directions.
func TestLabIncremental(t *testing.T) {
	b := openBed(t)
	disks := [2]hypervisor.Disk{b.overlay(b.hosts[0]), b.overlay(b.hosts[1])}
	const written, inBase = 31, 30 // MiB that the load leaves alone
	b.sh(b.hosts[0].remote, `qemu-io -f qcow2 -c "write -P 7 $2M 1M" "$1"`, disks[0].Path, fmt.Sprint(written))
	d := b.domain(disks[0])
	there := d
	there.Disk = disks[1]
	require.NoError(t, b.hosts[0].Create(t.Context(), d))
	b.writes(b.hosts[0], d.Name)
	account := b.move(hypervisor.Order{Domain: d, Target: b.hosts[1], AtTarget: there}, b.hosts[0])
	b.where(d.Name, b.hosts[1], b.hosts[0])
	b.writes(b.hosts[1], d.Name)
	require.NotNil(t, account.DiskBytes)
	t.Logf("%d bytes of the disk's %d", *account.DiskBytes, diskMiB<<20)
	require.GreaterOrEqual(t, *account.DiskBytes, int64(1<<20))
	require.Less(t, *account.DiskBytes, int64(diskMiB<<20)/2)

	// The former home's image is made again, and is the target of the next
	// migration.
	b.sh(b.hosts[0].remote, `qemu-img create -q -f qcow2 -o cluster_size=4k,backing_fmt=raw -b "$2" "$1" "$3"`, disks[0].Path, disks[0].Base, fmt.Sprint(diskMiB<<20))
	b.move(hypervisor.Order{Domain: there, Target: b.hosts[0], AtTarget: d}, b.hosts[1])
	b.where(d.Name, b.hosts[0], b.hosts[1])
	b.writes(b.hosts[0], d.Name)
	require.NoError(t, b.hosts[0].Destroy(t.Context(), d.Name))
	b.sh(b.hosts[0].remote, `qemu-img check -q -f qcow2 "$1" && qemu-io -f qcow2 -c "read -P 7 $2M 1M" "$1" | grep -q '^read 1048576/'`, disks[0].Path, fmt.Sprint(written))
	same := `qemu-img convert -f qcow2 -O raw "$1" "$2/raw" && dd if="$2/raw" bs=1M skip="$4" count=1 2>/dev/null | sha256sum && dd if="$3" bs=1M skip="$4" count=1 2>/dev/null | sha256sum`
	sums := strings.Fields(b.sh(b.hosts[0].remote, same, disks[0].Path, folder, disks[0].Base, fmt.Sprint(inBase)))
	require.Equal(t, sums[0], sums[2], "what is only in the base")

	// A base that is missing, or that was not opened, is reported.
	require.NoError(t, b.hosts[0].Create(t.Context(), d))
	there.Disk.Base = disks[1].Base + "-none"
	_, err := b.hosts[0].Migrate(t.Context(), hypervisor.Order{Domain: d, Target: b.hosts[1], AtTarget: there})
	require.ErrorContains(t, err, "-none")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	b.where(d.Name, b.hosts[0], b.hosts[1])
}
