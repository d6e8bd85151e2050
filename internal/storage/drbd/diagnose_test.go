package drbd

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
)

const (
	// cut is the state of a Primary that has lost its peer.
	cut = header + `
 7: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----
    ns:0 nr:0 dw:51180 dr:65536 al:24 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:40960
`
	diskless = header + `
 7: cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate C r-----
    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0
`
)

func TestDiagnose(t *testing.T) {
	secondary := strings.Replace(cut, "ro:Primary", "ro:Secondary", 1)
	unwritten := strings.Replace(cut, "oos:40960", "oos:0", 1)
	for name, test := range map[string]struct {
		a, b string
		want cause.Code
	}{
		"healthy":                     {healthy, healthy, ""},
		"both alone":                  {alone, alone, cause.SplitBrain},
		"one alone":                   {cut, alone, cause.SplitBrain},
		"two that wrote, not met yet": {cut, cut, cause.SplitBrain},
		"two, one of which wrote":     {cut, unwritten, ""},
		"path lost":                   {cut, secondary, ""},
		"disk lost":                   {diskless, healthy, cause.StorageFailed},
		"nothing there":               {header, header, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, "")
			bed.provided(t)
			bed.put(t, bed.a, procFile, test.a)
			bed.put(t, bed.b, procFile, test.b)
			code, line := bed.Diagnose(t.Context(), disk)
			assert.Equal(t, test.want, code, line)
			assert.Contains(t, line, "host-a")
			assert.Contains(t, line, "host-b")
		})
	}
}

// TestSplitBrainIsNamedBeforeItsConsequences: a split brain shows first in a
// Primary that cannot be demoted; the error must name the split brain.
func TestSplitBrainIsNamedBeforeItsConsequences(t *testing.T) {
	held := remotetest.Reply{ExitCode: 11, Stderr: "State change failed: (-12) Device is held open by someone\n"}
	for name, test := range map[string]struct{ before, after string }{
		"when it is there already": {alone, alone},
		"when it comes meanwhile":  {strings.Replace(healthy, "Secondary", "Primary", 1), alone},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, "")
			bed.provided(t)
			bed.put(t, bed.a, procFile, test.before)
			bed.put(t, bed.b, procFile, test.before)
			bed.a.OnFunc(remotetest.Prefix("drbdadm", "-c", ourConfig, "secondary"), func(context.Context, remotetest.Call) remotetest.Reply {
				bed.put(t, bed.a, procFile, test.after)
				bed.put(t, bed.b, procFile, test.after)
				return remotetest.Reply{ExitCode: 11, Stderr: strings.Replace(held.Stderr, "held open", "busy", 1)}
			})
			err := bed.FinishMigration(t.Context(), disk, storage.SiteB)
			require.ErrorIs(t, err, ErrSplitBrain)
			assert.Equal(t, fault.TargetFailed, fault.Of(err))
			assert.Equal(t, cause.SplitBrain, fault.CauseOf(err))
		})
	}
}

// TestFailuresOfTheWindow: a storage failure is a result; a host that could not
// be asked is not.
func TestFailuresOfTheWindow(t *testing.T) {
	for name, test := range map[string]struct {
		reply remotetest.Reply
		class fault.Class
	}{
		"DRBD refuses": {remotetest.Reply{ExitCode: 17, Stderr: "State change failed: (-2) Need access to UpToDate data\n"}, fault.TargetFailed},
		"way lost":     {remotetest.Reply{Err: remote.ErrConnectionLost}, fault.Infrastructure},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, "")
			bed.provided(t)
			for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
				bed.put(t, fake, procFile, healthy)
				fake.On(remotetest.Prefix("drbdadm", "-c", ourConfig, "net-options"))
			}
			bed.b.On(remotetest.Prefix("drbdadm", "-c", ourConfig, "primary"), test.reply)
			err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
			require.Error(t, err)
			assert.Equal(t, test.class, fault.Of(err))
		})
	}
}

func TestPrepareMigrationWantsThisDisk(t *testing.T) {
	for name, breaks := range map[string]func(*bed){
		"another minor number": func(b *bed) {
			b.b.On(remotetest.Exactly("drbdsetup", "status", "lab.d0", "--verbose"), remotetest.Reply{Stdout: "lab.d0 role:Primary suspended:no\n  volume:0 minor:8 disk:UpToDate\n"})
		},
		"another's configuration": func(b *bed) { b.put(t, b.b, ourConfig, "resource lab.d0 { device minor 7; disk /dev/loop0; }") },
		"another loop device": func(b *bed) {
			b.b.On(remotetest.Prefix("/sbin/losetup", "--list"), remotetest.Reply{Stdout: `{"loopdevices": [{"name": "/dev/loop1", "dio": true, "back-file": "` + ourImage + `"}]}`})
		},
		"no image": func(b *bed) { b.b.On(remotetest.Prefix("/sbin/losetup", "--list")) },
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, "")
			bed.provided(t)
			bed.put(t, bed.b, procFile, healthy)
			breaks(bed)
			err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
			require.Error(t, err)
			assert.Equal(t, fault.Infrastructure, fault.Of(err))
		})
	}
}

// TestCopiesAfterASplitBrain: both replicas can be read, above all after a
// split brain.
func TestCopiesAfterASplitBrain(t *testing.T) {
	bed := newBed(t, "")
	bed.provided(t)
	bed.put(t, bed.a, procFile, alone)
	bed.put(t, bed.b, procFile, strings.Replace(alone, "ro:Primary", "ro:Secondary", 1))
	want := []storage.Copy{{Name: "replica-a", Host: "host-a", Path: "/dev/loop0"}, {Name: "replica-b", Host: "host-b", Path: "/dev/loop0"}}
	copies, err := bed.Copies(t.Context(), disk, storage.SiteB)
	require.NoError(t, err)
	assert.Equal(t, want, copies)
	copies, err = bed.Copies(t.Context(), disk, storage.SiteA)
	require.NoError(t, err)
	assert.Equal(t, append([]storage.Copy{{Name: "site-a", Host: "host-a", Path: "/dev/drbd7"}}, want...), copies)

	bed.a.On(remotetest.Prefix("/sbin/losetup", "--list"))
	copies, err = bed.Copies(t.Context(), disk, storage.SiteB)
	require.ErrorContains(t, err, "host-a: 0 loop devices")
	assert.Equal(t, want[1:], copies)
}
