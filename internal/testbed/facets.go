package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/driver"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// facets are those of all drivers: both sites' hypervisors, and every storage
// system, because an earlier trial may have used any of them.
func (t *Testbed) facets() []driver.Facets {
	var all []driver.Facets
	for _, site := range sites {
		all = append(all, t.hypervisors[site])
	}
	for _, system := range t.storages {
		all = append(all, system)
	}
	return all
}

// script is a text for sh(1): the general part for every machine, followed by the
// part of each driver in a subshell of its own, so that a driver's failure does
// not affect the others.
func (t *Testbed) script(general string, of func(driver.Facets) string) string {
	parts := []string{general}
	for _, facets := range t.facets() {
		parts = append(parts, "(\n"+of(facets)+"\n:)")
	}
	return strings.Join(append(parts, "exit 0"), "\n")
}

// shells are the machines that can be driven over SSH.
func (t *Testbed) shells() []*inventory.Machine {
	var all []*inventory.Machine
	for i := range t.Inventory.Machines {
		if host := &t.Inventory.Machines[i]; host.Has(inventory.Shell) {
			all = append(all, host)
		}
	}
	return all
}

// siteOf is the site whose guest a machine runs.
func (t *Testbed) siteOf(machine string) (storage.Site, bool) {
	switch machine {
	case t.Inventory.Sites.A:
		return storage.SiteA, true
	case t.Inventory.Sites.B:
		return storage.SiteB, true
	}
	return "", false
}

func (t *Testbed) driverOf(name string) (storage.Driver, error) {
	for _, driver := range t.storages {
		if driver.Kind() == name {
			return driver, nil
		}
	}
	return nil, fmt.Errorf("testbed %s has no storage system %q", t.Name(), name)
}

// sources finds what can be counted on a machine: its interface on the test
// network, the WAN's device on the machine that bridges the sites, and what the
// drivers find. A site's machine without a disk of ours is an error.
func (t *Testbed) sources(ctx context.Context, ref trial.Ref, machine string) ([]witness.Source, error) {
	host := t.Inventory.Machine(machine)
	if !host.Has(inventory.Counters) {
		return nil, nil
	}
	testNet, err := t.testNet(ctx, host)
	if err != nil {
		return nil, err
	}
	found := []witness.Source{testNet}
	if machine == t.Inventory.WAN.Host {
		found = append(found, t.wanSource())
	}
	system, err := t.driverOf(ref.Trial.Cell.Storage)
	if err != nil {
		return nil, err
	}
	site, isSite := t.siteOf(machine)
	counted := []driver.Facets{system}
	if isSite {
		counted = append(counted, t.hypervisors[site])
	}
	hasDisk := false
	for _, facets := range counted {
		more, err := facets.Sources(ctx, machine)
		if err != nil {
			return nil, fmt.Errorf("find what to count: %w", err)
		}
		for _, source := range more {
			hasDisk = hasDisk || source.Role == witness.GuestDisk
		}
		found = append(found, more...)
	}
	if isSite && !hasDisk {
		return nil, fmt.Errorf("%s: there is no disk of testbed %s whose counters could be sampled: provision it first", machine, t.Name())
	}
	return found, nil
}

func (t *Testbed) wanSource() witness.Source {
	return witness.Source{Role: witness.WAN, Reader: witness.InterfaceReader, Device: t.Inventory.WAN.Device}
}

const findTimeout = time.Minute

// testNet finds the network interface that has a host's address on the test
// network.
func (t *Testbed) testNet(ctx context.Context, host *inventory.Machine) (witness.Source, error) {
	source := witness.Source{Role: witness.TestNet, Reader: witness.InterfaceReader}
	result, err := t.hosts[host.Name].Run(ctx, remote.Command{
		Args: []string{"/sbin/ip", "-o", "addr", "show", "to", host.Address.String()}, Timeout: findTimeout})
	if err != nil {
		return source, fmt.Errorf("find the interface on the test network: %w", err)
	}
	// 3: br0    inet 198.18.0.1/24 scope global br0 ...
	// 3: br0    inet6 fd00::1/64 scope global ...
	fields := strings.Fields(string(result.Stdout))
	if len(fields) < 2 {
		return source, fmt.Errorf("%s: no network interface has the address %s", host.Name, host.Address)
	}
	source.Device, _, _ = strings.Cut(fields[1], "@")
	return source, nil
}

// classes are the classes of traffic on the WAN: the drivers' classes, and what
// Heliotrope itself sends. The traffic of a migration counts only between the
// sites' hosts.
func (t *Testbed) classes() []witness.Class {
	hosts := []netip.Addr{t.Inventory.SiteA().Address, t.Inventory.SiteB().Address}
	var all []witness.Class
	movers := []driver.Facets{t.hypervisors[storage.SiteA], t.hypervisors[storage.SiteB]} // the guest may leave either site, maybe with another transport
	if t.behind != nil {
		movers = append(movers, t.behind)
	}
	for _, mover := range movers {
		for _, class := range mover.Traffic() {
			class.Between = hosts
			if !slices.ContainsFunc(all, func(other witness.Class) bool { return reflect.DeepEqual(other, class) }) {
				all = append(all, class)
			}
		}
	}
	for _, system := range t.storages {
		all = append(all, system.Traffic()...)
	}
	return append(all, witness.OwnClasses(t.Inventory.EndA().Address, t.Inventory.EndB().Address, t.Inventory.Guest.Address.Addr())...)
}
