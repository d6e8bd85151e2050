package xen

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/folder"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/poll"
)

// fileEnds are the suffixes that follow the domain's name in the names of its
// files.
var fileEnds = []string{configEnd, targetEnd + configEnd, deviceEnd, scriptEnd}

// Destroy ends the domain, and what an interrupted migration of it left. It
// returns when the hypervisor holds nothing of them any more.
func (h *Host) Destroy(ctx context.Context, name string) error {
	if err := h.checkName(name); err != nil {
		return err
	}
	ended, all, err := h.destroy(ctx, func(found string) bool {
		return found == name || found == name+incomingSuffix || found == name+awaySuffix
	})
	if err != nil {
		return err
	}
	files, err := h.remote.Files(ctx)
	if err != nil {
		return err
	}
	if err := folder.Check(files, h.Host(), h.ownFolder()); err != nil {
		return err
	}
	configured, err := h.configured(ctx)
	if err != nil {
		return err
	}
	if len(ended) > 0 || configured[hypervisor.UUID(name)] != "" {
		if err := h.removeLogs(ctx, all, name); err != nil {
			return err
		}
	}
	var errs []error
	for _, end := range fileEnds {
		errs = append(errs, files.Remove(h.file(name, end)))
	}
	return errors.Join(errs...)
}

// Teardown destroys every domain of ours. While one of them has not gone, the files
// that identify it stay.
func (h *Host) Teardown(ctx context.Context) error {
	ended, all, err := h.destroy(ctx, func(string) bool { return true })
	if err != nil {
		return err
	}
	files, err := h.remote.Files(ctx)
	if err != nil {
		return err
	}
	if err := folder.Check(files, h.Host(), h.ownFolder()); err != nil {
		return err
	}
	configured, err := h.configured(ctx)
	if err != nil {
		return err
	}
	names := append(slices.Collect(maps.Values(configured)), h.label+hypervisor.GuestEnd)
	for _, domain := range ended {
		names = append(names, listed{State: domain}.plain())
	}
	slices.Sort(names)
	if err := h.removeLogs(ctx, all, slices.Compact(names)...); err != nil {
		return err
	}
	if err := files.RemoveAll(h.folder()); err != nil {
		return err
	}
	_, err = folder.RemoveEmpty(files, h.ownFolder())
	return err
}

// removeLogs removes the toolstack's logs about domains of these names, and about the
// ends of their migrations: the newest of each and those that it has rotated.
const removeLogs = `
for name; do
	for domain in "$name" "$name` + incomingSuffix + `" "$name` + awaySuffix + `"; do
		for log in "/var/log/xen/xl-$domain.log" "/var/log/xen/guest-$domain.log" "/var/log/xen/console/guest-$domain.log"; do
			rm -f -- "$log" "$log".[0-9] "$log".[0-9][0-9]
		done
	done
done`

// removeLogs removes the logs about domains of these names, except where a domain of
// somebody else has the name. The domains must have ended.
func (h *Host) removeLogs(ctx context.Context, all rows, names ...string) error {
	names = slices.DeleteFunc(names, func(name string) bool { return h.refuseForeign(all, name) != nil })
	if len(names) == 0 {
		return nil
	}
	_, err := h.shell(ctx, removeLogs, names...)
	return err
}

// destroy ends those of our own domains whose names are wanted, and waits until they have
// gone. It returns them, and all domains as they were before.
func (h *Host) destroy(ctx context.Context, wanted func(name string) bool) (ending []hypervisor.State, all rows, err error) {
	states, all, err := h.list(ctx)
	if err != nil {
		return nil, all, err
	}
	var errs []error
	for _, state := range states {
		if !wanted(state.Name) {
			continue
		}
		if state.Status != hypervisor.Dying {
			// It may have ended by itself meanwhile: what List then shows
			// decides.
			if _, err := h.xl(ctx, "destroy", strconv.Itoa(state.ID)); err != nil {
				errs = append(errs, fmt.Errorf("destroy domain %s: %w", state.Name, err))
			}
		}
		ending = append(ending, state)
	}
	left, err := h.waitGone(ctx, slices.Clone(ending))
	if err != nil {
		return nil, all, errors.Join(append(errs, err)...)
	}
	if len(left) == 0 {
		return ending, all, nil
	}
	for _, state := range left {
		errs = append(errs, h.stays(ctx, state))
	}
	return nil, all, errors.Join(errs...)
}

// waitGone waits until no domain has one of these IDs any more, and returns the
// domains that stay. IDs are not reused before 32,752 others were used.
func (h *Host) waitGone(ctx context.Context, ending []hypervisor.State) (left []hypervisor.State, err error) {
	deadline := time.Now().Add(h.goneLimit)
	err = poll.Until(ctx, h.goneEvery, func(ctx context.Context) (bool, error) {
		if len(ending) == 0 {
			return true, nil
		}
		all, err := h.rows(ctx)
		if err != nil {
			return false, err
		}
		domains := slices.Concat(all.ours, all.nameless)
		ending = slices.DeleteFunc(ending, func(gone hypervisor.State) bool {
			return !slices.ContainsFunc(domains, func(d listed) bool { return d.ID == gone.ID })
		})
		return len(ending) == 0 || time.Now().After(deadline), nil
	})
	return ending, err
}

// holders prints what still holds parts of the domain with that ID: threads of
// the backends, a device model, network interfaces and devices in xenstore.
const holders = `
for process in /proc/[0-9]*; do
	read -r name 2> /dev/null < "$process/comm" || continue
	case $name in "$1".xvd*|"blkback.$1."*|"vif$1."*) echo "thread $name" ;; esac
	tr '\0' ' ' 2> /dev/null < "$process/cmdline" | grep -q -- "-xen-domid $1 " && echo "process ${process#/proc/} ($name)"
done
for interface in /sys/class/net/vif"$1".*; do [ ! -e "$interface" ] || echo "interface ${interface##*/}"; done
for kind in vbd vif; do
	for device in $(xenstore-list "/local/domain/0/backend/$kind/$1" 2> /dev/null); do echo "$kind $1/$device"; done
done
exit 0`

// stays is the error for a domain that was destroyed and does not go away.
func (h *Host) stays(ctx context.Context, state hypervisor.State) error {
	held, err := h.shell(ctx, holders, strconv.Itoa(state.ID))
	switch {
	case err != nil:
		held = "what holds it is not known: " + err.Error()
	case held == "":
		held = "nothing is seen that holds it"
	default:
		held = "it is held by " + strings.ReplaceAll(held, "\n", ", ")
	}
	return fmt.Errorf("destroy domain %s on %s: id %d is still there after %v (%s); %s; when that cannot be ended, the host must be started anew",
		state.Name, h.Host(), state.ID, h.goneLimit, state.Status, held)
}
