package xen

import (
	"context"

	"heliotrope/internal/driver"
	"heliotrope/internal/folder"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/witness"
)

// Sources is empty: a domain's counters are those of the machine.
func (h *Host) Sources(context.Context, string) ([]witness.Source, error) { return nil, nil }

// Traffic is the traffic of outgoing migrations.
func (h *Host) Traffic() []witness.Class {
	return []witness.Class{{Name: "migration", Protocol: "tcp", FirstPort: h.port()}}
}

// tails prints the ends of files, each below its name; label is the testbed's
// label.
const tails = `
label=$1
tails() {
	for file; do
		[ -f "$file" ] || continue
		found=1
		echo "==> $file"
		tail -c 65536 "$file"
	done
	[ -n "$found" ] || { echo "there is no such file" >&2; exit 1; }
}
`

const (
	toolstackLogs = tails + `tails /var/log/xen/xl-"$label".* /var/log/xen/xen-hotplug.log`
	consoleLogs   = tails + `tails /var/log/xen/guest-"$label".* /var/log/xen/console/guest-"$label".*`
	// ownDomains takes the testbed's label and prints everything that the
	// toolstack knows about the label's domains, including both ends of a
	// migration.
	ownDomains = `
xl vm-list | while read -r _ id name; do
	case $name in "$1".*) xl list -l "$id" ;; esac
done`
)

// Evidence is what may explain a failure on the host.
func (h *Host) Evidence(machine string) []driver.Evidence {
	if machine != h.Host() {
		return nil
	}
	script := func(file, text string) driver.Evidence {
		return driver.Evidence{File: file, Args: []string{"sh", "-c", text, "sh", h.label}}
	}
	return []driver.Evidence{
		{File: "domains.txt", Args: []string{"xl", "list", "-v"}},
		script("domain.txt", ownDomains),
		{File: "xen.txt", Args: []string{"xl", "dmesg"}},
		script("toolstack.txt", toolstackLogs),
		script("consoles.txt", consoleLogs),
	}
}

// leftovers parses xl list from the right, like row, because names may contain
// blanks. A domain of ours has a configuration in our folder for as long as it exists.
// The logs are those that Teardown would remove.
const leftovers = `
label=$1 folder=$2/$1/xen
[ -e "$2/$1/` + folder.Mark + `" ] || folder=/dev/null # nothing is in it
all=$(xl list 2> /dev/null | sed -n '1d; s/^\(.*[^ ]\)  *[0-9][0-9]*  *[0-9][0-9]*  *[0-9][0-9]*  *[^ ]\{6\}  *[0-9.]*$/\1/p')
[ -z "$all" ] || printf '%s\n' "$all" | while read -r name; do
	plain=${name%` + incomingSuffix + `} plain=${plain%` + awaySuffix + `} whose=other
	case $name in "$label".*) [ ! -e "$folder/$plain` + configEnd + `" ] || whose=ours ;; esac
	echo "$whose domain $name"
done
for file in "$folder"/*; do
	[ ! -e "$file" ] || echo "ours file $file"
done
for name in "$folder/$label` + hypervisor.GuestEnd + `" "$folder"/*` + configEnd + `; do
	name=${name%` + configEnd + `}
	[ -e "$name` + configEnd + `" ] || ! printf '%s\n' "$all" | grep -qxF -- "${name##*/}" || continue
	name=${name##*/}
	for domain in "$name" "$name` + incomingSuffix + `" "$name` + awaySuffix + `"; do
		for log in "/var/log/xen/xl-$domain.log" "/var/log/xen/guest-$domain.log" "/var/log/xen/console/guest-$domain.log"; do
			for file in "$log" "$log".[0-9] "$log".[0-9][0-9]; do
				[ ! -e "$file" ] || echo "ours file $file"
			done
		done
	done
done`

// Leftovers lists the domains of the host, and the toolstack's files about ours.
func (h *Host) Leftovers(machine string) string {
	if machine != h.Host() {
		return ""
	}
	return leftovers
}

// Versions asks for Xen's version.
func (h *Host) Versions(machine string) string {
	if machine != h.Host() {
		return ""
	}
	return `version=$(xl info xen_version 2> /dev/null) && echo "xen $version"`
}
