package drbd

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

func TestCheckRefusesDRBD9(t *testing.T) {
	for name, test := range map[string]struct {
		proc, module string
		want         string
	}{
		"8.4 loaded":     {header, "", ""},
		"8.4 not loaded": {"", "8.4.11\n", ""},
		"9 loaded":       {"version: 9.2.14 (api:2/proto:86-122)\n", "", `host-b: version of module drbd: it is "9.2.14", and only 8.4 is supported`},
		"9 not loaded":   {"", "9.2.14\n", `host-b: version of module drbd: it is "9.2.14", and only 8.4 is supported`},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, "")
			for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
				fake.On(remotetest.Prefix("sh", "-c"))
			}
			if test.proc == "" {
				require.NoError(t, bed.b.Memory().Remove(procFile))
			} else {
				bed.put(t, bed.b, procFile, test.proc)
			}
			bed.b.On(remotetest.Exactly("/sbin/modinfo", "-F", "version", "drbd"), remotetest.Reply{Stdout: test.module})
			err := bed.Check(t.Context())
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, fault.BadInput, fault.Of(err))
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestCheckWantsDistinctNames(t *testing.T) {
	bed := newBed(t, "")
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Prefix("sh", "-c"))
		bed.put(t, fake, "/proc/sys/kernel/hostname", "clone\n")
	}
	require.ErrorContains(t, bed.Check(t.Context()), `host-b: /proc/sys/kernel/hostname: it has the host name "clone", which host-a has too`)
}

func TestSources(t *testing.T) {
	bed := newBed(t, "")
	bed.put(t, bed.a, hostConfigs+"/lab.d0.res", "device /dev/drbd3 minor 3;") // not ours
	found, err := bed.Sources(t.Context(), "host-a")
	require.NoError(t, err)
	assert.Empty(t, found)
	bed.provided(t)
	bed.put(t, bed.a, data+"/lab/drbd/e0.res", "resource of { somebody; }")
	want := []witness.Source{{Role: "guest-disk", Reader: "block", Device: "/dev/drbd7"}, {Role: "drbd", Reader: "drbd", Device: "/dev/drbd7"}}
	for _, machine := range []string{"host-a", "host-b"} {
		found, err = bed.Sources(t.Context(), machine)
		require.NoError(t, err)
		assert.Equal(t, want, found)
	}
	found, err = bed.Sources(t.Context(), "store")
	require.NoError(t, err)
	assert.Empty(t, found)
}

// TestTrafficHasAllPorts: the class has the ports of all our minor numbers.
func TestTrafficHasAllPorts(t *testing.T) {
	class := newBed(t, "").Traffic()[0]
	assert.Equal(t, uint16(17200), class.FirstPort)
	assert.Equal(t, uint16(17999), class.LastPort)
	assert.Len(t, class.Between, 2)
}

// TestNoUsageCount: our configuration forbids drbdadm to report to LINBIT's
// server, whatever the host's own says, and drbdadm is never run without it.
func TestNoUsageCount(t *testing.T) {
	bed := newBed(t, "")
	bed.provided(t)
	text, err := bed.a.Memory().ReadFile(ourConfig)
	require.NoError(t, err)
	assert.Contains(t, string(text), "global { usage-count no; }\n")
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Prefix("drbdadm"))
		bed.put(t, fake, procFile, healthy)
	}
	require.NoError(t, bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB))
	require.NoError(t, bed.FinishMigration(t.Context(), disk, storage.SiteB))
	for _, call := range append(bed.a.Commands(), bed.b.Commands()...) {
		if call[0] == "drbdadm" {
			assert.Equal(t, []string{"drbdadm", "-c", ourConfig}, call[:3])
		}
	}
}

// TestCheckRoom: a backing file is larger than the disk, at both sites.
func TestCheckRoom(t *testing.T) {
	bed := newBed(t, "")
	bed.a.On(remotetest.Prefix("sh", "-c"), remotetest.Reply{Stdout: "1000000 4096\n"})
	bed.b.On(remotetest.Prefix("sh", "-c"), remotetest.Reply{Stdout: "7680 4096\n"}) // 30 MiB
	err := bed.CheckRoom(t.Context(), storage.Spec{SizeBytes: 1 << 20})
	require.ErrorContains(t, err, "host-b: "+data+"/lab: it has 30 MiB of free space, and the disk and Heliotrope's own programs want 31 MiB")
	require.NotContains(t, err.Error(), "host-a")
	require.Equal(t, fault.BadInput, fault.Of(err))
	bed.b.On(remotetest.Prefix("sh", "-c"), remotetest.Reply{Stdout: "7936 4096\n"})
	require.NoError(t, bed.CheckRoom(t.Context(), storage.Spec{SizeBytes: 1 << 20}))
}
