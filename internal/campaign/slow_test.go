package campaign

import (
	"slices"
	"testing"
)

func TestTooSlow(t *testing.T) {
	const slow = "wan: [lan, 'rtt=40ms,rate=2mbit'], access: [database]}\n"
	for name, test := range map[string]struct {
		text      string
		memoryMiB int
		want      []string
	}{
		"the memory is given": {"matrix: {guest_memory_mib: [128, 256], storage: [nfs], " + slow, 0,
			[]string{"cell xen-nfs-rtt40.rate2mbit-database-256m: the first round alone, 256 MiB of memory at 2 Mbit/s, takes 1074 s, and limits.migration is 10m0s: its trials end as too-slow"}},
		"the memory is the inventory's": {"matrix: {hypervisor: [kvm], storage: [nfs], " + slow, 256,
			[]string{"cell kvm-nfs-rtt40.rate2mbit-database: the first round alone, 256 MiB of memory at 2 Mbit/s, takes 1074 s, and limits.migration is 10m0s: " +
				"unless much of it is zeros, its trials end as too-slow"}},
		"nobody knows the memory": {"matrix: {storage: [nfs], " + slow, 0, nil},
		"there is time enough":    {"limits: {migration: 18m, trial: 1h}\nmatrix: {guest_memory_mib: [256], storage: [nfs], " + slow, 0, nil},
		"a mirror's disk": {"disk: {size_mib: 160}\nmatrix: {hypervisor: [kvm], storage: [mirror], " + slow, 0,
			[]string{"cell kvm-mirror-rtt40.rate2mbit-database: the first round alone, a disk of 160 MiB at 2 Mbit/s, takes 671 s, and limits.migration is 10m0s: " +
				"its trials end as too-slow"}}, // it is filled: there are no zeros
		"a mirror's disk of zeros": {"disk: {size_mib: 160, precondition: none}\nmatrix: {hypervisor: [kvm], storage: [mirror], " + slow, 0,
			[]string{"cell kvm-mirror-rtt40.rate2mbit-database: the first round alone, a disk of 160 MiB at 2 Mbit/s, takes 671 s, and limits.migration is 10m0s: " +
				"unless much of it is zeros, its trials end as too-slow"}},
		"a limit of the bandwidth": {"limits: {migration: 1m}\nmatrix: {hypervisor: [kvm], bandwidth_mib_per_s: [2], guest_memory_mib: [256], storage: [mirror]" + plain, 0,
			[]string{"cell kvm-mirror-lan-database-256m-migrate.bandwidth2: the first round alone, 256 MiB of memory and a disk of 64 MiB at 16.78 Mbit/s, takes 160 s, " +
				"and limits.migration is 1m0s: unless much of it is zeros, its trials end as too-slow"}},
		"controls and the sentinel": {"matrix: {storage: [nfs], guest_memory_mib: [256]" + plain +
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
