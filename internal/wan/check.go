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

	"heliotrope/internal/fault"
	"heliotrope/internal/problem"
)

// Check reports every reason, a line for each, why the path cannot be shaped by
// the bridging host, or could not be trusted. It changes nothing there, and loads
// no kernel module.
//
// An offload that cannot be switched off is a problem when it merges packets that
// a port receives: the certificate would then not measure what netem does. An
// offload of sending is no problem: it merges only what the bridging host itself
// sends, and State lists it.
func (s *Shaper) Check(ctx context.Context) error {
	output, err := s.run(ctx, "check", "")
	if err != nil {
		return fmt.Errorf("check the WAN: %w", err)
	}
	var problems []error
	lines := bufio.NewScanner(bytes.NewReader(output))
	for lines.Scan() {
		problems = append(problems, s.problem(lines.Text()))
	}
	return errors.Join(problems...)
}

// found is a problem of the bridging host.
func (s *Shaper) found(tried, found, fix string) error {
	return problem.New(fault.Infrastructure, s.host.Name(), tried, found, fix)
}

// problem is the problem in one fact from control.sh's check; nil when there is
// none.
func (s *Shaper) problem(fact string) error {
	word, rest, _ := strings.Cut(fact, " ")
	switch word {
	case "tc":
		return s.tcProblem(rest)
	case "no-module":
		return problem.LacksModule(s.host.Name(), rest)
	case "no-ethtool":
		return problem.Lacks(s.host.Name(), "/sbin/ethtool") // it is needed to keep packets from being merged
	case "no-device":
		return s.found("/sys/class/net/"+s.device, "there is no such network interface", "name the one that leads to site B in the inventory, wan.device")
	case "bridge":
		return s.bridgeProblem(rest)
	case "root":
		return s.found("tc qdisc show dev "+s.device, "the root qdisc is "+rest+", which is not ours",
			fmt.Sprintf("see whose it is, and remove it (tc qdisc del dev %s root)", s.device))
	case "ingress":
		return s.found("tc qdisc show dev "+s.device, "there is an ingress qdisc that is not ours",
			fmt.Sprintf("see whose it is, and remove it (tc qdisc del dev %s ingress)", s.device))
	case "fixed":
		return s.fixedProblem(rest)
	}
	return fmt.Errorf("%s: check the WAN: %q is not understood", s.host.Name(), fact)
}

func (s *Shaper) bridgeProblem(fact string) error {
	const port = "name the bridge's port that leads to site B in the inventory, wan.device"
	kind, bridge, _ := strings.Cut(fact, " ")
	switch {
	case kind == "linux", kind == "openvswitch" && bridge != "":
		return nil
	case kind == "openvswitch":
		return problem.Perhaps(fault.Infrastructure, s.host.Name(), "ovs-vsctl port-to-br "+s.device, s.device+" is a port of Open vSwitch, which does not say of which bridge",
			"see that ovsdb-server runs", "ovs-vsctl")
	case kind == "other":
		return s.found("/sys/class/net/"+s.device+"/master", fmt.Sprintf("%s is part of %s, which is no bridge", s.device, bridge),
			fmt.Sprintf("name %s in the inventory, wan.device, if that is a port of the bridge between the sites", bridge))
	}
	return s.found("/sys/class/net/"+s.device+"/master", s.device+" is a port of no bridge, so what the sites send each other does not pass it", port)
}

// fixedProblem reads a fact of the form "INTERFACE FEATURE DRIVER BUS-ADDRESS".
func (s *Shaper) fixedProblem(fact string) error {
	words := strings.Fields(fact)
	if len(words) < 2 {
		return fmt.Errorf("%s: check the WAN: offload %q is not understood", s.host.Name(), fact)
	}
	port, feature := words[0], words[1]
	if !mergesReceived(feature) {
		return nil
	}
	card := "no driver named"
	if len(words) > 2 {
		card = "driver " + strings.Join(words[2:], ", ")
	}
	return s.found("ethtool -k "+port, fmt.Sprintf("%s is on [fixed] (%s): the card hands over packets that it has merged, so that neither netem nor its certificate can be trusted", feature, card),
		"use another card or driver for "+port)
}

// mergesReceived says whether an offload merges packets that come in; others
// segment packets that the host sends.
func mergesReceived(feature string) bool {
	switch feature {
	case "generic-receive-offload", "large-receive-offload", "rx-gro-hw":
		return true
	}
	return false
}

// tcVersion matches the output of "tc -V": a version or, for an old iproute2, the
// date of its snapshot (ss190924 is version 5.3).
var tcVersion = regexp.MustCompile(`iproute2-(?:ss(\d{6})|v?(\d+)\.(\d+))`)

// tcProblem requires iproute2 5.3: older versions print netem as text within tc's
// JSON.
func (s *Shaper) tcProblem(said string) error {
	found := tcVersion.FindStringSubmatch(said)
	if found == nil {
		return problem.Lacks(s.host.Name(), "/sbin/tc")
	}
	number := func(text string) int { n, _ := strconv.Atoi(text); return n }
	date, major, minor := number(found[1]), number(found[2]), number(found[3])
	if date >= 190924 || major > 5 || major == 5 && minor >= 3 {
		return nil
	}
	return s.found("/sbin/tc -V", fmt.Sprintf("it says %.100q: before iproute2 5.3 it does not show netem as JSON, so nobody can see what is shaped", said),
		"install a later iproute2 (Debian 11 has one)")
}
