package inventory

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

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
	if got, want := inventory.SiteA.SSH.KeyFile, filepath.Join(folder, "keys/id"); got != want {
		t.Errorf("relative key file: got %s, want %s", got, want)
	}
	if got, want := inventory.SiteB.SSH.KeyFile, "/etc/heliotrope/id"; got != want {
		t.Errorf("absolute key file: got %s, want %s", got, want)
	}
	if got, want := inventory.Guest.SSH.KeyFile, filepath.Join(folder, "keys/id"); got != want {
		t.Errorf("guest's key file: got %s, want %s", got, want)
	}
	if got, want := inventory.Guest.Address, netip.MustParsePrefix("198.18.0.9/24"); got != want {
		t.Errorf("guest's address: got %s, want %s", got, want)
	}
	if host := inventory.Host(inventory.WAN.Host); host != &inventory.Store {
		t.Errorf("WAN host: got %v", host)
	}
	if inventory.Kind != Hardware || inventory.SiteB.Transport != "ssh" || len(inventory.SiteA.SSH.HostKeys) != 2 {
		t.Errorf("unexpected content: %+v", inventory)
	}
}

func TestMode(t *testing.T) {
	for setting, want := range map[string]string{"": Workers, "\nmode: workers": Workers, "\nmode: agentless": Agentless} {
		inventory, err := Parse([]byte(strings.Replace(good(t), "kind: hardware", "kind: hardware"+setting, 1)), "x.yaml")
		if err != nil || inventory.Mode != want {
			t.Errorf("%q: got %+v, %v, want mode %s", setting, inventory, err, want)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	want, err := Load("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
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
}

func TestSaveKeepsRelativeKeyFile(t *testing.T) {
	inventory, err := Load("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inventory.SiteA.SSH.KeyFile = "keys/id"
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	if err := inventory.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := loaded.SiteA.SSH.KeyFile, filepath.Join(filepath.Dir(path), "keys/id"); got != want {
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
	tests := []struct {
		name     string
		old, new string
		want     string
	}{
		{"version missing", "version: 1\n", "", `2:1: version: is missing`},
		{"version unknown", "version: 1", "version: 2", `2:10: version: 2 is not understood: want 1`},
		{"version no number", "version: 1", "version: one", `2:10: version: "one" is not a whole number`},
		{"version quoted", "version: 1", `version: "1"`, `2:10: version: "1" is not a whole number`},
		{"version too big", "version: 1", "version: 0x10", `2:10: version: "0x10" is not a whole number`},
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
		{"kind", "kind: hardware", "kind: virtual", `4:7: kind: "virtual" is neither emulated nor hardware`},
		{"mode", "kind: hardware", "kind: hardware\nmode: magic", `5:7: mode: "magic" is neither workers nor agentless`},
		{"unknown at the top", "kind: hardware", "kind: hardware\nkinds: hardware", `5:1: kinds: unknown setting (known: version, name, kind, mode, site_a, site_b, store, wan, guest)`},
		{"unknown with a space", "kind: hardware", "kind: hardware\na b: c", `5:1: "a b": unknown setting (known: version, name, kind, mode, site_a, site_b, store, wan, guest)`},
		{"unknown below", "    user: root\n    key_file: keys/id\n    host_keys:\n", "    user: root\n    password: x\n    key_file: keys/id\n    host_keys:\n",
			`10:5: site_a.ssh.password: unknown setting (known: address, user, key_file, host_keys)`},
		{"host name", "name: host-a", "name: host_a", `6:9: site_a.name: "host_a" is no host name: want 1 to 63 of a-z, 0-9 and -, not beginning with -`},
		{"host name twice", "name: host-b", "name: host-a", `20:9: site_b.name: "host-a" is site_a's already`},
		{"site is text", "store:\n  name: store\n  ssh:", "store: x\nstored:\n  name: store\n  ssh:", `31:8: store: want a mapping of settings`},
		{"ssh address without port", "192.0.2.1:22", "192.0.2.1", `8:14: site_a.ssh.address: "192.0.2.1" is not host:port`},
		{"ssh address without host", "192.0.2.1:22", ":22", `8:14: site_a.ssh.address: ":22" is not host:port`},
		{"ssh port zero", "192.0.2.1:22", "192.0.2.1:0", `8:14: site_a.ssh.address: "192.0.2.1:0" is not host:port`},
		{"ssh port too big", "192.0.2.1:22", "192.0.2.1:65536", `8:14: site_a.ssh.address: "192.0.2.1:65536" is not host:port`},
		{"ssh port no number", "192.0.2.1:22", "192.0.2.1:ssh", `8:14: site_a.ssh.address: "192.0.2.1:ssh" is not host:port`},
		{"ssh user in the address", "192.0.2.1:22", "root@192.0.2.1:22", `8:14: site_a.ssh.address: "root@192.0.2.1:22" is not host:port`},
		{"ssh address twice", "store.example.net:22", "192.0.2.1:22", `34:14: store.ssh.address: "192.0.2.1:22" is site_a's already`},
		{"ssh user", "address: 192.0.2.1:22\n    user: root", "address: 192.0.2.1:22\n    user: ro ot", `9:11: site_a.ssh.user: "ro ot" is no user name`},
		{"key file empty", "key_file: /etc/heliotrope/id", `key_file: ""`, `24:15: site_b.ssh.key_file: "" is no path (~ is not understood)`},
		{"key file of home", "key_file: /etc/heliotrope/id", `key_file: ~/.ssh/id`, `24:15: site_b.ssh.key_file: "~/.ssh/id" is no path (~ is not understood)`},
		{"host keys missing", "    key_file: /etc/heliotrope/id\n    host_keys: [SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI]\n", "    key_file: /etc/heliotrope/id\n", `22:5: site_b.ssh.host_keys: is missing`},
		{"host keys empty", "[SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4]", "[]", `37:16: store.ssh.host_keys: is empty: want at least one fingerprint, as ssh-keygen -l prints it`},
		{"host keys text", "[SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4]", "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4", `37:16: store.ssh.host_keys: want a list`},
		{"host key MD5", "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4", "MD5:00", `37:17: store.ssh.host_keys[0]: "MD5:00" is no fingerprint as ssh-keygen -l prints it: SHA256: and 43 characters`},
		{"host key too short", "SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4", "SHA256:FYZC", `37:17: store.ssh.host_keys[0]: "SHA256:FYZC" is no fingerprint as ssh-keygen -l prints it: SHA256: and 43 characters`},
		{"host key twice", "      - SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI", "      - SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y", `13:9: site_a.ssh.host_keys[1]: "SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y" is given twice`},
		{"host key number", "      - SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI", "      - 5", `13:9: site_a.ssh.host_keys[1]: want text, not a number: write "5" in quotes`},
		{"address", "address: 198.18.0.1\n", "address: 198.18.0.256\n", `14:12: site_a.address: "198.18.0.256" is not an IP address`},
		{"address name", "address: 198.18.0.1\n", "address: host-a\n", `14:12: site_a.address: "host-a" is not an IP address`},
		{"address list", "address: 198.18.0.1\n", "address: []\n", `14:12: site_a.address: want an IP address, not a list`},
		{"address multicast", "address: 198.18.0.1\n", "address: 224.0.0.1\n", "14:12: site_a.address: 224.0.0.1 is not the address of one host\n" +
			"inventory.yaml:47:12: guest.address: 198.18.0.9/24 is not in one network with site_a.address 224.0.0.1"},
		{"address twice", "address: 198.18.0.2\n", "address: 198.18.0.1\n", `26:12: site_b.address: "198.18.0.1" is site_a's already`},
		{"bridge missing", "  bridge: br0\n  data_dir: /var/lib/heliotrope\n  hypervisor: xen\n  transport: tcp", "  data_dir: /var/lib/heliotrope\n  hypervisor: xen\n  transport: tcp", `6:3: site_a.bridge: is missing`},
		{"bridge too long", "  bridge: br0\n  data_dir: /var/lib/heliotrope\n  hypervisor: xen\n  transport: tcp", "  bridge: br012345678901234\n  data_dir: /var/lib/heliotrope\n  hypervisor: xen\n  transport: tcp", `15:11: site_a.bridge: "br012345678901234" is no name of a network interface`},
		{"data folder relative", "  data_dir: /var/lib/heliotrope\nwan", "  data_dir: var\nwan", `39:13: store.data_dir: "var" is not a plain absolute path`},
		{"data folder root", "  data_dir: /var/lib/heliotrope\nwan", "  data_dir: /\nwan", `39:13: store.data_dir: "/" is not a plain absolute path`},
		{"data folder with dots", "  data_dir: /var/lib/heliotrope\nwan", "  data_dir: /var/../etc\nwan", `39:13: store.data_dir: "/var/../etc" is not a plain absolute path`},
		{"hypervisor", "hypervisor: xen\n  transport: tcp", "hypervisor: kvm\n  transport: tcp", `17:15: site_a.hypervisor: "kvm" is not known: want xen`},
		{"hypervisor of the store", "  data_dir: /var/lib/heliotrope\nwan", "  data_dir: /var/lib/heliotrope\n  hypervisor: xen\nwan", `40:15: store.hypervisor: "xen" is for hypervisors only, not for the storage server`},
		{"transport", "transport: tcp", "transport: udp", `18:14: site_a.transport: "udp" is neither tcp nor ssh`},
		{"WAN host", "host: store", "host: router", `41:9: wan.host: "router" is none of the hosts host-a, host-b, store`},
		{"WAN device", "device: eth2", "device: eth 2", `42:11: wan.device: "eth 2" is no name of a network interface`},
		{"WAN device an option", "device: eth2", "device: -all", `42:11: wan.device: "-all" is no name of a network interface`},
		{"guest kernel", "kernel: /usr/lib/heliotrope/vmlinuz", "kernel: vmlinuz", `44:11: guest.kernel: "vmlinuz" is not a plain absolute path`},
		{"guest ramdisk", "ramdisk: /usr/lib/heliotrope/initrd", "ramdisk: ''", `45:12: guest.ramdisk: "" is not a plain absolute path`},
		{"guest memory zero", "memory_mib: 128", "memory_mib: 0", `46:15: guest.memory_mib: 0 MiB: want 1 to 1048576`},
		{"guest memory negative", "memory_mib: 128", "memory_mib: -5", `46:15: guest.memory_mib: -5 MiB: want 1 to 1048576`},
		{"guest memory in bytes", "memory_mib: 128", "memory_mib: 134217728", `46:15: guest.memory_mib: 134217728 MiB: want 1 to 1048576`},
		{"guest memory with unit", "memory_mib: 128", "memory_mib: 128M", `46:15: guest.memory_mib: "128M" is not a whole number`},
		{"guest address without length", "198.18.0.9/24", "198.18.0.9", `47:12: guest.address: "198.18.0.9" is not an IP address with the length of its network, such as 198.18.0.9/24`},
		{"guest address is a network", "198.18.0.9/24", "198.18.0.0/24", `47:12: guest.address: 198.18.0.0/24 is not the address of one host`},
		{"guest address taken", "198.18.0.9/24", "198.18.0.2/24", `47:12: guest.address: 198.18.0.2 is site_b's already`},
		{"guest network too small", "198.18.0.9/24", "198.18.0.2/31", "47:12: guest.address: 198.18.0.2/31 is not the address of one host\n" +
			"inventory.yaml:47:12: guest.address: 198.18.0.2/31 is not in one network with site_a.address 198.18.0.1\n" +
			"inventory.yaml:47:12: guest.address: 198.18.0.2 is site_b's already"},
		{"MTU too small", "mtu: 1500", "mtu: 575", `48:8: guest.mtu: 575: want 576 to 9216`},
		{"a clock that is no truth value", "mtu: 1500", "mtu: 1500\n  native_tsc: maybe", `49:15: guest.native_tsc: "maybe" is not true or false`},
		{"heartbeats too seldom", "mtu: 1500", "mtu: 1500\n  heartbeat_ms: 101", `49:17: guest.heartbeat_ms: 101: want 1 to 100`},
		{"heartbeats at no interval", "mtu: 1500", "mtu: 1500\n  heartbeat_ms: 0", `49:17: guest.heartbeat_ms: 0: want 1 to 100`},
		{"MTU too big", "mtu: 1500", "mtu: 9217", `48:8: guest.mtu: 9217: want 576 to 9216`},
		{"alias", "kind: hardware", "kind: &k hardware", `4:7: kind: anchors and aliases are not understood here`},
		{"second document", "    host_keys: [SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y]", "    host_keys: [SHA256:wFOoZthc/H5PnyfZRPpUpIXq/68ga3sGqtQW6rJfB7Y]\n---\nversion: 1", `53:1: the file holds more than one document`},
	}
	text := good(t)
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
			if got, _, _ := strings.Cut(invalid.Error(), "\ninventory.yaml:32:1: stored: "); got != "inventory.yaml:"+test.want {
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
inventory.yaml:8:14: site_a.ssh.address: "foo" is not host:port
inventory.yaml:30:14: site_b.transport: "http" is neither tcp nor ssh
inventory.yaml:41:9: wan.host: "nowhere" is none of the hosts host-a, host-b, store
inventory.yaml:48:8: guest.mtu: 1: want 576 to 9216
inventory.yaml:53:1: surplus: unknown setting (known: version, name, kind, mode, site_a, site_b, store, wan, guest)`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestEverySettingIsNeeded drops each setting in turn: every one must be missed.
func TestEverySettingIsNeeded(t *testing.T) {
	lines := strings.Split(good(t), "\n")
	for i, line := range lines {
		setting := strings.TrimSpace(line)
		name, value, found := strings.Cut(setting, ": ")
		if !found || strings.HasPrefix(setting, "#") || strings.HasPrefix(setting, "- ") || value == "" {
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
