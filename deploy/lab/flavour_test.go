package lab

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/inventory"
)

// TestFlavours holds what depends on a testbed's hypervisor, and that nothing else does.
func TestFlavours(t *testing.T) {
	for hypervisor, want := range map[string]struct{ kernel, pkg, transport, node string }{
		image.Xen: {"/image/xen", "xen-utils-4.17", "tcp", image.Xen},
		image.KVM: {"/image/node-vmlinux", "libvirt-daemon", "", image.KVM},
		VSphere:   {"/image/node-vmlinux", "libvirt-daemon", "", image.KVM},
	} {
		t.Run(hypervisor, func(t *testing.T) {
			l := testLab(t)
			l.Options.Hypervisor, l.Options.Mirror = hypervisor, "http://archive.example/debian"
			require.NoError(t, l.Options.Check())
			img := image.Image{Dir: "/image"}
			for _, name := range []string{HostA, HostB} {
				assert.Equal(t, want.kernel, argument(nodeArgs(l.node(name), l.Options, img, 0), "-kernel"), name)
			}
			assert.Equal(t, "/image/node-vmlinux", argument(nodeArgs(l.node(Store), l.Options, img, 0), "-kernel"))
			recipe := l.Options.recipe()
			assert.Contains(t, recipe.Packages, want.pkg)
			assert.Contains(t, recipe.Packages, "drbd-utils")
			assert.Equal(t, l.Options.Mirror, recipe.Mirror)

			ring, err := l.keys()
			require.NoError(t, err)
			require.NoError(t, l.writeInventory(ring, map[string]int{HostA: 1, HostB: 2, Store: 3}))
			inv, err := inventory.Load(l.nodesPath())
			require.NoError(t, err)
			assert.Equal(t, want.node, inv.Hypervisor)
			for _, host := range []*inventory.Machine{inv.SiteA(), inv.SiteB()} {
				assert.Equal(t, want.transport, host.Transport)
			}
		})
	}
	xen, _ := image.RecipeOf(image.Xen)
	kvm, _ := image.RecipeOf(image.KVM)
	assert.NotEqual(t, xen.Hash(), kvm.Hash())
	for _, pkg := range kvm.Packages {
		assert.NotContains(t, pkg, "xen")
	}
}

// argument returns the word after a flag.
func argument(args []string, flag string) string {
	return args[slices.Index(args, flag)+1]
}

// saved makes a testbed that has been ready before.
func saved(t *testing.T) (*Lab, UpRequest) {
	t.Helper()
	l := testLab(t)
	l.Options.Accel = AccelTCG
	require.NoError(t, l.save())
	return l, UpRequest{BaseDir: strings.TrimSuffix(l.Dir, "/"+l.Options.Name), Options: l.Options, Progress: func(string) {}}
}

func TestHypervisorNeverChanges(t *testing.T) {
	l, request := saved(t)
	l.Options.Hypervisor, request.Options.Hypervisor = image.KVM, image.KVM
	_, err := l.toStart(context.Background(), request)
	if !errors.Is(err, ErrBadInput) || !strings.Contains(err.Error(), "testbed unit is one of xen, not of kvm") ||
		!strings.Contains(err.Error(), "lab destroy --name unit") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error: %v", err)
	}
}

// TestStateWithoutHypervisorIsXen: such a state is from before there was another hypervisor.
func TestStateWithoutHypervisorIsXen(t *testing.T) {
	l, request := saved(t)
	require.NoError(t, os.WriteFile(l.Dir+"/"+stateFile, []byte(`{"name": "unit"}`), 0o600))
	l, err := Open(request.BaseDir, "unit")
	require.NoError(t, err)
	assert.Equal(t, image.Xen, l.Options.Hypervisor)
}

// TestOnlyWhatIsDownIsStarted: another start never ends a running node, whether that node answers
// or not.
func TestOnlyWhatIsDownIsStarted(t *testing.T) {
	ctx := context.Background()
	l, request := saved(t)
	fakeQEMU(t, l.node(Store))
	fakeQEMU(t, l.node(HostA))
	t.Cleanup(func() { _ = l.stop(ctx, NodeNames) })

	request.Options.Accel = AccelAuto
	l.Options = request.Options
	down, err := l.toStart(ctx, request)
	require.NoError(t, err)
	assert.Equal(t, []string{HostB}, down)
	assert.Equal(t, AccelTCG, l.Options.Accel, "as the others run")
	assert.True(t, l.node(Store).running() && l.node(HostA).running())

	for name, change := range map[string]func(*Options){"MTU": func(o *Options) { o.MTU = 9000 }, "IPv6": func(o *Options) { o.IPv6 = true }} {
		l.Options = request.Options
		change(&l.Options)
		_, err = l.toStart(ctx, request)
		assert.ErrorIs(t, err, ErrBadInput, name)
		assert.ErrorContains(t, err, "runs with other options", name)
	}
	assert.True(t, l.node(Store).running() && l.node(HostA).running())
}

// TestRevivedNodesKeepTheirPorts: inventories that others hold stay valid.
func TestRevivedNodesKeepTheirPorts(t *testing.T) {
	l := testLab(t)
	ring, err := l.keys()
	require.NoError(t, err)
	told := map[string]int{HostA: 4001, HostB: 4002, Store: 4003}
	require.NoError(t, l.writeInventory(ring, told))
	ports, err := l.wantedPorts([]string{HostB})
	require.NoError(t, err)
	assert.Equal(t, told, ports)
	ports, err = l.wantedPorts(NodeNames)
	require.NoError(t, err)
	assert.Zero(t, ports[HostB], "all are new: any port will do")
}

func TestReviveStartsNothingThatWasTakenDown(t *testing.T) {
	ctx := context.Background()
	l, _ := saved(t)
	require.NoError(t, l.Down(ctx))
	err := l.Revive(ctx, image.Cache{Dir: t.TempDir()}, func(text string) { t.Errorf("told: %s", text) })
	assert.ErrorIs(t, err, ErrNotRunning)
	assert.ErrorContains(t, err, "lab up --name unit")
}
