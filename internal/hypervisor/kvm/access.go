package kvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// account is the user and group as which libvirt runs QEMU.
type account struct{ uid, gid int }

// account finds the user and group as which libvirt runs QEMU in libvirt's description
// of the host: the label of its security model "dac", such as "+64055:+994". When
// there is none, QEMU runs as the same user as libvirt itself, which is root.
func (c *client) account(capabilities hostCapabilities) (a account, err error) {
	for _, model := range capabilities.SecurityModels {
		for _, label := range model.Labels {
			if model.Name != "dac" || label.DomainType != c.host.domainType {
				continue
			}
			if a, err = parseAccount(label.Text); err != nil {
				return a, c.failed("look as whom QEMU runs", err)
			}
		}
	}
	return a, nil
}

// parseAccount reads a label of the security model "dac".
func parseAccount(label string) (a account, err error) {
	_, err = fmt.Sscanf(label, "%d:%d", &a.uid, &a.gid)
	if err == nil && (a.uid < 0 || a.gid < 0) {
		err = errors.New("want numbers that are not negative")
	}
	if err != nil {
		err = fmt.Errorf("unreadable label %q of the security model dac: %w", label, err)
	}
	return a, err
}

// asAccount runs its third argument with sh(1) as the user and the group in the first
// two, in that user's supplementary groups if it has a name. The remaining arguments
// are passed to the text. It prints nothing when setpriv(1) of util-linux is missing,
// or may not become that user.
//
// In the environment of the text, "kept" is empty unless libvirt leaves files to their
// owners (dynamic_ownership in its qemu.conf; 1 when it is not set).
const asAccount = `uid=$1 gid=$2 text=$3
shift 3
kept=$(grep -s '^[[:space:]]*dynamic_ownership[[:space:]]*=[[:space:]]*0' /etc/libvirt/qemu.conf)
export kept
for groups in --init-groups --clear-groups; do
	setpriv --reuid "$uid" --regid "$gid" "$groups" true 2>/dev/null || continue
	exec setpriv --reuid "$uid" --regid "$gid" "$groups" sh -c "$text" sh "$@"
done
true`

// findDenied walks down each of its paths as far as it exists, and prints what its
// user is not permitted to do on the way.
const findDenied = `for path; do
	at= rest=${path#/}
	while test -n "$rest"; do
		at=$at/${rest%%/*}
		case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
		test -e "$at" || break
		if test -d "$at"; then
			test -x "$at" || { echo "enter $at"; break; }
		elif test -n "$kept" && ! test -r "$at"; then
			echo "read $at"
		fi
	done
done
true`

// checkAccess checks whether the QEMUs of a host with these capabilities may reach
// files and folders. libvirt makes QEMU's user the owner of what QEMU opens, including
// kernel and ramdisk, unless qemu.conf says otherwise; it never makes a folder
// accessible.
func (c *client) checkAccess(ctx context.Context, capabilities hostCapabilities, paths ...string) (problems []error, err error) {
	a, err := c.account(capabilities)
	if err != nil || a.uid == 0 {
		return nil, err
	}
	text, err := c.host.script(ctx, asAccount, append([]string{strconv.Itoa(a.uid), strconv.Itoa(a.gid), findDenied}, paths...)...)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		switch what, path, _ := strings.Cut(line, " "); what {
		case "enter":
			problems = append(problems, c.host.problem(path, fmt.Sprintf("libvirt runs QEMU as user %d there, who may not enter this folder", a.uid),
				"allow it (chmod o+x), or name another folder in the inventory"))
		case "read":
			problems = append(problems, c.host.problem(path, fmt.Sprintf("libvirt runs QEMU as user %d there, who may not read this file", a.uid),
				"allow it (chmod o+r), or take dynamic_ownership = 0 out of /etc/libvirt/qemu.conf"))
		}
	}
	return problems, nil
}

// notStarted is failed for a call that starts a QEMU: when the host has refused QEMU a
// file, that is no passing failure, and the error says what to check.
func (c *client) notStarted(what string, err error) error {
	if !answered(err) || !strings.Contains(err.Error(), "Permission denied") {
		return c.failed(what, err)
	}
	who := "QEMU's user"
	if capabilities, err := c.capabilities(); err == nil {
		if a, err := c.account(capabilities); err == nil {
			who = fmt.Sprintf("user %d, who runs QEMU,", a.uid)
		}
	}
	return c.host.problem(what, err.Error(),
		fmt.Sprintf("look there whether %s may enter each folder above that file and read it, and what AppArmor or SELinux has denied (journalctl -k, /var/log/audit/audit.log)", who))
}
