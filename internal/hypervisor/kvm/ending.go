package kvm

import "heliotrope/internal/hypervisor"

var _ hypervisor.Ender = (*Host)(nil)

// ending ends QEMU itself, with TERM as libvirt does, because libvirt may not answer. Its
// domains are transient, so that they vanish with QEMU.
const ending = `
for p in $(` + listQEMU + `); do
	tr '\0' '\n' 2>/dev/null <"/proc/$p/cmdline" | grep -qxF -- "$2" || continue
	name=$(tr '\0' '\n' 2>/dev/null <"/proc/$p/cmdline" | sed -n '/^-name$/{n;s/^guest=//;s/,.*//;p;}')
	case $name in "$1".*) kill -TERM "$p" ;; esac
done
true`

// Ending is a text for sh(1).
func (h *Host) Ending() string { return ending }
