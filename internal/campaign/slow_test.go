package campaign

import (
	"slices"
	"strings"
	"testing"
)

func TestTooSlow(t *testing.T) {
	const slow = "wan: [lan, 'rtt=40ms,rate=2mbit'], access: [database]}\n"
	for name, test := range map[string]struct {
		text      string
		memoryMiB int
		want      []string
	}{
		"the memory is given": {"limits: {migration: 10m}\nmatrix: {guest_memory_mib: [128, 256], storage: [nfs], " + slow, 0,
			[]string{"cell xen-nfs-rtt40.rate2mbit-database-256m: the first round alone, 256 MiB of memory at 2 Mbit/s, takes 1074 s, and limits.migration is 10m0s: its trials end as too-slow"}},
		"the memory is the inventory's": {"matrix: {hypervisor: [kvm], storage: [nfs], " + slow, 256,
			[]string{"cell kvm-nfs-rtt40.rate2mbit-database: the first round alone, 256 MiB of memory at 2 Mbit/s, takes 1074 s, and limits.migration is 10m0s: " +
				"unless much of it is zeros, its trials end as too-slow"}},
		"nobody knows the memory": {"matrix: {storage: [nfs], " + slow, 0, nil},
		"the limit follows":       {"matrix: {guest_memory_mib: [256], storage: [nfs], " + slow, 0, nil},
		"there is time enough":    {"limits: {migration: 18m, trial: 1h}\nmatrix: {guest_memory_mib: [256], storage: [nfs], " + slow, 0, nil},
		"a mirror's disk": {"limits: {migration: 10m}\ndisk: {size_mib: 160}\nmatrix: {hypervisor: [kvm], storage: [mirror], " + slow, 0,
			[]string{"cell kvm-mirror-rtt40.rate2mbit-database: the first round alone, a disk of 160 MiB at 2 Mbit/s, takes 671 s, and limits.migration is 10m0s: " +
				"its trials end as too-slow"}}, // it is filled: there are no zeros
		"a mirror's disk of zeros": {"limits: {migration: 10m}\ndisk: {size_mib: 160, precondition: none}\nmatrix: {hypervisor: [kvm], storage: [mirror], " + slow, 0,
			[]string{"cell kvm-mirror-rtt40.rate2mbit-database: the first round alone, a disk of 160 MiB at 2 Mbit/s, takes 671 s, and limits.migration is 10m0s: " +
				"unless much of it is zeros, its trials end as too-slow"}},
		"a limit of the bandwidth": {"limits: {migration: 1m}\nmatrix: {hypervisor: [kvm], bandwidth_mib_per_s: [2], guest_memory_mib: [256], storage: [mirror]" + plain, 0,
			[]string{"cell kvm-mirror-lan-database-256m-migrate.bandwidth2: the first round alone, 256 MiB of memory and a disk of 64 MiB at 16.78 Mbit/s, takes 160 s, " +
				"and limits.migration is 1m0s: unless much of it is zeros, its trials end as too-slow"}},
		"controls and the sentinel": {"limits: {migration: 10m}\nmatrix: {storage: [nfs], guest_memory_mib: [256]" + plain +
			"controls: [{control: none, wan: 'rtt=40ms,rate=2mbit'}]\nsentinel: {wan: 'rtt=40ms,rate=2mbit', every: 4}", 0,
			[]string{"cell xen-nfs-rtt40.rate2mbit-database-256m: the first round alone, 256 MiB of memory at 2 Mbit/s, takes 1074 s, and limits.migration is 10m0s: its trials end as too-slow"}},
	} {
		var got []string
		for _, slow := range parsed(t, migrating+test.text+"\n").TooSlow(test.memoryMiB) {
			got = append(got, slow.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got  %v\nwant %v", name, got, test.want)
		}
	}
}

// TestTooLate: a disk that takes longer to fill and verify than an attempt may take is reported.
func TestTooLate(t *testing.T) {
	const disk = "disk: {size_mib: 1048576}\nmatrix: {guest_memory_mib: [128], storage: [drbd, nfs]"
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"the limit follows": {disk + plain, nil},
		// Both fill 1 TiB; with DRBD the replicas are compared as well.
		"half an hour": {"limits: {trial: 30m}\n" + disk + plain, []string{
			"cell xen-drbd-c-lan-database-128m: an attempt takes 21094 s at least, of which it fills the disk for 10486 s and verifies it for 10486 s, as expected, " +
				"and limits.trial is 30m0s: its attempts end as time-out",
			"cell xen-nfs-lan-database-128m: an attempt takes 10609 s at least, of which it fills the disk for 10486 s and verifies it for 0 s, as expected, " +
				"and limits.trial is 30m0s: its attempts end as time-out"}},
		"enough for one": {"limits: {trial: 4h}\n" + disk + plain, []string{
			"cell xen-drbd-c-lan-database-128m: an attempt takes 21094 s at least, of which it fills the disk for 10486 s and verifies it for 10486 s, as expected, " +
				"and limits.trial is 4h0m0s: its attempts end as time-out"}},
		"a blank disk": {"limits: {trial: 30m}\n" + strings.Replace(disk, "1048576", "1048576, precondition: none", 1) + plain, []string{
			"cell xen-drbd-c-lan-database-128m: an attempt takes 10609 s at least, of which it fills the disk for 0 s and verifies it for 10486 s, as expected, " +
				"and limits.trial is 30m0s: its attempts end as time-out"}},
	} {
		var got []string
		for _, late := range parsed(t, migrating+test.text+"\n").TooLate(0) {
			got = append(got, late.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got  %v\nwant %v", name, got, test.want)
		}
	}
}

// TestLimitsFollow holds that limits that are not given follow from the slowest of the cells.
func TestLimitsFollow(t *testing.T) {
	const two = "storage: [nfs], access: [database], wan: [lan, 'rtt=300ms,rate=2mbit'], guest_memory_mib: [112, 65536]}\n"
	for name, test := range map[string]struct {
		text, migration, trial string
		ledgerMiB              int
	}{
		"nothing is slow": {"matrix: {storage: [nfs]" + plain, "10m0s", "30m0s", 14},
		"64 GiB":          {"matrix: {guest_memory_mib: [65536], storage: [nfs]" + plain, "4h35m0s", "9h16m0s", 325},
		// 76 h is more than a ledger holds. The two others are within their limits.
		"64 GiB at 2 Mbit/s":  {"disk: {size_mib: 4096}\nmatrix: {" + two, "14h32m0s", "36h22m0s", 1024},
		"without that cell":   {"exclude: [{guest_memory_mib: 65536, wan: 'rtt=300ms,rate=2mbit'}]\nmatrix: {" + two, "4h35m0s", "11h33m0s", 325},
		"as it is given":      {"limits: {migration: 1h, trial: 2h}\nmatrix: {guest_memory_mib: [65536], storage: [nfs]" + plain, "1h0m0s", "2h0m0s", 73},
		"a control elsewhere": {"controls: [{control: none, wan: 'rtt=300ms,rate=2mbit'}]\nmatrix: {guest_memory_mib: [112], storage: [nfs]" + plain, "10m0s", "33m0s", 14},
		"a mirror":            {"disk: {size_mib: 2048}\nmatrix: {hypervisor: [kvm], storage: [mirror], guest_memory_mib: [112], access: [database], wan: ['rate=10mbit']}\n", "1h31m0s", "3h18m0s", 109},
		"1 TiB of DRBD":       {"disk: {size_mib: 1048576}\nmatrix: {storage: [drbd]" + plain, "10m0s", "12h5m0s", 14},
		"long phases":         {"phases: {before: 1h}\nmatrix: {storage: [nfs]" + plain, "10m0s", "2h25m0s", 14},
	} {
		s := parsed(t, migrating+test.text)
		if got := s.Limits; got.Migration.String() != test.migration || got.Trial.String() != test.trial || s.Disk.LedgerMiB != test.ledgerMiB {
			t.Errorf("%s: a migration may take %s, a trial %s, and the ledger has %d MiB: want %+v", name, got.Migration, got.Trial, s.Disk.LedgerMiB, test)
		}
	}
}
