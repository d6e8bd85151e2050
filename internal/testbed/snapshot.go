package testbed

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"heliotrope/internal/remote"
)

// Snapshot is what a measurement could leave behind on the hosts: a line for
// each domain, qdisc, network interface, iSCSI session, mount, loop device,
// DRBD resource, LIO object, export, daemon and file of ours. Keys are host
// names.
type Snapshot map[string][]string

// look prints one line for each thing. It takes the host's data folder as its
// only argument. Kernel modules that were loaded stay loaded and are not
// listed; neither are processes that come and go (shells, sshd).
const look = `
exec 2> /dev/null
[ -e /proc/xen/privcmd ] && xl list | awk 'NR > 1 { print "domain", $1 }'
/sbin/tc qdisc show | sed 's/^/qdisc: /; s/ refcnt [0-9]*//'
for i in /sys/class/net/*; do echo "interface ${i##*/} master $(readlink "$i/master")"; done
for s in /sys/class/iscsi_session/session*; do [ -e "$s" ] && echo "iscsi session $(cat "$s/targetname")"; done
sed 's/^/mount: /' /proc/mounts
/sbin/losetup --list --noheadings --output NAME,BACK-FILE | sed 's/^/loop: /'
grep -E '^ *[0-9]+: cs:' /proc/drbd | grep -v 'cs:Unconfigured' | sed 's/^/drbd: /'
find /etc/iscsi /var/lib/iscsi /etc/drbd.d /etc/drbd.conf /etc/exports /etc/exports.d /var/lib/drbd ! -type d | sed 's/^/file /'
find /sys/kernel/config/target/core /sys/kernel/config/target/iscsi -type d | grep -E 'fileio|iqn' | sed 's/^/lio /'
grep . /var/lib/nfs/etab | sed 's/^/export: /'
echo "nfsd threads $(cat /proc/fs/nfsd/threads || echo 0)"
for p in /proc/[0-9]*; do
  tr '\0' ' ' < "$p/cmdline" | grep -E '^[^ ]*(iscsid|rpc|nfs|blkmap|idmap|drbd|socat|fio|xl|pv|heliotrope)' | sed 's/^/process /'
done
ls -l /proc/[0-9]*/cwd | sed -n 's|^.* -> \(.*\.run/.*\)|process in \1|p'
sed 's/^/kernel log level /' /proc/sys/kernel/printk
find "$1" /run/heliotrope -mindepth 1 | sed 's/^/file /'
exit 0`

// Snapshot looks at every host.
func (t *Testbed) Snapshot(ctx context.Context) (Snapshot, error) {
	hosts := t.Inventory.Hosts()
	found := make([][]string, len(hosts))
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() {
			result, err := t.hosts[host.Name].Run(ctx, remote.Command{Args: []string{"sh", "-c", look, "sh", host.DataDir}})
			errs[i] = err
			found[i] = strings.Split(strings.TrimSpace(string(result.Stdout)), "\n")
			slices.Sort(found[i])
		})
	}
	all.Wait()
	snapshot := Snapshot{}
	for i, host := range hosts {
		if errs[i] != nil {
			return nil, fmt.Errorf("look at the state of the hosts: %w", errs[i])
		}
		snapshot[host.Name] = found[i]
	}
	return snapshot, nil
}

// Diff lists what appeared (+) and vanished (-) from one snapshot to a later
// one; nothing when the hosts are as they were.
func (s Snapshot) Diff(later Snapshot) []string {
	var changes []string
	for _, host := range slices.Sorted(maps.Keys(s)) {
		count := map[string]int{}
		for _, line := range later[host] {
			count[line]++
		}
		for _, line := range s[host] {
			count[line]--
		}
		for _, line := range slices.Sorted(maps.Keys(count)) {
			switch {
			case count[line] > 0:
				changes = append(changes, host+": + "+line)
			case count[line] < 0:
				changes = append(changes, host+": - "+line)
			}
		}
	}
	return changes
}
