package storage_test

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/storage/iscsi"
	"heliotrope/internal/storage/mirror"
	"heliotrope/internal/storage/nfs"
)

var kinds = []storage.Kind{iscsi.Kind, nfs.Kind, drbd.Kind}

// privateToo are all kinds, including the one whose sites share nothing.
var privateToo = append(slices.Clone(kinds), mirror.Kind)

var machines = []string{"host-a", "host-b", "store"}

// newDriver makes a driver of machines that do nothing.
func newDriver(t *testing.T, kind storage.Kind, label string) storage.Driver {
	t.Helper()
	setup := storage.Setup{Inventory: &inventory.Inventory{Name: label}, Machines: map[string]remote.Host{}}
	setup.Inventory.Sites, setup.Inventory.StoreName = inventory.Sites{A: machines[0], B: machines[1]}, machines[2]
	for i, name := range machines {
		setup.Inventory.Machines = append(setup.Inventory.Machines,
			inventory.Machine{Name: name, Address: netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}), DataDir: "/var/lib/heliotrope"})
		setup.Machines[name] = remotetest.NewFake(t, name)
	}
	driver, err := kind.New(setup)
	require.NoError(t, err)
	return driver
}

// run runs a driver's text on this machine.
func run(t *testing.T, text string, args ...string) string {
	t.Helper()
	output, err := exec.Command("sh", append([]string{"-c", text, "sh"}, args...)...).Output()
	require.NoError(t, err, "%s", text)
	return string(output)
}

// TestLeftoversRunAnywhere: the scripts run on any machine, and report nothing as
// a testbed's where there is no testbed.
func TestLeftoversRunAnywhere(t *testing.T) {
	for _, kind := range privateToo {
		driver := newDriver(t, kind, "no-such-testbed")
		for _, machine := range machines {
			for line := range strings.Lines(run(t, driver.Leftovers(machine), "no-such-testbed", t.TempDir())) {
				assert.True(t, strings.HasPrefix(line, "other "), line)
			}
		}
		assert.Empty(t, driver.Leftovers("stranger"))
		assert.Empty(t, driver.Evidence("stranger"))
		assert.Empty(t, driver.Versions("stranger"))
	}
}

// TestMachinesWithoutAShell: on machines without a shell there is nothing of
// these systems to remove, and a disk that is asked for there is refused with the
// reason.
func TestMachinesWithoutAShell(t *testing.T) {
	for _, kind := range privateToo {
		inv := &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "a", B: "b"}, StoreName: "store",
			Machines: []inventory.Machine{{Name: "a"}, {Name: "b"}, {Name: "store"}}}
		driver, err := kind.New(storage.Setup{Inventory: inv})
		require.NoError(t, err)
		require.NoError(t, driver.Teardown(t.Context()))
		require.ErrorContains(t, driver.Check(t.Context()), "needs a shell")
		found, err := driver.Sources(t.Context(), "a")
		require.NoError(t, err)
		assert.Empty(t, found)
	}
}

func TestVersionsRunAnywhere(t *testing.T) {
	for _, kind := range privateToo {
		driver := newDriver(t, kind, "lab")
		for _, machine := range machines {
			for line := range strings.Lines(run(t, driver.Versions(machine))) {
				assert.Len(t, strings.Fields(line), 2, line)
			}
		}
	}
}

// TestEvidenceHasItsOwnNames: names of evidence are unique on a machine,
// whichever storage systems they are of.
func TestEvidenceHasItsOwnNames(t *testing.T) {
	for _, machine := range machines {
		seen := map[string]string{}
		for _, kind := range privateToo {
			for _, item := range newDriver(t, kind, "lab").Evidence(machine) {
				assert.Empty(t, seen[item.File], item.File)
				seen[item.File] = kind.Name
			}
		}
		assert.NotEmpty(t, seen, machine)
	}
}

func TestClassesAreNamedByTheirKind(t *testing.T) {
	for _, kind := range privateToo {
		for _, class := range newDriver(t, kind, "lab").Traffic() {
			assert.Equal(t, kind.Name, class.Name)
		}
	}
}
