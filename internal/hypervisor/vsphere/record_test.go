package vsphere

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// hostClock is a host's clock, which the simulator lacks.
type hostClock struct {
	mo.HostDateTimeSystem
	ahead time.Duration
	whole bool // it tells whole seconds
}

func (c *hostClock) QueryDateTime(*simulator.Context, *types.QueryDateTime) soap.HasFault {
	now := time.Now().Add(c.ahead)
	if c.whole {
		now = now.Truncate(time.Second)
	}
	return &methods.QueryDateTimeBody{Res: &types.QueryDateTimeResponse{Returnval: now}}
}

// clocks gives both hosts clocks that are ahead by so much.
func (s *sim) clocks(a, b time.Duration) {
	for name, ahead := range map[string]time.Duration{"DC0_C0_H0": a, "DC0_C0_H1": b} {
		clock := &hostClock{ahead: ahead}
		clock.Self = types.ManagedObjectReference{Type: "HostDateTimeSystem", Value: "clock-" + name}
		s.model.Map().Put(clock)
		host := s.model.Map().Get(s.ref("HostSystem", name)).(*simulator.HostSystem)
		host.ConfigManager.DateTimeSystem = &clock.Self
	}
}

// log writes one of the guest's logs into the simulator's datastore.
func (s *sim) log(name, text string) {
	s.t.Helper()
	var folder object.DatastorePath
	require.True(s.t, folder.FromString(s.find(guest.Name).Config.Files.LogDirectory))
	store := s.model.Map().Get(s.ref("Datastore", folder.Datastore)).(*simulator.Datastore)
	require.NoError(s.t, os.WriteFile(filepath.Join(store.Summary.Url, folder.Path, name), []byte(text), 0o600))
}

// The logs' texts are written by hand, following the documented forms of their lines
// (see unstun): none was captured on an ESXi host.
const (
	oldLog = `2021-03-04T09:00:00.001Z| vmx| I005: Log for VMware ESX pid=2099735 version=VMware ESX 6.7.0
2021-03-04T09:00:00.002Z| vmx| I005: Hostname=DC0_C0_H0.example.org
2021-03-04T10:11:12.345Z| vcpu-0| I005: Checkpoint_Unstun: vm stopped for 123456 us
2021-03-04T10:11:13.000Z| vcpu-0| I005: Checkpoint_Stun: stopping
`
	newLog = `2021-03-04T10:11:20.000Z In(05) vmx - Log for VMware ESX pid=2099735 version=VMware ESX 8.0.0
2021-03-04T10:11:20.001Z In(05) vmx - Hostname=localhost.localdomain
2021-03-04T10:11:30.123Z In(05) vcpu-0 - Checkpoint_Unstun: vm stopped for 1500000 us
2021-03-04T11:00:00.000Z In(05) vcpu-0 - Checkpoint_Unstun: vm stopped for 77 us
`
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, "2021-03-04T"+text+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

var (
	oldStop = hypervisor.Stop{From: at("10:11:12.221544"), To: at("10:11:12.345"), Resolution: time.Millisecond}
	newStop = hypervisor.Stop{From: at("10:11:28.623"), To: at("10:11:30.123"), Resolution: time.Millisecond}
)

// TestParseLog: both forms of a line are read, and no line about a stop is ignored.
func TestParseLog(t *testing.T) {
	for text, want := range map[string]machineLog{
		oldLog: {host: "DC0_C0_H0.example.org", begins: at("09:00:00.001"), stops: []hypervisor.Stop{oldStop}},
		newLog: {host: "localhost.localdomain", begins: at("10:11:20"), stops: []hypervisor.Stop{newStop,
			{From: at("11:00:00").Add(-77 * time.Microsecond), To: at("11:00:00"), Resolution: time.Millisecond}}},
		// A line of doubt applies only to the next stop.
		strings.Replace(newLog, "2021-03-04T10:11:30", "2021-03-04T10:11:30.123Z In(05) vcpu-0 - Checkpoint_Unstun: give or take 2500 us\n2021-03-04T10:11:30", 1): {
			host: "localhost.localdomain", begins: at("10:11:20"), stops: []hypervisor.Stop{
				{From: newStop.From, To: newStop.To, Resolution: 3500 * time.Microsecond},
				{From: at("11:00:00").Add(-77 * time.Microsecond), To: at("11:00:00"), Resolution: time.Millisecond}}},
		"":                          {},
		"vmx 2026/01/02 created\n":  {},
		strings.Repeat("x", 200000): {},
	} {
		log, err := parseLog(strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, want, log)
	}
	for _, bad := range []string{
		"2021-03-04 10:11:12 vcpu-0: Checkpoint_Unstun: vm stopped for 1 us\n",
		"2021-03-04T10:11:12.345Z| vcpu-0| I005: Checkpoint_Unstun: vm stopped for ages\n",
		"2021-03-04T10:11:12.345Z| vcpu-0| I005: Checkpoint_Unstun: vm stopped for 99999999999999999999 us\n",
		"2021-13-04T10:11:12.345Z In(05) vcpu-0 - Checkpoint_Unstun: vm stopped for 1 us\n",
	} {
		_, err := parseLog(strings.NewReader(oldLog + bad))
		require.ErrorContains(t, err, "line 5, ")
	}
	_, err := parseLog(bytes.NewReader(bytes.Repeat([]byte("x"), maxLogLine+1)))
	require.Error(t, err)
}

// TestClock: the measured offset of a host's clock is off by no more than its
// uncertainty.
func TestClock(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.clocks(90*time.Second, -time.Hour)
	for host, ahead := range map[*Host]time.Duration{s.a: 90 * time.Second, s.b: -time.Hour} {
		offset, err := host.Clock(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, (offset.Ahead - ahead).Abs(), offset.Uncertainty)
	}
	require.Equal(t, 2*clockRounds, s.count("QueryDateTime"))

	require.Equal(t, time.Second, resolutionOf(at("10:11:12")))
	require.Equal(t, time.Millisecond, resolutionOf(at("10:11:12.5")))
	require.Equal(t, time.Microsecond, resolutionOf(at("10:11:12.000001")))
}

// TestClockCannotBeRead: that is found before a campaign.
func TestClockCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	host := s.model.Map().Get(s.ref("HostSystem", "DC0_C0_H0")).(*simulator.HostSystem)
	clock := s.model.Map().Get(*host.ConfigManager.DateTimeSystem).(*hostClock)
	clock.whole = true
	require.ErrorContains(t, s.a.Check(t.Context()), "host-a: QueryDateTime: host /DC0/host/DC0_C0/DC0_C0_H0 tells its time to within 1.")

	host.ConfigManager.DateTimeSystem = nil
	err := s.a.Check(t.Context())
	require.ErrorContains(t, err, "host-a: look at it: read its clock: vCenter has no HostDateTimeSystem of it")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	require.NoError(t, s.b.Check(t.Context()))
}

// TestStops: after a migration the target reports the stop in the current log, and
// the source the one in the older log that names it. Stops that ended outside the
// requested time are left out.
func TestStops(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.clocks(10*time.Minute, 5*time.Minute)
	s.create()
	s.log("vmware-3.log", oldLog)
	s.log("vmware.log", newLog)
	s.log("vmware-old.log", "Checkpoint_Unstun: vm stopped for ever: not a log of ours\n")
	_, err := s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)

	// The times are on this machine's clock: five minutes before the target's, and
	// ten before the source's.
	record, err := s.b.Record(t.Context(), guest.Name, at("10:06:00"), at("10:07:00"))
	require.NoError(t, err)
	require.Equal(t, []hypervisor.Stop{newStop}, record.Stops)
	record, err = s.a.Record(t.Context(), guest.Name, at("10:01:00"), at("10:02:00"))
	require.NoError(t, err)
	require.Equal(t, []hypervisor.Stop{oldStop}, record.Stops)
	require.Empty(t, record.Notes, "the machine is elsewhere")

	// A log that names no host belongs to the host that the machine is on.
	s.log("vmware-3.log", strings.ReplaceAll(oldLog, "Hostname=", "host="))
	record, err = s.b.Record(t.Context(), guest.Name, at("10:06:00"), at("10:07:00"))
	require.NoError(t, err)
	require.Equal(t, []hypervisor.Stop{oldStop, newStop}, record.Stops)
	record, err = s.a.Record(t.Context(), guest.Name, at("10:01:00"), at("10:02:00"))
	require.NoError(t, err)
	require.Empty(t, record.Stops)
}

// TestNotes: vCenter's events and the relocation's task are reported too, on this
// machine's clock.
func TestNotes(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	from := time.Now().Add(-time.Second)
	s.create()
	s.log("vmware.log", newLog)
	_, err := s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)
	record, err := s.b.Record(t.Context(), guest.Name, from, time.Now().Add(time.Second))
	require.NoError(t, err)
	var texts []string
	for _, note := range record.Notes {
		require.Equal(t, "vc-1", note.Source)
		require.False(t, note.At.Before(from))
		texts = append(texts, note.Text)
	}
	all := strings.Join(texts, "\n")
	require.Contains(t, all, "its clock is ")
	require.Regexp(t, `event \d+, VmPoweredOnEvent: `, all)
	require.Regexp(t, `event \d+, VmMigratedEvent: `, all)
	require.Regexp(t, `task \S+ begins`, all)
	require.Regexp(t, `task \S+ ends: success`, all)
}

// TestRecordRefused: a missing record never counts as one without stops.
func TestRecordRefused(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	_, err := s.a.Record(t.Context(), "other.vm", at("10:00:00"), at("11:00:00"))
	require.Equal(t, fault.BadInput, fault.Of(err))
	_, err = s.a.Record(t.Context(), guest.Name, at("10:00:00"), at("11:00:00"))
	require.ErrorIs(t, err, hypervisor.ErrNotFound)

	s.create()
	s.log("vmware.log", "Checkpoint_Unstun: vm stopped\n")
	_, err = s.a.Record(t.Context(), guest.Name, at("10:00:00"), at("11:00:00"))
	require.ErrorContains(t, err, "[LocalDS_0] lab.vm/vmware.log: line 1, ")

	var folder object.DatastorePath
	require.True(t, folder.FromString(s.find(guest.Name).Config.Files.LogDirectory))
	store := s.model.Map().Get(s.ref("Datastore", folder.Datastore)).(*simulator.Datastore)
	require.NoError(t, os.Remove(filepath.Join(store.Summary.Url, folder.Path, "vmware.log")))
	_, err = s.a.Record(t.Context(), guest.Name, at("10:00:00"), at("11:00:00"))
	require.ErrorContains(t, err, "holds no vmware.log")
	s.log("vmware.log", "")
}
