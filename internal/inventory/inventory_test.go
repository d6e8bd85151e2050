package inventory

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/strict"
)

func good(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLoadGood(t *testing.T) {
	inventory, err := Load("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := inventory.SiteA().SSH.KeyFile, filepath.Join(folder, "keys/id"); got != want {
		t.Errorf("relative key file: got %s, want %s", got, want)
	}
	if got, want := inventory.SiteB().SSH.KeyFile, "/etc/heliotrope/id"; got != want {
		t.Errorf("absolute key file: got %s, want %s", got, want)
	}
	if got, want := inventory.Guest.SSH.KeyFile, filepath.Join(folder, "keys/id"); got != want {
		t.Errorf("guest's key file: got %s, want %s", got, want)
	}
	if got, want := inventory.Guest.Address, netip.MustParsePrefix("198.18.0.9/24"); got != want {
		t.Errorf("guest's address: got %s, want %s", got, want)
	}
	for name, host := range map[string]*Machine{"host-a": inventory.SiteA(), "host-b": inventory.SiteB(), "store": inventory.Store()} {
		if host == nil || host.Name != name || host != inventory.Machine(name) || inventory.IsSite(name) != (name != "store") {
			t.Errorf("%s: got %+v", name, host)
		}
	}
	if host := inventory.Machine(inventory.WAN.Host); host == nil || host != inventory.Store() {
		t.Errorf("WAN host: got %v", host)
	}
	if host := inventory.Machine("nowhere"); host != nil {
		t.Errorf("a host that is not there: got %v", host)
	}
	if inventory.Kind != Hardware || inventory.Hypervisor != "xen" || inventory.SiteB().Transport != "ssh" || len(inventory.SiteA().SSH.HostKeys) != 2 {
		t.Errorf("unexpected content: %+v", inventory)
	}
}

// requireSaved: what is saved is read back the same.
func requireSaved(t *testing.T, inventory *Inventory) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "saved.yaml")
	require.NoError(t, inventory.Save(path))
	again, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, inventory, again)
}

func parse(t *testing.T, text string) *Inventory {
	t.Helper()
	inventory, err := Parse([]byte(text), "x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return inventory
}

// with is the good file with some lines put in behind others.
func with(t *testing.T, pairs ...string) string {
	t.Helper()
	text := good(t)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]+"\n") {
			t.Fatalf("the good file has no line %q", pairs[i])
		}
		text = strings.Replace(text, pairs[i]+"\n", pairs[i]+"\n"+pairs[i+1]+"\n", 1)
	}
	return text
}

// TestMode sets the mode of the testbed, of site A and of the guest; one that has
// no mode of its own gets the testbed's.
func TestMode(t *testing.T) {
	const kind, siteA, guest = "kind: hardware", "  - name: host-a", "guest:"
	for _, test := range []struct {
		name                         string
		set                          []string
		testbed, siteA, siteB, guest string
	}{
		{"left out", nil, Workers, Workers, Workers, Workers},
		{"workers", []string{kind, "mode: workers"}, Workers, Workers, Workers, Workers},
		{"agentless", []string{kind, "mode: agentless"}, Agentless, Agentless, Agentless, Agentless},
		{"a machine", []string{siteA, "    mode: agentless"}, Workers, Agentless, Workers, Workers},
		{"the guest", []string{guest, "  mode: agentless"}, Workers, Workers, Workers, Agentless},
		{"all but a machine and the guest", []string{kind, "mode: agentless", siteA, "    mode: workers", guest, "  mode: workers"},
			Agentless, Workers, Agentless, Workers},
	} {
		t.Run(test.name, func(t *testing.T) {
			inventory := parse(t, with(t, test.set...))
			got := []string{inventory.Mode, inventory.SiteA().Mode, inventory.SiteB().Mode, inventory.Guest.Mode}
			if want := []string{test.testbed, test.siteA, test.siteB, test.guest}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// spare is a machine that is neither a site's host nor the storage server: it
// need not be able to do anything.
func spare(t *testing.T) string {
	t.Helper()
	const store = "  - name: store\n"
	entry, _, _ := strings.Cut(good(t)[strings.Index(good(t), store):], "guest:\n")
	entry = strings.NewReplacer("name: store", "name: spare", "store.example.net", "spare.example.net", "198.18.0.3", "198.18.0.7").Replace(entry)
	return strings.Replace(good(t), store, entry+store, 1)
}

func TestCapabilities(t *testing.T) {
	const name = "  - name: spare"
	for _, test := range []struct {
		lines string
		can   CapabilityList // the list
		has   CapabilityList // what the machine has by it
	}{
		{"", Capabilities, Capabilities},
		{"    can: []\n", CapabilityList{}, nil},
		{"    can: [shell, counters]\n", CapabilityList{Shell, Counters}, CapabilityList{Shell, Counters}},
		{"    mode: agentless\n", Capabilities, CapabilityList{Shell, Witness, Clock, Beats, Counters}},
		{"    mode: agentless\n    can: [shell, worker]\n", CapabilityList{Shell, Worker}, CapabilityList{Shell}},
	} {
		t.Run(test.lines, func(t *testing.T) {
			inventory := parse(t, strings.Replace(spare(t), name+"\n", name+"\n"+test.lines, 1))
			host := inventory.Machine("spare")
			if !reflect.DeepEqual(host.Can, test.can) {
				t.Errorf("got %q, want %q", host.Can, test.can)
			}
			for _, capability := range Capabilities {
				if got, want := host.Has(capability), slices.Contains(test.has, capability); got != want {
					t.Errorf("has %s: got %t, want %t", capability, got, want)
				}
			}
			if other := inventory.SiteB(); !reflect.DeepEqual(other.Can, Capabilities) {
				t.Errorf("the other site's: %q", other.Can)
			}
		})
	}
}

// TestNeededCapabilities: a machine must have the capabilities that a trial needs
// in its role.
func TestNeededCapabilities(t *testing.T) {
	for set, want := range map[[2]string]string{
		{"  - name: host-b", "    can: [shell, witness, clock, counters]"}: `machines[1].can: has no "beats": the machine host-b must have it where it stands in the testbed`,
		{"  - name: store", "    can: []"}:                                 `machines[2].can: has no "shell": the machine store must have it where it stands in the testbed`,
	} {
		_, err := Parse([]byte(with(t, set[0], set[1])), "x.yaml")
		if err == nil || !strings.HasSuffix(err.Error(), want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// TestSaveAndLoad saves what was loaded, with and without settings that a file
// may leave out: it comes back as it was.
func TestSaveAndLoad(t *testing.T) {
	for name, text := range map[string]string{
		"defaults": good(t),
		"all settings": with(t, "kind: hardware", "mode: agentless", "  - name: host-a", "    can: [shell, witness, clock, beats, counters]\n    mode: workers",
			"  - name: store", "    can: [shell, counters]", "guest:", "  mode: workers\n  disk: /dev/vda\n  nic: eth0\n  console: ttyS0",
			"  mtu: 1500", "  native_tsc: true\n  heartbeat_ms: 100"),
	} {
		t.Run(name, func(t *testing.T) {
			want := parse(t, text)
			path := filepath.Join(t.TempDir(), "inventory.yaml")
			for range 2 { // the second replaces the first
				if err := want.Save(path); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(entries) != 1 {
				t.Errorf("files beside the inventory: %v, %v", entries, err)
			}
		})
	}
}

// TestSaveLeavesOutWhatIsNotSet saves an inventory that was put together by a
// program, as the emulated testbed's: what it did not set has its default when
// it is loaded.
func TestSaveLeavesOutWhatIsNotSet(t *testing.T) {
	inventory := parse(t, good(t))
	inventory.Mode, inventory.Guest.Mode = "", ""
	for i := range inventory.Machines {
		inventory.Machines[i].Can, inventory.Machines[i].Mode = nil, ""
	}
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	if err := inventory.Save(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(data), "can:") || strings.Contains(string(data), "mode:") {
		t.Errorf("saved %v:\n%s", err, data)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := parse(t, good(t)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSaveKeepsRelativeKeyFile(t *testing.T) {
	inventory, err := Load("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inventory.SiteA().SSH.KeyFile = "keys/id"
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	if err := inventory.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := loaded.SiteA().SSH.KeyFile, filepath.Join(filepath.Dir(path), "keys/id"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSaveRefusesWhatLoadWouldRefuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	var invalid *strict.Error
	if err := (&Inventory{Version: 1}).Save(path); !errors.As(err, &invalid) {
		t.Errorf("got %v, want a *strict.Error", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused inventory was written: %v", err)
	}
}

func TestLoadMissingFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// TestBadFields changes one thing at a time in the good file. A new text of ""
// drops the line.
func TestBadFields(t *testing.T) {
	text := good(t)
	machines := text[strings.Index(text, "machines:\n"):strings.Index(text, "guest:\n")]
	tests := []struct {
		name     string
		old, new string
		want     string
	}{
		{"version missing", "version: 2\n", "", `2:1: version: is missing`},
		{"version before this one", "version: 2", "version: 1", `2:10: version: 1 is not understood: want 2`},
		{"version no number", "version: 2", "version: one", `2:10: version: "one" is not a whole number`},
		{"version quoted", "version: 2", `version: "1"`, `2:10: version: "1" is not a whole number`},
		{"version too big", "version: 2", "version: 0x10", `2:10: version: "0x10" is not a whole number`},
		{"name missing", "name: lab-1\n", "", `2:1: name: is missing`},
		{"name null", "name: lab-1", "name:", `3:6: name: has no value`},
		{"name number", "name: lab-1", "name: 17", `3:7: name: want text, not a number: write "17" in quotes`},
		{"name boolean", "name: lab-1", "name: true", `3:7: name: want text, not true or false: write "true" in quotes`},
		{"name upper case", "name: lab-1", "name: Lab", `3:7: name: "Lab" is no label: want 1 to 16 of a-z, 0-9 and -, not beginning with -`},
		{"name with a dash first", "name: lab-1", "name: -x", `3:7: name: "-x" is no label: want 1 to 16 of a-z, 0-9 and -, not beginning with -`},
		{"name too long", "name: lab-1", "name: abcdefghijklmnopq", `3:7: name: "abcdefghijklmnopq" is no label: want 1 to 16 of a-z, 0-9 and -, not beginning with -`},
		{"name with a line break", "name: lab-1", `name: "a\nb"`, `3:7: name: "a\nb" is no label: want 1 to 16 of a-z, 0-9 and -, not beginning with -`},
		{"name list", "name: lab-1", "name: [a]", `3:7: name: want text, not a list`},
		{"name mapping", "name: lab-1", "name: {a: b}", `3:7: name: want text, not a mapping`},
		{"name twice", "name: lab-1", "name: lab-1\nname: lab-2", `4:1: name: is given twice`},
		{"nobody behind", "kind: hardware", "kind: vcenter-simulator", "2:1: behind: is missing"},
		{"somebody behind", "kind: hardware", "kind: hardware\nbehind: kvm", "5:9: behind: is for the kind vcenter-simulator only"},
		{"a bad name behind", "kind: hardware", "kind: vcenter-simulator\nbehind: K V M", `5:9: behind: "K V M" is no hypervisor's name: want that of the nodes behind the simulator, 1 to 16 of a-z, 0-9 and -, beginning with a letter`},
		{"kind", "kind: hardware", "kind: virtual", `4:7: kind: "virtual" is no kind of a testbed: want one of emulated, hardware, vcenter-simulator`},
		{"mode", "kind: hardware", "kind: hardware\nmode: magic", `5:7: mode: "magic" is neither workers nor agentless`},
		{"unknown at the top", "kind: hardware", "kind: hardware\nkinds: hardware", `5:1: kinds: unknown setting (known: version, name, kind, mode, hypervisor, behind, sites, store, wan, machines, bastions, ssh_config, vcenters, mounts, guest)`},
		{"unknown with a space", "kind: hardware", "kind: hardware\na b: c", `5:1: "a b": unknown setting (known: version, name, kind, mode, hypervisor, behind, sites, store, wan, machines, bastions, ssh_config, vcenters, mounts, guest)`},
		{"unknown below", "      user: root\n      key_file: keys/id\n      host_keys:\n", "      user: root\n      password: x\n      key_file: keys/id\n      host_keys:\n",
			`18:7: machines[0].ssh.password: unknown setting (known: alias, address, via, user, key_file, host_keys, known_hosts, become, sudo_password_from)`},
		{"host name", "name: host-a", "name: host_a", `7:6: sites.a: "host-a" is none of the machines host_a, host-b, store` +
			"\ninventory.yaml:" + `14:11: machines[0].name: "host_a" is no host name: want 1 to 63 of a-z, 0-9 and -, not beginning with -`},
		{"host name missing", "  - name: host-a\n    ssh:", "  - ssh:", `7:6: sites.a: "host-a" is none of the machines host-b, store` +
			"\ninventory.yaml:14:5: machines[0].name: is missing"},
		{"host name twice", "name: host-b", "name: host-a", `8:6: sites.b: "host-b" is none of the machines host-a, host-a, store` +
			"\ninventory.yaml:" + `26:11: machines[1].name: "host-a" is machines[0]'s already`},
		{"hypervisor missing", "hypervisor: xen\n", "", `2:1: hypervisor: is missing`},
		{"hypervisor upper case", "hypervisor: xen", "hypervisor: Xen", `5:13: hypervisor: "Xen" is no hypervisor's name: want 1 to 16 of a-z, 0-9 and -, beginning with a letter`},
		{"hypervisor number", "hypervisor: xen", "hypervisor: 4", `5:13: hypervisor: want text, not a number: write "4" in quotes`},
		{"hypervisor of a machine", "transport: tcp", "hypervisor: xen", `25:5: machines[0].hypervisor: unknown setting (known: name, can, mode, ssh, address, bridge, data_dir, transport, vcenter)`},
		{"sites missing", "sites:\n  a: host-a\n  b: host-b\n", "", `2:1: sites: is missing`},
		{"sites text", "sites:\n  a: host-a\n  b: host-b\n", "sites: host-a\n", `6:8: sites: want a mapping of settings`},
		{"site missing", "  b: host-b\n", "", `7:3: sites.b: is missing`},
		{"site unknown", "a: host-a", "a: host-x", `7:6: sites.a: "host-x" is none of the machines host-a, host-b, store`},
		{"site empty", "a: host-a", `a: ""`, `7:6: sites.a: "" is none of the machines host-a, host-b, store`},
		{"sites unknown", "a: host-a\n  b: host-b", "a: host-x\n  b: host-x", `7:6: sites.a: "host-x" is none of the machines host-a, host-b, store` +
			"\ninventory.yaml:" + `8:6: sites.b: "host-x" is none of the machines host-a, host-b, store`},
		{"sites the same", "b: host-b", "b: host-a", `8:6: sites.b: "host-a" is site a already: a guest migrates between two machines`},
		{"store unknown", "store: store", "store: nas", `9:8: store: "nas" is none of the machines host-a, host-b, store`},
		{"store a site", "store: store", "store: host-b", `9:8: store: "host-b" is a site: the storage server is a machine of its own`},
		{"store a mapping", "store: store\n", "store:\n  name: store\n", `10:3: store: want text, not a mapping`},
		{"machines missing", machines, "", `2:1: machines: is missing`},
		{"machines empty", machines, "machines: []\n", `13:11: machines: is empty: want the sites' hosts and the storage server`},
		{"machines a mapping", machines, "machines: {name: host-a}\n", `13:11: machines: want a list`},
		{"machine text", "  - name: host-a\n    ssh:", "  - host-a\n  - name: host-a\n    ssh:", `14:5: machines[0]: want a mapping of settings`},
		{"capability unknown", "  - name: store\n", "  - name: store\n    can: [shell, fly]\n", `37:18: machines[2].can[1]: "fly" is no capability: want some of shell, worker, witness, clock, beats, counters`},
		{"capability twice", "  - name: store\n", "  - name: store\n    can: [shell, clock, shell]\n", `37:25: machines[2].can[2]: "shell" is given twice`},
		{"capabilities without a shell", "  - name: store\n", "  - name: store\n    can: [clock, beats]\n", `37:10: machines[2].can: has no "shell": the others need it`},
		{"capability mistyped", "  - name: store\n", "  - name: store\n    can: [Shell, clock]\n", `37:11: machines[2].can[0]: "Shell" is no capability: want some of shell, worker, witness, clock, beats, counters`},
		{"capabilities text", "  - name: store\n", "  - name: store\n    can: shell\n", `37:10: machines[2].can: want a list`},
		{"capabilities without a value", "  - name: store\n", "  - name: store\n    can:\n", `37:9: machines[2].can: has no value`},
		{"mode of a machine", "  - name: store\n", "  - name: store\n    mode: none\n", `37:11: machines[2].mode: "none" is neither workers nor agentless`},
		{"ssh address without port", "192.0.2.1:22", "192.0.2.1", `16:16: machines[0].ssh.address: "192.0.2.1" is not host:port`},
		{"ssh address without host", "192.0.2.1:22", ":22", `16:16: machines[0].ssh.address: ":22" is not host:port`},
		{"ssh port zero", "192.0.2.1:22", "192.0.2.1:0", `16:16: machines[0].ssh.address: "192.0.2.1:0" is not host:port`},
		{"ssh port too big", "192.0.2.1:22", "192.0.2.1:65536", `16:16: machines[0].ssh.address: "192.0.2.1:65536" is not host:port`},
		{"ssh port no number", "192.0.2.1:22", "192.0.2.1:ssh", `16:16: machines[0].ssh.address: "192.0.2.1:ssh" is not host:port`},
		{"ssh user in the address", "192.0.2.1:22", "root@192.0.2.1:22", `16:16: machines[0].ssh.address: "root@192.0.2.1:22" is not host:port`},
		{"ssh address twice", "store.example.net:22", "192.0.2.1:22", `38:16: machines[2].ssh.address: "192.0.2.1:22" is machines[0]'s already`},
		{"ssh user", "address: 192.0.2.1:22\n      user: root", "address: 192.0.2.1:22\n      user: ro ot", `17:13: machines[0].ssh.user: "ro ot" is no user name`},
		{"key file empty", "key_file: /etc/heliotrope/id", `key_file: ""`, `30:17: machines[1].ssh.key_file: "" is no path (~ is not understood)`},
		{"key file of home", "key_file: /etc/heliotrope/id", `key_file: ~/.ssh/id`, `30:17: machines[1].ssh.key_file: "~/.ssh/id" is no path (~ is not understood)`},
		{"host keys missing", "      host_keys: [SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI]\n", "", `28:7: machines[1].ssh.host_keys: is missing`},
		{"host keys empty", "[SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4]", "[]", `41:18: machines[2].ssh.host_keys: is empty: want at least one fingerprint, as ssh-keygen -l prints it`},
		{"host keys text", "[SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4]", "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4", `41:18: machines[2].ssh.host_keys: want a list`},
		{"host key MD5", "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4", "MD5:00", `41:19: machines[2].ssh.host_keys[0]: "MD5:00" is no fingerprint as ssh-keygen -l prints it: SHA256: and 43 characters`},
		{"host key too short", "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4", "SHA256:FYZC", `41:19: machines[2].ssh.host_keys[0]: "SHA256:FYZC" is no fingerprint as ssh-keygen -l prints it: SHA256: and 43 characters`},
		{"host key twice", "      - SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI", "      - SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y", `21:11: machines[0].ssh.host_keys[1]: "SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y" is given twice`},
		{"host key number", "      - SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI", "      - 5", `21:11: machines[0].ssh.host_keys[1]: want text, not a number: write "5" in quotes`},
		{"address", "address: 198.18.0.1\n", "address: 198.18.0.256\n", `22:14: machines[0].address: "198.18.0.256" is not an IP address`},
		{"address name", "address: 198.18.0.1\n", "address: host-a\n", `22:14: machines[0].address: "host-a" is not an IP address`},
		{"address list", "address: 198.18.0.1\n", "address: []\n", `22:14: machines[0].address: want an IP address, not a list`},
		{"address multicast", "address: 198.18.0.1\n", "address: 224.0.0.1\n", `22:14: machines[0].address: 224.0.0.1 is not the address of one host`},
		{"address of another family", "address: 198.18.0.1\n", "address: 2001:db8::1\n", `22:14: machines[0].address: 2001:db8::1 is IPv6, and guest.address is IPv4: want one of the two for the whole test network`},
		{"address IPv4 in IPv6", "address: 198.18.0.1\n", "address: ::ffff:198.18.0.1\n", `22:14: machines[0].address: ::ffff:198.18.0.1 is an IPv4 address written as IPv6: want 198.18.0.1`},
		{"address link-local", "address: 198.18.0.1\n", "address: fe80::1%br0\n", `22:14: machines[0].address: fe80::1%br0 is link-local, and means nothing without the name of an interface: want a global address or a unique local one, such as fd00::1`},
		{"address with a zone", "address: 198.18.0.1\n", "address: fd00::1%br0\n", `22:14: machines[0].address: fd00::1%br0 has a zone, the name of an interface on one machine: want an address that is the same on all machines`},
		{"address in brackets", "address: 198.18.0.1\n", "address: '[fd00::1]'\n", `22:14: machines[0].address: "[fd00::1]" is not an IP address`},
		{"address in another network", "address: 198.18.0.1\n", "address: 198.18.1.1\n", `48:12: guest.address: 198.18.0.9/24 is not in one network with machines[0].address 198.18.1.1`},
		{"address twice", "address: 198.18.0.2\n", "address: 198.18.0.1\n", `32:14: machines[1].address: "198.18.0.1" is machines[0]'s already`},
		{"bridge missing", "    bridge: br0\n    data_dir: /var/lib/heliotrope\n    transport: tcp", "    data_dir: /var/lib/heliotrope\n    transport: tcp", `14:5: machines[0].bridge: is missing`},
		{"bridge too long", "    bridge: br0\n    data_dir: /var/lib/heliotrope\n    transport: tcp", "    bridge: br012345678901234\n    data_dir: /var/lib/heliotrope\n    transport: tcp", `23:13: machines[0].bridge: "br012345678901234" is no name of a network interface`},
		{"bridge of the store", "    address: 198.18.0.3\n", "    address: 198.18.0.3\n    bridge: br0\n", `43:13: machines[2].bridge: "br0" is for the sites' hosts only`},
		{"data folder relative", "    data_dir: /var/lib/heliotrope\nguest", "    data_dir: var\nguest", `43:15: machines[2].data_dir: "var" is not a plain absolute path of a-z, A-Z, 0-9, _, . and -`},
		{"data folder root", "    data_dir: /var/lib/heliotrope\nguest", "    data_dir: /\nguest", `43:15: machines[2].data_dir: "/" is not a plain absolute path of a-z, A-Z, 0-9, _, . and -`},
		{"data folder with a sed expression", "    data_dir: /var/lib/heliotrope\nguest", "    data_dir: '/srv|.*'\nguest", `43:15: machines[2].data_dir: "/srv|.*" is not a plain absolute path of a-z, A-Z, 0-9, _, . and -`},
		{"data folder with a blank", "    data_dir: /var/lib/heliotrope\nguest", "    data_dir: /srv/a b\nguest", `43:15: machines[2].data_dir: "/srv/a b" is not a plain absolute path of a-z, A-Z, 0-9, _, . and -`},
		{"data folder with dots", "    data_dir: /var/lib/heliotrope\nguest", "    data_dir: /var/../etc\nguest", `43:15: machines[2].data_dir: "/var/../etc" is not a plain absolute path of a-z, A-Z, 0-9, _, . and -`},
		{"transport", "transport: tcp", "transport: udp", `25:16: machines[0].transport: "udp" is neither tcp nor ssh`},
		{"transport of the store", "    address: 198.18.0.3\n", "    address: 198.18.0.3\n    transport: tcp\n", `43:16: machines[2].transport: "tcp" is for the sites' hosts only`},
		{"WAN host", "host: store", "host: router", `11:9: wan.host: "router" is none of the machines host-a, host-b, store`},
		{"WAN device", "device: eth2", "device: eth 2", `12:11: wan.device: "eth 2" is no name of a network interface`},
		{"WAN device an option", "device: eth2", "device: -all", `12:11: wan.device: "-all" is no name of a network interface`},
		{"mode of the guest", "guest:\n", "guest:\n  mode: none\n", `45:9: guest.mode: "none" is neither workers nor agentless`},
		{"guest disk without a folder", "guest:\n", "guest:\n  disk: vda\n", `45:9: guest.disk: "vda" is no path of a disk, such as /dev/vda`},
		{"guest disk in a folder", "guest:\n", "guest:\n  disk: /dev/disk/vda\n", `45:9: guest.disk: "/dev/disk/vda" is no path of a disk, such as /dev/vda`},
		{"guest disk without a name", "guest:\n", "guest:\n  disk: /dev/\n", `45:9: guest.disk: "/dev/" is no path of a disk, such as /dev/vda`},
		{"guest NIC", "guest:\n", "guest:\n  nic: eth 0\n", `45:8: guest.nic: "eth 0" is no name of a network interface`},
		{"guest console a path", "guest:\n", "guest:\n  console: /dev/ttyS0\n", `45:12: guest.console: "/dev/ttyS0" is no name of a console, such as ttyS0`},
		{"guest console with a speed", "guest:\n", "guest:\n  console: ttyS0,9600\n", `45:12: guest.console: "ttyS0,9600" is no name of a console, such as ttyS0`},
		{"guest kernel", "kernel: /usr/lib/heliotrope/vmlinuz", "kernel: vmlinuz", `45:11: guest.kernel: "vmlinuz" is not a plain absolute path`},
		{"guest ramdisk", "ramdisk: /usr/lib/heliotrope/initrd", "ramdisk: ''", `46:12: guest.ramdisk: "" is not a plain absolute path`},
		{"guest memory zero", "memory_mib: 128", "memory_mib: 0", `47:15: guest.memory_mib: 0 MiB: want 1 to 1048576`},
		{"guest memory negative", "memory_mib: 128", "memory_mib: -5", `47:15: guest.memory_mib: -5 MiB: want 1 to 1048576`},
		{"guest memory in bytes", "memory_mib: 128", "memory_mib: 134217728", `47:15: guest.memory_mib: 134217728 MiB: want 1 to 1048576`},
		{"guest memory with unit", "memory_mib: 128", "memory_mib: 128M", `47:15: guest.memory_mib: "128M" is not a whole number`},
		{"guest address without length", "198.18.0.9/24", "198.18.0.9", `48:12: guest.address: "198.18.0.9" is not an IP address with the length of its network, such as 198.18.0.9/24`},
		{"guest address is a network", "198.18.0.9/24", "198.18.0.0/24", `48:12: guest.address: 198.18.0.0/24 is not the address of one host`},
		{"guest address taken", "198.18.0.9/24", "198.18.0.2/24", `48:12: guest.address: 198.18.0.2 is machines[1]'s already`},
		{"guest address of another family", "198.18.0.9/24", "2001:db8::9/64", strings.Join([]string{
			`22:14: machines[0].address: 198.18.0.1 is IPv4, and guest.address is IPv6: want one of the two for the whole test network`,
			`inventory.yaml:32:14: machines[1].address: 198.18.0.2 is IPv4, and guest.address is IPv6: want one of the two for the whole test network`,
			`inventory.yaml:42:14: machines[2].address: 198.18.0.3 is IPv4, and guest.address is IPv6: want one of the two for the whole test network`}, "\n")},
		{"guest address IPv4 in IPv6", "198.18.0.9/24", "::ffff:198.18.0.9/120", `48:12: guest.address: ::ffff:198.18.0.9 is an IPv4 address written as IPv6: want 198.18.0.9`},
		{"guest address with a zone", "198.18.0.9/24", "fd00::9%br0/64", `48:12: guest.address: "fd00::9%br0/64" is not an IP address with the length of its network, such as 198.18.0.9/24`},
		{"guest address loopback", "198.18.0.9/24", "127.0.0.1/8", `48:12: guest.address: 127.0.0.1 is not the address of one host`},
		{"guest network too small", "198.18.0.9/24", "198.18.0.2/31", `48:12: guest.address: 198.18.0.2/31 is not the address of one host`},
		{"MTU too small", "mtu: 1500", "mtu: 575", `49:8: guest.mtu: 575: want 576 to 9216`},
		{"a clock that is no truth value", "mtu: 1500", "mtu: 1500\n  native_tsc: maybe", `50:15: guest.native_tsc: "maybe" is not true or false`},
		{"heartbeats too seldom", "mtu: 1500", "mtu: 1500\n  heartbeat_ms: 101", `50:17: guest.heartbeat_ms: 101: want 1 to 100`},
		{"heartbeats at no interval", "mtu: 1500", "mtu: 1500\n  heartbeat_ms: 0", `50:17: guest.heartbeat_ms: 0: want 1 to 100`},
		{"MTU too big", "mtu: 1500", "mtu: 9217", `49:8: guest.mtu: 9217: want 576 to 9216`},
		{"alias", "kind: hardware", "kind: &k hardware", `4:7: kind: anchors and aliases are not understood here`},
		{"second document", "    host_keys: [SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y]", "    host_keys: [SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y]\n---\nversion: 2", `54:1: the file holds more than one document`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(text, test.old) {
				t.Fatalf("the good file has no %q", test.old)
			}
			inventory, err := Parse([]byte(strings.Replace(text, test.old, test.new, 1)), "inventory.yaml")
			var invalid *strict.Error
			if !errors.As(err, &invalid) || inventory != nil {
				t.Fatalf("got %v, %v, want a *strict.Error", inventory, err)
			}
			if got := invalid.Error(); got != "inventory.yaml:"+test.want {
				t.Errorf("got  %s\nwant inventory.yaml:%s", got, test.want)
			}
		})
	}
}

func TestNotYAML(t *testing.T) {
	for text, want := range map[string]string{
		"":             "x.yaml:1:1: the file is empty",
		"# nothing\n":  "x.yaml:1:1: the file is empty",
		"just text":    "x.yaml:1:1: want a mapping of settings",
		"- a\n- b":     "x.yaml:1:1: want a mapping of settings",
		"a: b\n c: d}": "x.yaml:2:1: not YAML: mapping values are not allowed in this context",
		"a: \x00":      "x.yaml:1:1: not YAML: control characters are not allowed",
		"~":            "x.yaml:1:1: has no value",
	} {
		if _, err := Parse([]byte(text), "x.yaml"); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	text := good(t)
	for _, change := range [][2]string{
		{"name: lab-1", "name: LAB"}, {"192.0.2.1:22", "foo"}, {"transport: ssh", "transport: http"},
		{"host: store", "host: nowhere"}, {"mtu: 1500", "mtu: 1"},
	} {
		text = strings.Replace(text, change[0], change[1], 1)
	}
	_, err := Parse([]byte(text+"surplus: 1\n"), "inventory.yaml")
	want := `inventory.yaml:3:7: name: "LAB" is no label: want 1 to 16 of a-z, 0-9 and -, not beginning with -
inventory.yaml:11:9: wan.host: "nowhere" is none of the machines host-a, host-b, store
inventory.yaml:16:16: machines[0].ssh.address: "foo" is not host:port
inventory.yaml:35:16: machines[1].transport: "http" is neither tcp nor ssh
inventory.yaml:49:8: guest.mtu: 1: want 576 to 9216
inventory.yaml:54:1: surplus: unknown setting (known: version, name, kind, mode, hypervisor, behind, sites, store, wan, machines, bastions, ssh_config, vcenters, mounts, guest)`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestEverySettingIsNeeded drops each setting in turn: each must be reported as
// missing, except the transport.
func TestEverySettingIsNeeded(t *testing.T) {
	lines := strings.Split(good(t), "\n")
	for i, line := range lines {
		setting := strings.TrimSpace(line)
		name, value, found := strings.Cut(setting, ": ")
		if !found || strings.HasPrefix(setting, "#") || strings.HasPrefix(setting, "- ") || value == "" || name == "transport" {
			continue
		}
		without := strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "\n")
		_, err := Parse([]byte(without), "x.yaml")
		if err == nil || !strings.Contains(err.Error(), name+": is missing") {
			t.Errorf("line %d (%s) dropped: got %v", i+1, setting, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/good.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("a: [b, *c]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Parse(data, "x.yaml")
		var invalid *strict.Error
		if err != nil && (!errors.As(err, &invalid) || len(invalid.Problems) == 0) {
			t.Errorf("got %v, want a *strict.Error", err)
		}
		if err != nil && len(strings.Split(err.Error(), "\n")) != len(invalid.Problems) {
			t.Errorf("not one line for each problem: %q", err)
		}
	})
}
