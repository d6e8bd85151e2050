package wan

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Check says everything on the bridging host with which the path cannot be
// shaped, or not be trusted, a line for each. It changes nothing there, and loads
// no module.
//
// An offload that cannot be switched off is a problem where a port merges what it
// receives: what the certificate measures is then not what netem does. One that
// sends is not: it merges only what the bridging host itself sends, and State
// names it.
func (s *Shaper) Check(ctx context.Context) error {
	output, err := s.run(ctx, "check", "")
	if err != nil {
		return fmt.Errorf("check the WAN: %w", err)
	}
	var problems []error
	lines := bufio.NewScanner(bytes.NewReader(output))
	for lines.Scan() {
		if problem := s.problem(lines.Text()); problem != "" {
			problems = append(problems, fmt.Errorf("%s: %s", s.host.Name(), problem))
		}
	}
	return errors.Join(problems...)
}

// problem is what is wrong with one fact of control.sh's check; "" is nothing.
func (s *Shaper) problem(fact string) string {
	word, rest, _ := strings.Cut(fact, " ")
	switch word {
	case "tc":
		return tcProblem(rest)
	case "no-module":
		return fmt.Sprintf("modprobe -n %s: the running kernel has no such module: install linux-image-amd64 and boot it (Debian), "+
			"linux-modules-extra-$(uname -r) (Ubuntu) or kernel-modules-extra (RHEL)", rest)
	case "no-ethtool":
		return "there is no /sbin/ethtool, which has to keep packets from being merged: install the package ethtool"
	case "no-device":
		return fmt.Sprintf("there is no network interface %s: name the one that leads to site B in the inventory, wan.device", s.device)
	case "bridge":
		return s.bridgeProblem(rest)
	case "root":
		return fmt.Sprintf("tc qdisc show dev %s: the root qdisc is %s, which is not ours: see whose it is, and remove it (tc qdisc del dev %s root)",
			s.device, rest, s.device)
	case "ingress":
		return fmt.Sprintf("tc qdisc show dev %s: there is an ingress qdisc that is not ours: see whose it is, and remove it (tc qdisc del dev %s ingress)",
			s.device, s.device)
	case "fixed":
		return fixedProblem(rest)
	}
	return fmt.Sprintf("check the WAN: %q is not understood", fact)
}

func (s *Shaper) bridgeProblem(fact string) string {
	kind, bridge, _ := strings.Cut(fact, " ")
	switch {
	case kind == "linux", kind == "openvswitch" && bridge != "":
		return ""
	case kind == "openvswitch":
		return fmt.Sprintf("%s is a port of Open vSwitch, but ovs-vsctl port-to-br %s does not say of which bridge: "+
			"install openvswitch-switch, and see that ovsdb-server runs", s.device, s.device)
	case kind == "other":
		return fmt.Sprintf("%s is part of %s, which is no bridge: name %s in the inventory, wan.device, if that is a port of the bridge between the sites",
			s.device, bridge, bridge)
	}
	return fmt.Sprintf("%s is a port of no bridge, so what the sites send each other does not pass it: name the bridge's port that leads to site B "+
		"in the inventory, wan.device", s.device)
}

// fixedProblem is about "INTERFACE FEATURE DRIVER BUS-ADDRESS".
func fixedProblem(fact string) string {
	words := strings.Fields(fact)
	if len(words) < 2 {
		return fmt.Sprintf("check the WAN: offload %q is not understood", fact)
	}
	port, feature := words[0], words[1]
	if !mergesReceived(feature) {
		return ""
	}
	card := "no driver named"
	if len(words) > 2 {
		card = "driver " + strings.Join(words[2:], ", ")
	}
	return fmt.Sprintf("ethtool -k %s: %s is on [fixed] (%s): the card hands over packets that it has merged, so that neither netem nor its certificate "+
		"can be trusted: use another card or driver for %s", port, feature, card, port)
}

// mergesReceived tells what merges packets that come in from what cuts those that
// the host sends.
func mergesReceived(feature string) bool {
	switch feature {
	case "generic-receive-offload", "large-receive-offload", "rx-gro-hw":
		return true
	}
	return false
}

// tcVersion finds what "tc -V" says: a version, or of an old iproute2 the date of
// its snapshot (ss190924 is version 5.3).
var tcVersion = regexp.MustCompile(`iproute2-(?:ss(\d{6})|v?(\d+)\.(\d+))`)

// tcProblem wants iproute2 5.3: before, tc shows netem as text within its JSON.
func tcProblem(said string) string {
	found := tcVersion.FindStringSubmatch(said)
	if found == nil {
		return fmt.Sprintf("/sbin/tc -V says %.100q: want iproute2 5.3 or later: install the package iproute2", said)
	}
	number := func(text string) int { n, _ := strconv.Atoi(text); return n }
	date, major, minor := number(found[1]), number(found[2]), number(found[3])
	if date >= 190924 || major > 5 || major == 5 && minor >= 3 {
		return ""
	}
	return fmt.Sprintf("/sbin/tc -V says %.100q: before iproute2 5.3 it does not show netem as JSON, so nobody can see what is shaped: "+
		"install a later iproute2 (Debian 11 has one)", said)
}
