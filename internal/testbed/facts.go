package testbed

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/driver"
	"heliotrope/internal/gather"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/trial"
)

// describe prints lines with a name and a value; what a machine does not have is
// left out.
const describe = `
exec 2> /dev/null
echo "kernel $(uname -r)"
echo "cpus $(nproc)"
while read -r key value _; do
	[ "$key" = MemTotal: ] && echo "memory_mib $((value / 1024))"
done < /proc/meminfo
read -r vendor < /sys/class/dmi/id/sys_vendor && read -r product < /sys/class/dmi/id/product_name && echo "machine $vendor $product"
`

const describeTimeout = time.Minute

// Facts asks every host what it is. When hosts have different versions of a
// program, all versions are listed, separated by slashes. A machine that is
// neither a site's nor has a shell is left out.
func (t *Testbed) Facts(ctx context.Context) (Facts, error) {
	found, err := gather.Results(t.known(), func(machine trial.Machine) (hostFacts, error) { return t.describe(ctx, machine) })
	if err != nil {
		return Facts{}, fmt.Errorf("ask the hosts what they are: %w", err)
	}
	facts := Facts{Versions: map[string]string{}, GuestMemoryMiB: t.Inventory.Guest.MemoryMiB}
	for _, host := range found {
		facts.Hosts = append(facts.Hosts, host.HostFacts)
		if host.Hypervisor != "" && (facts.FreeMemoryMiB == 0 || host.freeMemoryMiB < facts.FreeMemoryMiB) {
			facts.FreeMemoryMiB = host.freeMemoryMiB
		}
		for name, version := range host.versions {
			addVersion(facts.Versions, name, version)
		}
	}
	return facts, nil
}

func addVersion(versions map[string]string, name, version string) {
	for known := range strings.SplitSeq(versions[name], " / ") {
		if known == version {
			return
		}
	}
	if versions[name] != "" {
		version = versions[name] + " / " + version
	}
	versions[name] = version
}

// hostFacts are the facts about one host.
type hostFacts struct {
	HostFacts
	versions      map[string]string
	freeMemoryMiB int // free memory for guests, when the host has a hypervisor
}

// known are the machines that can be asked for their facts.
func (t *Testbed) known() []trial.Machine {
	return slices.DeleteFunc(t.Machines(), func(m trial.Machine) bool { return m.Name == GuestName || !m.Shell && m.Site == "" })
}

// describe asks one host: over SSH when it has a shell, and through its hypervisor
// when it has one. Processors and memory are then those of the whole machine, as
// its hypervisor reports them, not those of its control domain.
func (t *Testbed) describe(ctx context.Context, machine trial.Machine) (hostFacts, error) {
	facts := hostFacts{HostFacts: HostFacts{Name: machine.Name, Site: machine.Site, End: machine.End, Lacks: t.lacks(machine)},
		versions: map[string]string{}}
	if machine.Shell {
		if err := t.ask(ctx, &facts); err != nil {
			return facts, err
		}
	}
	site, is := t.siteOf(machine.Name)
	if !is {
		return facts, nil
	}
	info, err := t.Hypervisor(site).Info(ctx)
	if err != nil {
		return facts, err
	}
	if !machine.Shell {
		facts.Kernel = info.Kernel
	}
	facts.Hypervisor = info.Hypervisor + " " + info.Version
	facts.CPUs, facts.MemoryMiB, facts.freeMemoryMiB = info.CPUs, info.MemoryMiB, info.FreeMemoryMiB
	facts.versions[info.Hypervisor] = info.Version
	return facts, nil
}

// lacks are the capabilities that a machine does not have. A clock that its
// hypervisor can read counts as a clock.
func (t *Testbed) lacks(machine trial.Machine) []inventory.Capability {
	host := t.Inventory.Machine(machine.Name)
	return slices.DeleteFunc(slices.Clone(inventory.Capabilities), func(c inventory.Capability) bool {
		return host.Has(c) || c == inventory.Worker || c == inventory.Clock && machine.Clock
	})
}

// ask asks a host that has a shell.
func (t *Testbed) ask(ctx context.Context, facts *hostFacts) error {
	script := t.script(describe, func(facets driver.Facets) string { return facets.Versions(facts.Name) })
	result, err := t.hosts[facts.Name].Run(ctx, remote.Command{Args: []string{"sh", "-c", script}, Env: []string{"LC_ALL=C"}, Timeout: describeTimeout})
	if err != nil {
		return err
	}
	if err := facts.parse(string(result.Stdout)); err != nil {
		return fmt.Errorf("%s: %w", facts.Name, err)
	}
	return nil
}

// parse reads the output of describe.
func (f *hostFacts) parse(text string) (err error) {
	f.versions = map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "kernel":
			f.Kernel = value
		case "cpus":
			f.CPUs, err = strconv.Atoi(value)
		case "memory_mib":
			f.MemoryMiB, err = strconv.Atoi(value)
		default:
			f.versions[name] = value
		}
		if err != nil {
			return fmt.Errorf("its %s: %w", name, err)
		}
	}
	if f.Kernel == "" || f.CPUs <= 0 || f.MemoryMiB <= 0 {
		return fmt.Errorf("it does not tell its kernel, processors and memory: %.200q", text)
	}
	return nil
}
