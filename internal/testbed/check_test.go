package testbed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
)

// served is a testbed whose three machines are all this one, over SSH, with a data
// folder that does not exist yet.
func served(t *testing.T, hypervisor string) (tb *Testbed, servers []*remotetest.Server) {
	t.Helper()
	inv, err := inventory.Load("../inventory/testdata/good.yaml")
	must(t, err)
	folder := t.TempDir()
	inv.Hypervisor, inv.Kind = hypervisor, inventory.Hardware
	for i := range inv.Machines {
		server := remotetest.NewServer(t)
		server.ReadOnlyFiles()
		servers = append(servers, server)
		m := &inv.Machines[i]
		m.SSH = inventory.SSH{Address: server.Address(),
			Login: inventory.Login{User: "tester", KeyFile: filepath.Join(folder, m.Name), HostKeys: []string{server.Fingerprint()}}}
		m.Address, m.DataDir = netip.MustParseAddr("127.0.0.1"), filepath.Join(folder, "data", m.Name)
		writeKey(t, m.SSH.KeyFile, server)
	}
	inv.Guest.SSH.KeyFile = inv.Machines[0].SSH.KeyFile
	tb, err = Connect(inv)
	must(t, err)
	t.Cleanup(func() { must(t, tb.Close()) })
	return tb, servers
}

// writeKey writes the private key that a server lets in.
func writeKey(t *testing.T, path string, server *remotetest.Server) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	server.LetIn(signer.PublicKey())
	block, err := ssh.MarshalPrivateKey(key, "")
	must(t, err)
	must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
}

// everything is what doctor checks by default.
func everything(tb *Testbed) Uses {
	uses := Uses{DiskBytes: 64 << 20, FillBytes: 1 << 20}
	for _, system := range tb.storages {
		uses.Storages = append(uses.Storages, StorageUse{Name: system.Kind(), Options: storage.Options{}})
	}
	return uses
}

// writes matches commands that change something, and redirections into files.
var writes = regexp.MustCompile(`(^|[ (;&|/])(mkdir|rm|rmdir|mv|cp|ln|touch|tee|truncate|dd|chmod|chown|kill|pkill|mount|umount|losetup -\S+|mkfs\S*|` +
	`insmod|rmmod|sysctl|systemctl|service|apt\S*|dnf|yum|exportfs -\S+|drbd(adm|setup) (up|down|adjust|create-md|(dis)?connect|attach|detach|invalidate|primary|secondary|new-\S+|del-\S+)|iscsiadm -\S+|xl (create|destroy|migrate)|ethtool -K|` +
	`tc (qdisc|filter) (add|del|replace)|ip link (add|del|set)|nft|modprobe [^-]\S*|useradd)( |;|$)|> ?[^& /]|> ?/[^d]|>>`)

// plain is a command line to be compared with writes: without quotes, on one line, and
// without redirections to /dev/null.
func plain(line string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("'", " ", "/dev/null", "&1").Replace(line)), " ")
}

// TestCheckChangesNothing: all checks, which run as real processes on this machine, only
// read. A script on standard input also has operations that change things: for those the
// operation that is called is checked.
func TestCheckChangesNothing(t *testing.T) {
	for _, hypervisor := range []string{"kvm", "xen"} {
		t.Run(hypervisor, func(t *testing.T) {
			tb, servers := served(t, hypervisor)
			places := []string{filepath.Dir(filepath.Dir(tb.Inventory.Machines[0].DataDir)), "/etc/iscsi", "/etc/drbd.d", "/etc/exports.d", "/etc/modprobe.d"}
			before := contents(t, places)
			must(t, tb.Reach(t.Context()))
			_, err := tb.Leases().State(t.Context())
			must(t, err)
			checked := tb.Check(t.Context(), everything(tb))
			require.Len(t, checked.Machines, 3)
			require.Equal(t, before, contents(t, places))
			operations := 0
			for _, server := range servers {
				for _, line := range server.Lines() {
					if _, operation, is := strings.Cut(line, `'/bin/sh' '-s' '--' `); is {
						operations++
						require.Regexp(t, `^'(state|check)' `, operation)
						continue
					}
					require.NotRegexp(t, writes, plain(line), line)
				}
			}
			require.GreaterOrEqual(t, operations, 4, "three leases and the WAN")
			for _, p := range checked.Problems {
				require.NotContains(t, p.Error(), "permission denied", "a file was to be changed")
			}
		})
	}
	for _, line := range []string{"mkdir -p /x", "'sh' '-c' 'echo 1 > /proc/sys/x'", "true; rm x", "'/sbin/modprobe' loop", "echo x >> y", "( touch x )", "echo x > /etc/y", "/sbin/tc qdisc add dev x"} {
		require.Regexp(t, writes, plain(line), "it must find what it is there to find")
	}
}

// contents has a line for each file below some places, with its hash.
func contents(t *testing.T, places []string) (all []string) {
	t.Helper()
	for _, place := range places {
		err := filepath.WalkDir(place, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				all = append(all, path+" is not there")
				return nil //nolint:nilerr // that is what is noted
			}
			line := path
			if entry.Type().IsRegular() {
				text, err := os.ReadFile(path)
				must(t, err)
				line = fmt.Sprintf("%s %x", path, sha256.Sum256(text))
			}
			all = append(all, line)
			return nil
		})
		must(t, err)
	}
	return all
}

// TestOneMachineUnderThreeNames: each name is reported, with everything else that is
// wrong, and the packages are those of this machine's distribution.
func TestOneMachineUnderThreeNames(t *testing.T) {
	tb, _ := served(t, "xen")
	must(t, tb.Reach(t.Context()))
	var mu sync.Mutex
	var looked []string
	uses := Uses{NoWAN: true, Busy: true, Begin: func(what string) func() {
		return func() {
			mu.Lock()
			defer mu.Unlock()
			looked = append(looked, what)
		}
	}}
	checked := tb.Check(t.Context(), uses)
	var twice, lacking []problem.Problem
	for _, p := range checked.Problems {
		if strings.Contains(p.Found, "both names are of one machine") {
			twice = append(twice, p)
		}
		if strings.HasPrefix(p.Found, "there is no program xl") {
			lacking = append(lacking, p)
		}
	}
	require.Len(t, twice, 3)
	require.Equal(t, fault.BadInput, twice[0].Class)
	require.Len(t, lacking, 2)
	require.NotEmpty(t, checked.Machines[0].Family)
	require.NotContains(t, lacking[0].Fix, "(", "of one family")
	require.True(t, slices.ContainsFunc(checked.Problems, func(p problem.Problem) bool { return p.Warning && strings.Contains(p.Found, "somebody measures there") }))
	slices.Sort(looked)
	require.Equal(t, []string{"hypervisor of host-a", "hypervisor of host-b", "machine host-a", "machine host-b", "machine store", "the guest's kernel and ramdisk"}, looked)
	require.ErrorContains(t, checked.Err(), "there is no program xl")
	require.NotContains(t, checked.Err().Error(), "somebody measures", "a warning is no error")
}

// TestMachinesThatDoNotAnswer: each is one problem, whatever else was to be checked
// there, and the other machines are checked all the same.
func TestMachinesThatDoNotAnswer(t *testing.T) {
	tb, servers := served(t, "xen")
	servers[1].ChangeHostKey(t)
	servers[2].RefuseLogins()
	err := tb.Reach(t.Context())
	found := problem.Of(err)
	require.Len(t, found, 2)
	require.Equal(t, []string{tb.Inventory.Machines[1].Name, tb.Inventory.Machines[2].Name}, []string{found[0].Host, found[1].Host})
	require.Contains(t, found[0].Found, servers[1].Fingerprint())
	require.Contains(t, found[0].Fix, "on its console")
	require.Contains(t, found[1].Fix, "authorized_keys")
	checked := tb.Check(t.Context(), everything(tb))
	require.Len(t, checked.Machines, 1)
	require.NotEmpty(t, checked.Problems)
	for _, p := range checked.Problems {
		require.NotEqual(t, tb.Inventory.Machines[1].Name, p.Host, p.Error())
		require.NotEqual(t, tb.Inventory.Machines[2].Name, p.Host, p.Error())
	}
}

func TestWays(t *testing.T) {
	tb := connected(t)
	var all bytes.Buffer
	for _, way := range tb.ways(Uses{Storages: []StorageUse{{Name: "iscsi"}, {Name: "drbd"}}}) {
		fmt.Fprintln(&all, way.From, way.To, way.At.Port(), way.For)
	}
	require.Equal(t, `host-a host-b 8002 migration
host-b host-a 8002 migration
host-a host-b 22 migration
host-b host-a 22 migration
host-a store 3260 iscsi
host-b store 3260 iscsi
host-a host-b 17200 drbd
host-a host-b 17999 drbd
host-b host-a 17200 drbd
host-b host-a 17999 drbd
host-a host-b 17191 the WAN's certificate
host-b host-a 17191 the WAN's certificate
`, all.String())
	require.Empty(t, tb.ways(Uses{NoHypervisor: true, NoWAN: true}))
}
