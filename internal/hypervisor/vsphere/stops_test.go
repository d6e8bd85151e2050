package vsphere

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
)

// TestLostStops: when the logs do not cover all of the requested time, the witness
// is lost. That never counts as a record without stops.
func TestLostStops(t *testing.T) {
	t.Parallel()
	line := func(at, text string) string { return "2021-03-04T" + at + "Z In(05) vmx - " + text + "\n" }
	for name, test := range map[string]struct {
		logs map[string]string
		want string // "" is a record without stops
	}{
		"all of it": {map[string]string{"vmware.log": line("09:00:00.000", "Log for VMware ESX")}, ""},
		"an older one reaches back": {map[string]string{"vmware.log": line("10:30:00.000", "Log"),
			"vmware-10.log": line("10:20:00.000", "Log"), "vmware-9.log": line("09:00:00.000", "Log")}, ""},
		"rotated away": {map[string]string{"vmware.log": line("10:30:00.000", "Log"), "vmware-2.log": line("10:20:00.000", "Log")},
			"vmware-2.log, the oldest log, begins at 2021-03-04T10:"},
		"cut": {map[string]string{"vmware.log": line("10:00:00.500", "of what was before nothing is left")},
			"vmware.log, the oldest log, begins at 2021-03-04T10:00:00."},
		"one is gone": {map[string]string{"vmware.log": line("10:40:00.000", "Log"), "vmware-3.log": line("10:20:00.000", "Log"),
			"vmware-1.log": line("09:00:00.000", "Log")}, "vmware-3.log: the log before it is gone: the next one that is there is vmware-1.log"},
		"empty": {map[string]string{"vmware.log": "", "vmware-1.log": line("09:00:00.000", "Log")}, "vmware.log: no line of it has a time"},
		"another's": {map[string]string{"vmware.log": line("10:30:00.000", "Log"),
			"vmware-1.log": line("09:00:00.000", "Log") + line("09:00:00.000", "Hostname=esx-9.example.org") +
				"2021-03-04T10:11:12.345Z In(05) vcpu-0 - Checkpoint_Unstun: vm stopped for 5 us\n"},
			`vmware-1.log: the host "esx-9.example.org" wrote it, and no host of the vCenter`},
		"another's, long before": {map[string]string{"vmware.log": line("09:30:00.000", "Log"),
			"vmware-1.log": line("09:00:00.000", "Log") + line("09:00:00.000", "Hostname=esx-9.example.org")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.create()
			for file, text := range test.logs {
				s.log(file, text)
			}
			record, err := s.a.Record(t.Context(), guest.Name, at("10:00:00"), at("11:00:00"))
			require.Empty(t, record.Stops)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "host-a: read what was written down of lab.vm: ")
			require.ErrorContains(t, err, test.want)
			require.Equal(t, fault.Invalid, fault.Of(err))
			require.Equal(t, cause.WitnessDied, fault.CauseOf(err))
		})
	}
}

// TestReachOnTwoClocks: the beginning of a log is on the clock of the host that
// wrote it.
func TestReachOnTwoClocks(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.clocks(-2*time.Hour, 0)
	s.create()
	_, err := s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)
	s.log("vmware.log", newLog)
	s.log("vmware-1.log", oldLog)
	// On this machine's clock the older log begins at 11:00:00.001.
	for _, h := range []*Host{s.a, s.b} {
		_, err = h.Record(t.Context(), guest.Name, at("10:00:00"), at("12:00:00"))
		require.ErrorContains(t, err, "the oldest log, begins at 2021-03-04T1")
	}
	s.log("vmware-1.log", strings.ReplaceAll(oldLog, "T09:00", "T07:00"))
	for _, h := range []*Host{s.a, s.b} {
		_, err = h.Record(t.Context(), guest.Name, at("10:00:00"), at("12:00:00"))
		require.NoError(t, err)
	}
}
