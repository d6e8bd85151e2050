package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/remote"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readAll(text string) ([]Reading, error) {
	var readings []Reading
	err := ReadCounters(strings.NewReader(text), func(r Reading) error {
		readings = append(readings, r)
		return nil
	})
	return readings, err
}

var addresses = []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("198.18.0.9")}

const domain = "6f1dbb0e-2a9c-5c0b-9b5e-5b1f7f1d4c11"

// classes are one class of a driver, and our own classes.
func classes() []Class {
	own := OwnClasses(addresses[0], addresses[1], addresses[2])
	return append([]Class{{Name: "drbd", Protocol: "tcp", FirstPort: 17200, LastPort: 17999, Between: addresses[:2]}}, own...)
}

func TestConfigIsChecked(t *testing.T) {
	valid := HostConfig{Watcher: "hypervisor", Domain: domain,
		Sources: []Source{{GuestDisk, BlockReader, "/dev/sda"}, {TestNet, InterfaceReader, "eth0"}, {WAN, InterfaceReader, "eth1.5"},
			{Target, "a driver's", "/sys/kernel/config/target/iscsi/iqn.2026-01.org.example:bed.d0/tpgt_1/lun/lun_0"}},
		Listen: netip.AddrPortFrom(addresses[0], Port), Guest: netip.AddrPortFrom(addresses[2], Port), Token: math.MaxUint64,
		Classes: classes()}
	must(t, valid.Check())
	must(t, HostConfig{}.Check())
	must(t, HostConfig{Sources: []Source{{Role: Target, Reader: "a driver's"}}}.Check()) // only the driver's reader knows what the device must be

	sources := func(all ...Source) HostConfig { return HostConfig{Sources: all} }
	class := func(change func(*Class)) HostConfig {
		one := Class{Name: "drbd", Protocol: "tcp", FirstPort: 5}
		change(&one)
		return HostConfig{Sources: []Source{{WAN, InterfaceReader, "eth0"}}, Classes: []Class{one}}
	}
	must(t, class(func(*Class) {}).Check())
	for name, config := range map[string]HostConfig{
		"no role":             sources(Source{"", BlockReader, "/dev/sda"}),
		"role of two words":   sources(Source{"guest disk", BlockReader, "/dev/sda"}),
		"role of two lines":   sources(Source{"guest\ndisk", BlockReader, "/dev/sda"}),
		"no reader":           sources(Source{GuestDisk, "", "/dev/sda"}),
		"the same role twice": sources(Source{WAN, InterfaceReader, "eth0"}, Source{WAN, InterfaceReader, "eth1"}),
		"disk without /dev":   sources(Source{GuestDisk, BlockReader, "sda"}),
		"disk elsewhere":      sources(Source{GuestDisk, BlockReader, "/dev/../etc"}),
		"network elsewhere":   sources(Source{TestNet, InterfaceReader, "../../etc"}),
		"two networks":        sources(Source{WAN, InterfaceReader, "eth0 eth1"}),
		"no network":          sources(Source{WAN, InterfaceReader, ""}),
		"no domain":           {Watcher: "hypervisor"},
		"domain by its name":  {Watcher: "hypervisor", Domain: "lab-1.guest"},
		"guest unknown":       {Listen: valid.Listen},
		"log of no guest":     {LogListen: valid.Listen, Token: 1},
		"log of any attempt":  {LogListen: valid.Listen, Listen: valid.Listen, Guest: valid.Guest},
		"classes of nothing":  {Classes: valid.Classes},
		"class of no name":    class(func(c *Class) { c.Name = "" }),
		"class of others":     class(func(c *Class) { c.Name = OtherClass }),
		"class of sctp":       class(func(c *Class) { c.Protocol = "sctp" }),
		"ports of icmp":       class(func(c *Class) { c.Protocol = "icmp" }),
		"ports of icmpv6":     class(func(c *Class) { c.Protocol = "icmpv6" }),
		"ports backwards":     class(func(c *Class) { c.LastPort = 4 }),
		"no first port":       class(func(c *Class) { c.FirstPort, c.LastPort = 0, 4 }),
		"no address":          class(func(c *Class) { c.Between = []netip.Addr{{}} }),
		"two families":        class(func(c *Class) { c.Between = []netip.Addr{addresses[0], netip.IPv6Loopback()} }),
	} {
		if err := config.Check(); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if _, err := NewHost(remote.Local("here"), Program, "/run/x/witness", config); err == nil {
			t.Errorf("%s: a witness was made", name)
		}
	}
	if _, err := NewGuest(remote.Local("here"), Program, "/run/x/witness", GuestConfig{}); err == nil {
		t.Error("a guest without addresses was accepted")
	}
}

// TestConfigAsAnArgument: the program that is started receives the configuration that was given.
func TestConfigAsAnArgument(t *testing.T) {
	want := HostConfig{Watcher: "hypervisor", Domain: domain, Sources: []Source{{WAN, InterfaceReader, "eth1"}}, Token: math.MaxUint64,
		Listen: netip.AddrPortFrom(addresses[0], Port), Guest: netip.AddrPortFrom(addresses[2], Port),
		Classes: classes()}
	made, err := NewHost(remote.Local("here"), Program, "/run/x/witness", want)
	must(t, err)
	args := made.(*recording).args
	var got HostConfig
	must(t, json.Unmarshal([]byte(args[2]), &got))
	if args[0] != Program || args[1] != "host" || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %+v", args, want)
	}
}

func TestWrittenCountersAreRead(t *testing.T) {
	first := time.Unix(1795374125, 5).UTC()
	second := first.Add(time.Second)
	want := []Reading{
		{first, CPU, "user_ticks", 1}, {first, WAN, "rx_bytes", 1 << 62},
		{second, CPU, "user_ticks", 2}, {second, WAN, "rx_bytes", 0},
	}
	var text bytes.Buffer
	must(t, WriteCounters(&text, slices.Values(want)))
	got, err := readAll(text.String())
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("read %v, want %v from\n%s", got, want, text.String())
	}
	// Wherever the text is cut after the first sample, the first sample is left.
	end := strings.Index(text.String(), ".\n") + 2
	for cut := end; cut < text.Len(); cut++ {
		got, err := readAll(text.String()[:cut])
		if err != nil || !slices.Equal(got, want[:2]) {
			t.Errorf("cut at %d: %v, %v", cut, got, err)
		}
	}
	for cut := range end {
		if _, err := readAll(text.String()[:cut]); !errors.Is(err, ErrNoReadings) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestDamagedCounters(t *testing.T) {
	const good = "@1795374125000000000\ncpu user_ticks 1\n.\n"
	for name, text := range map[string]string{
		"a reading outside of a sample": good + "cpu user_ticks 1\n",
		"a sample within a sample":      good + "@1795374126000000000\n@1795374127000000000\n",
		"an end without a beginning":    good + ".\n",
		"no number":                     good + "@1795374126000000000\ncpu user_ticks x\n.\n",
		"no value":                      good + "@1795374126000000000\ncpu user_ticks\n.\n",
		"no time":                       good + "@now\n",
		"zeroes":                        good + strings.Repeat("\x00", 30) + "\n",
	} {
		if _, err := readAll(text); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
