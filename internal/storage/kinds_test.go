package storage_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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
	"heliotrope/internal/storage/nfs"
)

var kinds = []storage.Kind{iscsi.Kind, nfs.Kind, drbd.Kind}

var machines = []string{"host-a", "host-b", "store"}

// newDriver makes a driver of machines that do nothing.
func newDriver(t *testing.T, kind storage.Kind, label string) storage.Driver {
	t.Helper()
	setup := storage.Setup{Inventory: &inventory.Inventory{Name: label}, Machines: map[string]remote.Host{}}
	for i, host := range setup.Inventory.Hosts() {
		*host = inventory.Host{Name: machines[i], Address: netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}), DataDir: "/var/lib/heliotrope"}
		setup.Machines[host.Name] = remotetest.NewFake(t, host.Name)
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

// The texts run on any machine, and what lies in the testbed's own folder is
// known as ours, and as no other testbed's.
func TestLeftovers(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.Name, func(t *testing.T) {
			data := t.TempDir()
			const label = "no-such-testbed"
			for _, of := range []string{label, label + "-2"} {
				file := filepath.Join(data, of, kind.Name, "d0.img")
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
				require.NoError(t, os.WriteFile(file, nil, 0o644))
			}
			driver := newDriver(t, kind, label)
			for _, machine := range machines {
				text := driver.Leftovers(machine)
				if text == "" {
					continue
				}
				var ours []string
				for line := range strings.Lines(run(t, text, label, data)) {
					line = strings.TrimSpace(line)
					found, isOurs := strings.CutPrefix(line, "ours ")
					if !isOurs {
						assert.True(t, strings.HasPrefix(line, "other "), line)
						continue
					}
					ours = append(ours, found)
				}
				folder := filepath.Join(data, label, kind.Name)
				assert.Equal(t, []string{"file " + folder, "file " + folder + "/d0.img"}, ours)
				assert.NotContains(t, run(t, text, label+"-3", data), "ours")
			}
		})
	}
}

func TestVersionsRunAnywhere(t *testing.T) {
	for _, kind := range kinds {
		driver := newDriver(t, kind, "lab")
		for _, machine := range machines {
			for line := range strings.Lines(run(t, driver.Versions(machine))) {
				assert.Len(t, strings.Fields(line), 2, line)
			}
		}
	}
}

// Names of evidence are unique on a machine, whatever storage it is of.
func TestEvidenceHasItsOwnNames(t *testing.T) {
	for _, machine := range machines {
		seen := map[string]string{}
		for _, kind := range kinds {
			for _, item := range newDriver(t, kind, "lab").Evidence(machine) {
				assert.Empty(t, seen[item.File], item.File)
				seen[item.File] = kind.Name
			}
		}
		assert.NotEmpty(t, seen, machine)
	}
}

func TestClassesAreNamedByTheirKind(t *testing.T) {
	for _, kind := range kinds {
		for _, class := range newDriver(t, kind, "lab").Traffic() {
			assert.Equal(t, kind.Name, class.Name)
		}
	}
}
