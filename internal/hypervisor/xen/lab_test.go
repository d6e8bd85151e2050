//go:build lab

package xen_test

import (
	"context"
	"net/netip"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/guest"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/xen"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
)

// inventoryVariable names the inventory of the testbed to test on.
const inventoryVariable = "HELIOTROPE_INVENTORY"

// bench is the driver's part of a testbed: both hosts, and the guest, which is
// reached through the storage server.
type bench struct {
	inv          *inventory.Inventory
	hostA, hostB remote.Host
	a, b         hypervisor.Driver
	guest        remote.Host
}

// open connects to a testbed of Xen and tears everything of the driver's down,
// now and at the end.
func open(t *testing.T) *bench {
	t.Helper()
	file := os.Getenv(inventoryVariable)
	require.NotEmpty(t, file, "%s is not set: run `make test-lab`, or set it to an inventory", inventoryVariable)
	inv, err := inventory.Load(file)
	require.NoError(t, err)
	x := &bench{inv: inv}
	x.hostA, x.a = x.site(t, inv.Sites.A)
	x.hostB, x.b = x.site(t, inv.Sites.B)
	store := inv.Machine(inv.StoreName)
	x.guest = connect(t, "guest", inventory.SSH{Address: netip.AddrPortFrom(inv.Guest.Address.Addr(), 22).String(),
		Login: inv.Guest.SSH.Login}, connect(t, store.Name, store.SSH, nil))
	t.Cleanup(func() { x.teardown(t) })
	x.teardown(t)
	return x
}

func (x *bench) teardown(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for _, driver := range []hypervisor.Driver{x.a, x.b} {
		require.NoError(t, driver.Teardown(ctx))
		require.NoError(t, driver.Teardown(ctx))
	}
}

func (x *bench) site(t *testing.T, name string) (remote.Host, hypervisor.Driver) {
	t.Helper()
	machine := x.inv.Machine(name)
	host := connect(t, name, machine.SSH, nil)
	driver, err := xen.Kind.New(hypervisor.Setup{Label: x.inv.Name, Machine: *machine, Remote: host})
	require.NoError(t, err)
	return host, driver
}

func connect(t *testing.T, name string, reach inventory.SSH, via remote.Dialer) *remote.SSHHost {
	t.Helper()
	key, err := remote.LoadKey(reach.KeyFile, "")
	require.NoError(t, err)
	host, err := remote.SSH(remote.SSHConfig{Name: name, Address: reach.Address, User: reach.User, Key: key, HostKeys: reach.HostKeys, Via: via})
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	return host
}

func run(t *testing.T, host remote.Runner, args ...string) string {
	t.Helper()
	result, err := host.Run(t.Context(), remote.Command{Args: args, Timeout: 2 * time.Minute})
	require.NoError(t, err)
	return strings.TrimSpace(string(result.Stdout))
}

// image makes a file of 8 MiB with a text at its beginning, and attaches it to a
// loop device until the test ends.
func (x *bench) image(t *testing.T, host remote.Host, name, text string) (file, device string) {
	t.Helper()
	file = path.Join("/tmp", x.inv.Name+"-"+name)
	run(t, host, "sh", "-c", `echo "$2" > "$1" && truncate -s 8M "$1"`, "sh", file, text)
	device = run(t, host, "losetup", "-f", "--show", "--direct-io=on", file)
	t.Cleanup(func() {
		_, err := host.Run(context.WithoutCancel(t.Context()), remote.Command{Args: []string{"sh", "-c", `losetup -d "$1"; rm -f "$2"`, "sh", device, file}})
		assert.NoError(t, err)
	})
	return file, device
}

// domain is the guest on one host.
func (x *bench) domain(host, device string) hypervisor.Domain {
	name := x.inv.Name + hypervisor.LabelSeparator + "guest"
	return guest.Domain(x.inv, name, xen.Kind.Guest, x.inv.Machine(host), hypervisor.Disk{Path: device})
}

// start runs the guest at site A and waits until it answers.
func (x *bench) start(t *testing.T, device string) hypervisor.Domain {
	t.Helper()
	domain := x.domain(x.inv.Sites.A, device)
	require.NoError(t, x.a.Create(t.Context(), domain))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, remote.WaitReady(ctx, x.guest, "test", "-b", xen.Kind.Guest.Disk))
	return domain
}

// write has the guest write a text to the beginning of its disk.
func (x *bench) write(t *testing.T, text string) {
	t.Helper()
	run(t, x.guest, "sh", "-c", `echo "$1" | dd of="$2" bs=4096 conv=sync,fsync`, "sh", text, xen.Kind.Guest.Disk)
}

func firstLine(t *testing.T, host remote.Host, file string) string {
	t.Helper()
	return run(t, host, "head", "-n", "1", file)
}

func (x *bench) domains(t *testing.T, driver hypervisor.Driver) []string {
	t.Helper()
	states, err := driver.List(t.Context())
	require.NoError(t, err)
	names := []string{}
	for _, state := range states {
		assert.Equal(t, hypervisor.Running, state.Status, "%s on %s", state.Name, driver.Host())
		names = append(names, state.Name)
	}
	return names
}

// TestLabMigrations: one guest goes through what can happen during a migration. Each step but the last leaves it at the
// source. At the source the disk is the first loop device, which at the target is somebody else's: that one is never touched.
func TestLabMigrations(t *testing.T) {
	x := open(t)
	atHome, atA := x.image(t, x.hostA, "disk", "empty")
	foreign, same := x.image(t, x.hostB, "foreign", "somebody else's")
	own, atB := x.image(t, x.hostB, "disk", "empty")
	require.Equal(t, atA, same, "the paths must be the same, or nothing is tested")
	domain := x.start(t, atA)
	sum := run(t, x.hostB, "sha256sum", foreign)
	order := hypervisor.Order{Domain: domain, Target: x.b, AtTarget: x.domain(x.inv.Sites.B, atB)}
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"exchanged disk", func(t *testing.T) { x.refuseExchanged(t, order, own) }},
		{"cancelled over tcp", func(t *testing.T) { x.cancelOver(t, order, "tcp") }},
		{"cancelled over ssh", func(t *testing.T) { x.cancelOver(t, order, "ssh") }}, // and so does the next step
		{"own paths", func(t *testing.T) { x.moveOnce(t, order, own) }},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			x.write(t, "before "+step.name)
			require.Equal(t, "before "+step.name, firstLine(t, x.hostA, atHome))
			step.run(t)
		}) {
			t.Fatal("the guest is not where the next step begins")
		}
	}
	assert.Equal(t, sum, run(t, x.hostB, "sha256sum", foreign), "somebody else's disk was written to")
}

// stays requires that the guest runs at the source, and that nothing is left at the target.
func (x *bench) stays(t *testing.T, domain hypervisor.Domain) {
	t.Helper()
	assert.Equal(t, []string{domain.Name}, x.domains(t, x.a))
	assert.Empty(t, x.domains(t, x.b))
}

// refuseExchanged migrates, and while the memory is sent, something else is attached in the place of the target's disk: the
// target is refused, and the guest goes on at the source. Then the target's own image is attached again.
func (x *bench) refuseExchanged(t *testing.T, order hypervisor.Order, own string) {
	t.Helper()
	other := path.Join("/tmp", x.inv.Name+"-other")
	t.Cleanup(func() {
		_, _ = x.hostB.Run(context.WithoutCancel(t.Context()), remote.Command{Args: []string{"rm", "-f", other}})
	})
	exchange := sync.OnceFunc(func() {
		run(t, x.hostB, "sh", "-c", `echo "somebody else's" > "$2" && truncate -s 8M "$2" && losetup -d "$1" && losetup "$1" "$2"`,
			"sh", order.AtTarget.Disk.Path, other)
	})
	order.Progress = func(hypervisor.Progress) { exchange() }
	_, err := x.a.Migrate(t.Context(), order)
	require.ErrorContains(t, err, "not the device that was noted")
	t.Log(err)
	assert.Equal(t, fault.Infrastructure, fault.Of(err))
	var failed *hypervisor.MigrationError
	assert.NotErrorAs(t, err, &failed)
	x.stays(t, order.Domain)
	assert.Equal(t, "somebody else's", firstLine(t, x.hostB, other))
	run(t, x.hostB, "sh", "-c", `losetup -d "$1" && losetup --direct-io=on "$1" "$2"`, "sh", order.AtTarget.Disk.Path, own)
}

// cancelOver migrates over a transport, over which the source also migrates afterwards, and cancels that when a quarter of
// the memory was sent: the guest goes on at the source, and nothing is left at the target.
func (x *bench) cancelOver(t *testing.T, order hypervisor.Order, transport string) {
	t.Helper()
	machine := *x.inv.Machine(x.inv.Sites.A)
	machine.Transport = transport
	source, err := xen.Kind.New(hypervisor.Setup{Label: x.inv.Name, Machine: machine, Remote: x.hostA})
	require.NoError(t, err)
	x.a = source
	require.NoError(t, x.a.Check(t.Context()))
	require.NoError(t, x.a.CheckMigration(t.Context(), order.Domain, x.b))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	order.Progress = func(progress hypervisor.Progress) {
		if progress.SentBytes > progress.MemoryBytes/4 {
			cancel()
		}
	}
	_, err = x.a.Migrate(ctx, order)
	require.ErrorIs(t, err, context.Canceled)
	x.stays(t, order.Domain)
}

// moveOnce migrates twice: the guest moves once, and then writes to the target's own image.
func (x *bench) moveOnce(t *testing.T, order hypervisor.Order, own string) {
	t.Helper()
	account, err := x.a.Migrate(t.Context(), order)
	require.NoError(t, err, account.Log)
	t.Logf("%v, %d KiB", account.Duration().Round(100*time.Millisecond), account.StreamBytes>>10)
	assert.Empty(t, x.domains(t, x.a))
	assert.Equal(t, []string{order.Domain.Name}, x.domains(t, x.b))
	x.write(t, "at B")
	assert.Equal(t, "at B", firstLine(t, x.hostB, own))
	again, err := x.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	assert.Zero(t, again.StreamBytes)
}
