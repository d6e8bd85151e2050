package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/survey"
	"heliotrope/internal/testbed"
)

// examined is a testbed for the doctor that notes what it is asked for.
type examined struct {
	fakeBed
	leases owner.Hosts
	asked  *testbed.Uses
	// during is called while everything is being checked.
	during func(testbed.Uses)
}

func newExamined() examined {
	return examined{fakeBed: fakeBed{facts: testbed.Facts{FreeMemoryMiB: 256, GuestMemoryMiB: 128}, closed: new(int),
		machines: []survey.State{{Name: "host-a", System: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0", Processor: "kvm64", AvailableMiB: 679, FreeDiskMiB: 976,
			Interface: "br0", MTU: 1500, ClockAhead: -12 * time.Millisecond, ClockUncertainty: 3 * time.Millisecond, Steering: "chronyd"}}}, asked: &testbed.Uses{}}
}

func (b examined) Leases() owner.Hosts { return b.leases }

func (b examined) Check(ctx context.Context, uses testbed.Uses) testbed.Checked {
	*b.asked = uses
	if b.during != nil {
		b.during(uses)
	}
	checked := b.fakeBed.Check(ctx, uses)
	warning := problem.Warn("store", "/proc/*/comm", "nobody steers its clock", "have chrony steer it")
	checked.Problems = append(checked.Problems, warning)
	return checked
}

// examine runs the command on the bed; at each tick it reports what it waits for.
func (b examined) examine(t *testing.T, ticks <-chan time.Time, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	d := &doctor{hosts: hostCheck{limit: time.Minute, connect: func(*inventory.Inventory) (checkedBed, error) { return b, nil }},
		tick: func() (<-chan time.Time, func()) { return ticks, func() {} }}
	cmd := d.command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		code = report(&errs, err)
	}
	return code, out.String(), errs.String()
}

const goodInventory = "../../internal/inventory/testdata/good.yaml"

func (b examined) names() (storages []string) {
	for _, use := range b.asked.Storages {
		storages = append(storages, use.Name)
	}
	return storages
}

// TestDoctorFindsNothing: a warning prevents nothing.
func TestDoctorFindsNothing(t *testing.T) {
	bed := newExamined()
	code, stdout, stderr := bed.examine(t, nil, goodInventory)
	require.Equal(t, 0, code, stderr)
	require.Empty(t, stderr)
	require.Equal(t, `testbed lab-1: hardware, xen
MACHINE  SYSTEM                          KERNEL  PROCESSOR  MEMORY FREE  DISK FREE  INTERFACE      CLOCK           STEERED BY
host-a   Debian GNU/Linux 12 (bookworm)  6.1.0   kvm64      679 MiB      976 MiB    br0, MTU 1500  -12.0 ± 3.0 ms  chronyd

HOST   KIND     LOOKED AT     CAME BACK                WHAT TO DO
store  warning  /proc/*/comm  nobody steers its clock  have chrony steer it

0 problems, 1 warning
`, stdout)
	require.Equal(t, []string{"iscsi", "nfs", "drbd"}, bed.names(), "all that Xen's guests can have")
	require.Equal(t, int64(64<<20), bed.asked.DiskBytes)
	require.False(t, bed.asked.NoHypervisor || bed.asked.NoWAN || bed.asked.Busy)
	require.Equal(t, 1, *bed.closed)
}

// TestDoctorFindsProblems: it finds all problems, as a table and as JSON.
func TestDoctorFindsProblems(t *testing.T) {
	bed := newExamined()
	bed.facts.FreeMemoryMiB = 100
	bed.away = problem.New(fault.Infrastructure, "store", "ssh 192.0.2.3:22", "cannot connect", "see that it runs")
	bed.lacks = errors.Join(problem.Lacks("host-a", "drbdadm"), errors.New("it is so"), problem.New(fault.Infrastructure, "host-b", "tc qdisc show dev eth2",
		"the root qdisc is htb 1:, which is not ours", "see whose it is, and remove it (tc qdisc del dev eth2 root)"))
	code, stdout, stderr := bed.examine(t, nil, goodInventory)
	require.Equal(t, exitFailure, code)
	require.Empty(t, stderr)
	require.Contains(t, stdout, `
host-b  problem  tc qdisc show dev eth2  the root qdisc is htb 1:, which is not  see whose it is, and remove it (tc qdisc
                                         ours                                    del dev eth2 root)
`)
	require.Contains(t, stdout, "\n4 problems, 1 warning\n")

	code, stdout, stderr = bed.examine(t, nil, goodInventory, "--json")
	require.Equal(t, exitFailure, code, stderr)
	var said diagnosis
	require.NoError(t, json.Unmarshal([]byte(stdout), &said))
	require.Equal(t, diagnosis{Testbed: "lab-1", Kind: inventory.Hardware, Hypervisor: "xen", Machines: bed.machines, Problems: said.Problems}, said)
	var hosts []string
	for _, p := range said.Problems {
		hosts = append(hosts, p.Host+" "+string(p.Class))
		require.NotEmpty(t, p.Found)
	}
	require.Equal(t, []string{"host-a BadInput", "store Infrastructure", " Infrastructure", "host-b Infrastructure", "store Infrastructure"}, hosts)

	bed.away, bed.lacks = nil, nil
	code, stdout, _ = bed.examine(t, nil, goodInventory)
	require.Equal(t, exitFailure, code)
	require.Contains(t, stdout, "a guest of 128 MiB does not fit")
}

// TestDoctorOfSome: it checks what was asked for, and nothing else.
func TestDoctorOfSome(t *testing.T) {
	campaign := filepath.Join(t.TempDir(), "campaign.yaml")
	require.NoError(t, os.WriteFile(campaign, []byte("version: 1\nname: night\nseed: 1\ntestbed: hosts\ninventories: [lab.yaml]\nmatrix:\n  wan: [lan]\n  storage: [nfs]\n  guest_memory_mib: [256]\n  guest_vcpus: [1, 2]\n"+
		"  access: [4k-mixed-random]\nrepetitions: 1\ndisk: {size_mib: 128}\n"), 0o600))
	for name, c := range map[string]struct {
		args                []string
		storages            []string
		noHypervisor, noWAN bool
	}{
		"the WAN":                  {[]string{"--only", "wan"}, nil, true, false},
		"a storage system":         {[]string{"--only", "nfs,xen"}, []string{"nfs"}, false, true},
		"one that Xen has not":     {[]string{"--only", "mirror"}, []string{"mirror"}, true, true},
		"what a campaign needs":    {[]string{"--campaign", campaign}, []string{"nfs"}, false, false},
		"and of that only so much": {[]string{"--campaign", campaign, "--only", "wan", "--only", "drbd"}, nil, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newExamined()
			code, _, stderr := bed.examine(t, nil, append([]string{goodInventory}, c.args...)...)
			require.Equal(t, 0, code, stderr)
			require.Equal(t, c.storages, bed.names())
			require.Equal(t, []bool{c.noHypervisor, c.noWAN}, []bool{bed.asked.NoHypervisor, bed.asked.NoWAN})
		})
	}
	bed := newExamined()
	_, _, _ = bed.examine(t, nil, goodInventory, "--campaign", campaign)
	require.Equal(t, int64(128<<20), bed.asked.DiskBytes)
	require.Equal(t, []int{256, 2}, []int{bed.asked.MemoryMiB, bed.asked.VCPUs})
}

func TestDoctorOfBadInput(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("version: 2\nnmae: x\n"), 0o600))
	for want, args := range map[string][]string{
		"accepts 1 arg(s)": nil,
		"no such file":     {"none.yaml"},
		"nmae":             {broken},
		"--only ceph: want some of xen, iscsi, nfs, drbd, mirror, wan": {goodInventory, "--only", "ceph"},
		"campaign: open none.yaml":                                     {goodInventory, "--campaign", "none.yaml"},
	} {
		code, stdout, stderr := newExamined().examine(t, nil, args...)
		require.Equal(t, exitBadInput, code, want)
		require.Contains(t, stderr, want)
		require.Empty(t, stdout)
	}
}

// TestDoctorOfLeasedHosts: a lease of another owner is a problem, and nobody's measurement
// is disturbed.
func TestDoctorOfLeasedHosts(t *testing.T) {
	host := remotetest.NewFake(t, "host-a")
	host.On(remotetest.Prefix("/bin/sh", "-s", "--", "state"), remotetest.Reply{Stdout: "720\ncampaign night of controller 0123456789ab\n"})
	bed := newExamined()
	bed.leases = owner.Hosts{{Runner: host}}
	code, stdout, _ := bed.examine(t, nil, goodInventory)
	require.Equal(t, exitFailure, code)
	require.Contains(t, stdout, "it is leased to campaign night of")
	require.True(t, bed.asked.Busy)
}

// TestDoctorTells: slow checks are reported, but only when they change.
func TestDoctorTells(t *testing.T) {
	ticks := make(chan time.Time)
	bed := newExamined()
	bed.during = func(uses testbed.Uses) {
		end, other := uses.Begin("storage"), uses.Begin("WAN")
		twice := func() { // when the second one is taken, the first was told
			ticks <- time.Time{}
			ticks <- time.Time{}
		}
		twice()
		end()
		twice()
		other()
	}
	code, stdout, stderr := bed.examine(t, ticks, goodInventory)
	require.Equal(t, 0, code)
	require.NotContains(t, stdout, "still")
	require.True(t, strings.HasPrefix(stderr, "still looking at: storage, WAN\nstill looking at: WAN\n"), stderr)
}

// TestDoctorShowsNoControlCharacters: what a host says of itself does not change the terminal.
func TestDoctorShowsNoControlCharacters(t *testing.T) {
	bed := newExamined()
	m := &bed.machines[0]
	m.System, m.Kernel, m.Processor, m.Steering = "De\x1b[2Jbian", "6.1\x07", "kvm\x9b64", "chr\rony"
	code, stdout, stderr := bed.examine(t, nil, goodInventory)
	require.Equal(t, 0, code, stderr)
	require.NotRegexp(t, `[^\n[:^cntrl:]]`, stdout)
	require.Contains(t, stdout, "De [2Jbian")
}

func TestWrapped(t *testing.T) {
	for text, want := range map[string][]string{"": nil, "a": {"a"}, "ab cd ef": {"ab cd", "ef"}, "abcdefgh ij": {"abcdefgh", "ij"}, "äö üß ab": {"äö üß", "ab"}} {
		require.Equal(t, want, wrapped(text, 5), text)
	}
}
