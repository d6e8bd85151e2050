package iscsi

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

func TestOptionsAreRefused(t *testing.T) {
	_, err := Kind.New(storage.Setup{Options: storage.Options{"protocol": "A"}})
	require.ErrorContains(t, err, `"protocol": iscsi has none`)
	assert.Equal(t, fault.BadInput, fault.Of(err))
}

func TestCheck(t *testing.T) {
	// 198.18.0.3:3260 and [::]:22, and a connection from port 3260, as the kernel prints them.
	const busy = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 030012C6:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19217 1 0000000000000000 100 0 0 10 0
`
	const otherAddress = `   0: 0100007F:0CBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19217 1 0000000000000000 100 0 0 10 0
   1: 030012C6:0CBC 010012C6:D431 01 00000000:00000000 00:00000000 00000000     0        0 19218 1 0000000000000000 20 4 30 10 -1
`
	for name, test := range map[string]struct {
		missing string // on host-b
		ports   string
		portal  bool
		want    []string
	}{
		"good":          {ports: otherAddress},
		"LIO's port":    {ports: busy, portal: true},
		"all is wrong":  {missing: "iscsid\n", ports: busy, want: []string{"host-b: command -v iscsid: there is no program iscsid: install the package open-iscsi (Debian, Ubuntu), iscsi-initiator-utils (RHEL, XCP-ng)", "store: TCP port 3260: another program listens there"}},
		"module absent": {missing: "iscsi_tcp\n", want: []string{"host-b: modprobe --dry-run iscsi_tcp: the running kernel has no module iscsi_tcp", "linux-image-amd64"}},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t)
			for _, fake := range []*remotetest.Fake{bed.a, bed.b, bed.store} {
				fake.On(remotetest.Prefix("sh", "-c"))
			}
			if test.missing == "iscsi_tcp\n" {
				bed.b.On(func(call remotetest.Call) bool { return call.Args[len(call.Args)-1] == "iscsi_tcp" }, remotetest.Reply{Stdout: test.missing})
			} else {
				bed.b.On(func(call remotetest.Call) bool { return call.Args[len(call.Args)-1] == "iscsid" }, remotetest.Reply{Stdout: test.missing})
			}
			put(t, bed.store, "/proc/net/tcp", test.ports)
			if test.portal {
				put(t, bed.store, lioFabric+"/iqn.other:x/tpgt_1/np/198.18.0.3:3260/iser", "0")
			}
			err := bed.Check(t.Context())
			if len(test.want) == 0 {
				require.NoError(t, err)
			}
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestSources(t *testing.T) {
	bed := newBed(t)
	for _, machine := range []string{"host-a", "store", "stranger"} {
		found, err := bed.Sources(t.Context(), machine)
		require.NoError(t, err)
		assert.Empty(t, found, machine)
	}
	sessionOf(t, bed.a, bed.iqn("d0"), loggedIn)
	put(t, bed.a, sysSessions+"/session1/targetname", "iqn.somebody.else:x\n")
	unit := lioFabric + "/" + bed.iqn("d0") + "/tpgt_1/lun/lun_0"
	require.NoError(t, bed.store.Memory().MkdirAll(unit))
	found, err := bed.Sources(t.Context(), "host-a")
	require.NoError(t, err)
	assert.Equal(t, []witness.Source{{Role: "guest-disk", Reader: "block", Device: "/dev/sdb"}}, found)
	found, err = bed.Sources(t.Context(), "store")
	require.NoError(t, err)
	assert.Equal(t, []witness.Source{{Role: "target", Reader: "lio-lun", Device: unit}}, found)
}

// TestLeftDaemon runs the script on a machine whose iscsid is in various states.
func TestLeftDaemon(t *testing.T) {
	for state, left := range map[string]string{"S": "other process iscsid\n", "Z": "", "X": ""} {
		t.Run(state, func(t *testing.T) {
			root := t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/185"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(root, "proc/185/stat"), []byte("185 (iscsid) "+state+" 1 185 185 0 -1\n"), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(root, "iscsid.pid"), []byte("185\n"), 0o600))
			script := strings.NewReplacer("/run/", root+"/", "/proc/", root+"/proc/", "/sys/", root+"/sys/", "/etc/", root+"/etc/", "/var/", root+"/var/").Replace(siteLeftovers)
			out, err := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", "lab").CombinedOutput()
			require.NoError(t, err)
			assert.Equal(t, left, string(out))
		})
	}
}
