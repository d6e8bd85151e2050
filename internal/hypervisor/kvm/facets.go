package kvm

import (
	"context"

	"heliotrope/internal/driver"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/witness"
)

// Sources is empty: KVM has no counters besides the machine's.
func (h *Host) Sources(context.Context, string) ([]witness.Source, error) { return nil, nil }

// Constant texts for sh(1) whose argument is the testbed's label.
const (
	showDomains = `for f in "/run/libvirt/qemu/$1".*.xml; do test -f "$f" && echo "== $f" && cat "$f"; done; true`
	showLogs    = `for f in "` + logs + `/$1".*.log; do test -f "$f" && echo "== $f" && tail -c 65536 "$f"; done; true`
	showKVM     = `for f in /sys/module/kvm/parameters/* /sys/module/kvm_*/parameters/*; do test -r "$f" && echo "$f $(cat "$f")"; done; true`
	showLibvirt = `for f in /var/log/libvirt/libvirtd.log /var/log/libvirt/virtqemud.log; do test -f "$f" && echo "== $f" && tail -c 65536 "$f"; done
command -v journalctl >/dev/null && journalctl --no-pager -n 200 -u libvirtd -u virtqemud; true`
)

// Evidence is what libvirt and QEMU left in files, because libvirt itself may not
// answer.
func (h *Host) Evidence(machine string) []driver.Evidence {
	if machine != h.Host() {
		return nil
	}
	script := func(text string) []string { return []string{"sh", "-c", text, "sh", h.label} }
	return []driver.Evidence{
		{File: "domains.xml", Args: script(showDomains)}, // and the migrations that they have running
		{File: "qemu.log", Args: script(showLogs)},       // includes their consoles
		{File: "libvirt.log", Args: script(showLibvirt)},
		{File: "kvm.txt", Args: script(showKVM)},
	}
}

// Leftovers looks for domains, whether libvirt knows them or not, and for the
// logs that removeLogs would remove when no domain of ours is left. A domain of ours has our
// mark in its metadata. A process that libvirt does not know is told by its name alone.
func (h *Host) Leftovers(machine string) string {
	if machine != h.Host() {
		return ""
	}
	return `label=$1
known() { test -f "/run/libvirt/qemu/$1.xml" || test -f "/etc/libvirt/qemu/$1.xml"; }
marked() { test -f "$1" && grep -q '` + namespace + `' "$1" && grep -q "label=[\"']$label[\"']" "$1"; }
for f in /run/libvirt/qemu/*.xml /etc/libvirt/qemu/*.xml; do
	test -f "$f" || continue
	name=${f##*/} whose=other
	case $name in "$label".*) ! marked "$f" || whose=ours; esac
	echo "$whose domain ${name%.xml}"
done
for p in $(` + listQEMU + `); do
	name=$(tr '\0' '\n' 2>/dev/null <"/proc/$p/cmdline" | sed -n '/^-name$/{n;s/^guest=//;s/,.*//;p;}')
	whose=other
	case $name in "$label".*)
		if ! known "$name" || marked "/run/libvirt/qemu/$name.xml" || marked "/etc/libvirt/qemu/$name.xml"; then whose=ours; fi
	esac
	echo "$whose process ${name:-without a name}"
done
guest=$label` + hypervisor.GuestEnd + `
known "$guest" || for f in "` + logs + `/$guest".*; do
	test -f "$f" && ! test -L "$f" || continue
	end=${f#"` + logs + `/$guest"}
	case $end in .console.*)
		known "$guest.console" && continue
		end=${end#.console}
	esac
	echo "$end" | grep -Eqx '` + logEnd + `' && echo "ours log $f"
done
true`
}

// Versions are those of the programs and of KVM.
func (h *Host) Versions(machine string) string {
	if machine != h.Host() {
		return ""
	}
	return `for q in qemu-system-x86_64 /usr/libexec/qemu-kvm; do
	v=$("$q" --version 2>/dev/null) && echo "qemu $(echo "$v" | sed -n '1s/.*version //p')"
done
for d in virtqemud libvirtd; do
	v=$("$d" --version 2>/dev/null) && echo "$d ${v##* }"
done
for p in kvm_amd/parameters/npt kvm_intel/parameters/ept kvm/parameters/halt_poll_ns; do
	test -r "/sys/module/$p" && echo "$p $(cat "/sys/module/$p")"
done
true`
}
