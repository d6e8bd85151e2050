package workers

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/ssh"

	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

const inventoryText = `version: 2
name: lab-1
kind: hardware
hypervisor: xen
sites: {a: host-a, b: host-b}
store: store
wan: {host: store, device: eth2}
machines:
  - name: host-a
    ssh: {address: "192.0.2.1:22", user: root, key_file: id, host_keys: ["SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y"]}
    address: 198.18.0.1
    bridge: br0
    data_dir: /var/lib/heliotrope
    transport: tcp
  - name: host-b
    ssh: {address: "192.0.2.2:22", user: root, key_file: id, host_keys: ["SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI"]}
    address: 198.18.0.2
    bridge: br0
    data_dir: /var/lib/heliotrope
    transport: tcp
  - name: store
    ssh: {address: "192.0.2.3:22", user: root, key_file: id, host_keys: ["SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4"]}
    address: 198.18.0.3
    data_dir: /var/lib/heliotrope
guest:
  kernel: /usr/lib/heliotrope/vmlinuz
  ramdisk: /usr/lib/heliotrope/initrd
  memory_mib: 128
  address: 198.18.0.9/24
  mtu: 1500
  ssh: {user: root, key_file: id, host_keys: ["SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y"]}
`

// newInventory writes an inventory and the key that it names.
func newInventory(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write(t, filepath.Join(folder, "id"), string(pem.EncodeToMemory(block)))
	path := filepath.Join(folder, "inventory.yaml")
	write(t, path, inventoryText)
	return path
}

// write puts a new file in the place of an old one.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := renameio.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPoolKeepsConnections: a running activity must not lose its connections because
// somebody rewrote the same inventory.
func TestPoolKeepsConnections(t *testing.T) {
	path := newInventory(t)
	p := &pool{testbeds: map[string]*pooled{}}
	lane := trial.Lane{Name: "lab-1", Kind: inventory.Hardware, Inventory: path}
	first, err := p.open(t.Context(), lane, trial.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, inventoryText)
	if again, err := p.open(t.Context(), lane, trial.Ref{}); err != nil || again != first {
		t.Errorf("the same inventory written again: other connections, %v", err)
	}
	write(t, path, inventoryText+"# the same\n")
	changed, err := p.open(t.Context(), lane, trial.Ref{})
	if err != nil || changed == first {
		t.Errorf("another inventory: the same connections, %v", err)
	}
	write(t, path, "version: 2\n")
	if _, err := p.open(t.Context(), lane, trial.Ref{}); err == nil {
		t.Error("a broken inventory is fine")
	}
	write(t, path, inventoryText+"# the same\n")
	if again, err := p.open(t.Context(), lane, trial.Ref{}); err != nil || again != changed {
		t.Errorf("the inventory is mended: other connections, %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := p.open(t.Context(), lane, trial.Ref{}); wire.Of(err) != fault.Infrastructure {
		t.Errorf("no inventory: %v", err)
	}
}

// TestPoolRevives: parts of an emulated testbed that have died are started before it is
// used; other testbeds are not ours to start.
func TestPoolRevives(t *testing.T) {
	path := newInventory(t)
	var revived []string
	failure := errors.New("no port is free")
	p := &pool{testbeds: map[string]*pooled{}, revive: func(_ context.Context, lane trial.Lane) error {
		revived = append(revived, lane.Name)
		if lane.Name == "broken" {
			return failure
		}
		return nil
	}}
	for _, lane := range []trial.Lane{{Name: "real", Kind: inventory.Hardware}, {Name: "model", Kind: inventory.Simulated},
		{Name: "emulated", Kind: inventory.Emulated}} {
		lane.Inventory = path
		if _, err := p.open(t.Context(), lane, trial.Ref{}); err != nil {
			t.Errorf("%s: %v", lane.Name, err)
		}
	}
	if !slices.Equal(revived, []string{"emulated"}) {
		t.Errorf("revived: %v", revived)
	}
	_, err := p.open(t.Context(), trial.Lane{Name: "broken", Kind: inventory.Emulated, Inventory: path}, trial.Ref{})
	if !errors.Is(err, failure) || wire.Of(err) != fault.Infrastructure {
		t.Errorf("error: %v", err)
	}
}

func TestPoolRefusesFaultsThatMeanNothing(t *testing.T) {
	p := &pool{testbeds: map[string]*pooled{}}
	_, err := p.open(t.Context(), trial.Lane{Kind: inventory.Simulated, Faults: []byte(`"all"`)}, trial.Ref{})
	if wire.Of(err) != fault.BadInput {
		t.Errorf("%v", err)
	}
}
