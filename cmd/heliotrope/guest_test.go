package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/inventory"
)

// TestGuestBuildBadInput: every problem of the keys at once, and nothing is made.
func TestGuestBuildBadInput(t *testing.T) {
	t.Chdir(t.TempDir())
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	require.NoError(t, os.WriteFile("good.pub", []byte(key+"\n"), 0o600))
	require.NoError(t, os.WriteFile("id", []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"), 0o600))
	require.NoError(t, os.Mkdir("there", 0o700))
	for name, of := range map[string]struct {
		args []string
		want []string
	}{
		"no key":      {nil, []string{"--key is missing"}},
		"wrong files": {[]string{"--key", "id", "--key", "none.pub", "--key", "good.pub"}, []string{"id: it holds a private key", "open none.pub: no such file"}},
		"a folder":    {[]string{"--key", "good.pub", "--out", "there"}, []string{"there is there already"}},
		"no folder":   {[]string{"--key", "good.pub", "--out", "absent/guest"}, []string{"no such file or directory"}},
		"an argument": {[]string{"--key", "good.pub", "guest"}, []string{"unknown command"}},
		"no address":  {[]string{"--ova", "--key", "id"}, []string{"id: it holds a private key", "--address is missing"}},
		"a network":   {[]string{"--ova", "--key", "good.pub", "--address", "198.18.0.0/24", "--mtu", "9"}, []string{"198.18.0.0/24 is not the address of one host", "MTU 9: want 576 to 9216"}},
		"no length":   {[]string{"--ova", "--key", "good.pub", "--address", "198.18.0.9"}, []string{`--address "198.18.0.9": want an address with`}},
		"link-local":  {[]string{"--ova", "--key", "good.pub", "--address", "fe80::9/64", "--mtu", "1000"}, []string{"fe80::9/64 is not the address", "MTU 1000: want 1280 to 9216"}},
		"no OVA":      {[]string{"--key", "good.pub", "--address", "198.18.0.9/24"}, []string{"--address and --mtu are for --ova"}},
		"an OVA":      {[]string{"--ova", "--key", "good.pub", "--address", "198.18.0.9/24", "--out", "there"}, []string{"there is there already"}},
	} {
		code, stdout, stderr := run(t, append([]string{"guest", "build"}, of.args...)...)
		require.Equal(t, exitBadInput, code, name+": "+stderr)
		require.Empty(t, stdout, name)
		for _, want := range of.want {
			require.Contains(t, stderr, want, name)
		}
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Len(t, entries, 3)
}

// TestGuestSettings: what is printed for the inventory is what an inventory takes.
func TestGuestSettings(t *testing.T) {
	good, err := os.ReadFile(goodInventory)
	require.NoError(t, err)
	before, _, found := strings.Cut(string(good), "\nguest:\n")
	require.True(t, found)
	const hostKey = "SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y"
	folder := t.TempDir()
	for key, want := range map[string]string{"/keys/lab.pub": "/keys/lab", "/keys/all": filepath.Join(folder, "keys/id")} {
		g := guestBuild{keys: []string{key}}
		inv, err := inventory.Parse([]byte(before+"\n"+g.settings(image.Guest{HostKey: hostKey})), filepath.Join(folder, "lab.yaml"))
		require.NoError(t, err)
		require.Equal(t, []string{hostKey}, inv.Guest.SSH.HostKeys)
		require.Equal(t, want, inv.Guest.SSH.KeyFile)
		require.Equal(t, "/usr/local/lib/heliotrope/guest-vmlinux", inv.Guest.Kernel)
	}
}

// TestTemplateSettings: what is printed for an OVA is what an inventory of vSphere takes.
func TestTemplateSettings(t *testing.T) {
	text, err := os.ReadFile("../../internal/inventory/testdata/shellless.yaml")
	require.NoError(t, err)
	before, _, found := strings.Cut(string(text), "\nguest:\n")
	require.True(t, found)
	g := guestBuild{keys: []string{"/keys/lab.pub"}}
	built := image.Guest{HostKey: "SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y", Address: netip.MustParsePrefix("198.18.0.9/24"), MTU: 1400}
	inv, err := inventory.Parse([]byte(before+"\n"+g.templateSettings(built)), filepath.Join(t.TempDir(), "lab.yaml"))
	require.NoError(t, err)
	require.Empty(t, inv.Guest.Kernel)
	require.Equal(t, built.Address, inv.Guest.Address)
	require.Equal(t, 1400, inv.Guest.MTU)
	require.Equal(t, image.OVAMemoryMiB, inv.Guest.MemoryMiB)
	require.Equal(t, "/keys/lab", inv.Guest.SSH.KeyFile)
}
