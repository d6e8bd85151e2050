package problem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote"
)

func TestText(t *testing.T) {
	err := New(fault.BadInput, "host-a", "/dev/kvm", "it is not there", "load kvm_intel")
	require.EqualError(t, err, "host-a: /dev/kvm: it is not there: load kvm_intel")
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.EqualError(t, New(fault.Infrastructure, "", "", "it is so", ""), "it is so")
	bad, warning := Bad("a", "b", "two\nlines", ""), Warn("a", "b", "two\nlines\n", "")
	for _, p := range []error{New(fault.BadInput, "a", "b", "two\n lines", ""), Perhaps(fault.BadInput, "a", "b", "two\nlines", "c", "xl"), &bad, &warning} {
		require.Contains(t, p.Error(), "a: b: two lines")
	}
	require.EqualError(t, New(fault.BadInput, "a", "b", "\x1b]0;title\x07two\r\n\u009blines\x7f", ""), "a: b: ]0;title two lines")
}

// TestOf: errors that were joined, at any depth, are all found, and none is found
// twice.
func TestOf(t *testing.T) {
	drbd, loop := Lacks("host-a", "drbdadm"), LacksModule("host-b", "loop")
	two := fmt.Errorf("%w to root@x: %w", remote.ErrUnreachable, errors.New("refused")) // no list
	command := &remote.Error{Host: "store", Args: []string{"xl", "info"}, ExitCode: 1, Stderr: "no hypervisor\n"}
	all := Of(errors.Join(nil, drbd, errors.Join(drbd, fmt.Errorf("testbed lab: %w", errors.Join(loop, errors.New("host-b: odd")))),
		fmt.Errorf("look at it: %w", command), fault.As(fault.BadInput, errors.New("host-bb: two\nlines")), two), "host-a", "host-b")
	for i := range all {
		all[i].lacks = lack{}
	}
	require.Equal(t, []Problem{
		{Host: "host-a", Tried: "command -v drbdadm", Found: "there is no program drbdadm", Class: fault.BadInput,
			Fix: "install the package drbd-utils (Debian, Ubuntu, XCP-ng), drbd84-utils (ELRepo) (RHEL)"},
		{Host: "host-b", Tried: "modprobe --dry-run loop", Found: "the running kernel has no module loop", Class: fault.BadInput,
			Fix: "install the package linux-image-amd64 and boot its kernel (Debian), linux-modules-extra-$(uname -r) (Ubuntu), kernel-modules-extra (RHEL), kernel (XCP-ng)"},
		{Found: "testbed lab: host-b: odd", Class: fault.Infrastructure},
		{Host: "store", Tried: "xl info", Found: "exit code 1: no hypervisor", Class: fault.Infrastructure},
		{Found: "host-bb: two lines", Class: fault.BadInput},
		{Found: "cannot connect to root@x: refused", Class: fault.Infrastructure},
	}, all)
	require.Equal(t, "host-b", Of(errors.New("host-b: odd"), "host", "host-b")[0].Host)
	require.Empty(t, Of(errors.Join(nil, nil)))
}

// TestFamilies: NAME, ID and ID_LIKE are from os-release on real hosts.
func TestFamilies(t *testing.T) {
	for family, releases := range map[Family][][3]string{
		Debian: {{"Debian GNU/Linux", "debian", ""}, {"Proxmox VE", "pve", "debian"}},
		Ubuntu: {{"Ubuntu", "ubuntu", "debian"}, {"Linux Mint", "linuxmint", "ubuntu debian"}},
		RHEL:   {{"Red Hat Enterprise Linux", "rhel", "fedora"}, {"Rocky Linux", "rocky", "rhel centos fedora"}, {"Fedora Linux", "fedora", ""}},
		XCPng:  {{"XCP-ng", "xenenterprise", "centos rhel fedora"}},
		"":     {{"Alpine Linux", "alpine", ""}, {"", "", ""}},
	} {
		for _, r := range releases {
			require.Equal(t, family, FamilyOf(r[0], r[1], r[2]), r)
		}
	}
}

func TestPackages(t *testing.T) {
	for _, c := range []struct {
		err    error
		family Family
		fix    string
	}{
		{Lacks("a", "iscsiadm"), Debian, "install the package open-iscsi"},
		{Lacks("a", "iscsiadm"), RHEL, "install the package iscsi-initiator-utils"},
		{Lacks("a", "qemu-img"), XCPng, "install what has qemu-img: no package of XCP-ng is known"},
		{Lacks("a", "nobody-knows"), Debian, "install the package that has nobody-knows"},
		{LacksModule("a", "drbd"), RHEL, "install the package kmod-drbd84 (ELRepo)"},
		{LacksModule("a", "ifb"), Ubuntu, "install the package linux-modules-extra-$(uname -r)"},
		{Perhaps(fault.Infrastructure, "a", "x", "y", "start it", "ovs-vsctl"), XCPng, "start it; or install the package openvswitch"},
		{New(fault.BadInput, "a", "x", "y", "do it"), Debian, "do it"},
	} {
		p := Of(c.err)[0]
		p.For(c.family)
		require.Equal(t, c.fix, p.Fix)
	}
	for name, row := range programs {
		require.NotEmpty(t, row.debian, name)
		require.NotEmpty(t, row.ubuntu, name)
		require.False(t, strings.ContainsAny(row.debian+row.ubuntu, " ()"), "%s is in no repository of its own", name)
	}
}

func TestUnreachable(t *testing.T) {
	ended := func(err error) error { return &remote.Error{Host: "a", Args: []string{"true"}, ExitCode: -1, Err: err} }
	for want, err := range map[string]error{
		"on its console":   ended(fmt.Errorf("%w to root@a: %w: a offers ssh-ed25519 SHA256:x; %s", remote.ErrUnreachable, remote.ErrHostKey, remote.HostKeyAdvice)),
		"authorized_keys":  ended(fmt.Errorf("%w: %w", remote.ErrUnreachable, remote.ErrAuthentication)),
		"see that it runs": ended(remote.ErrUnreachable),
		"no firewall":      context.DeadlineExceeded,
	} {
		p := Of(Unreachable("a", "192.0.2.1:22", err))[0]
		require.Contains(t, p.Fix, want)
		require.Equal(t, "ssh 192.0.2.1:22", p.Tried)
		require.NotContains(t, p.Found, "true")
		require.NotContains(t, p.Found, "installed anew", "that is what to do")
	}
}

func TestCounted(t *testing.T) {
	warning := Warn("a", "b", "c", "d")
	require.Equal(t, "0 problems, 0 warnings", Counted(nil))
	require.Equal(t, "2 problems, 1 warning", Counted(slices.Concat([]Problem{{}, warning}, []Problem{{}})))
}
