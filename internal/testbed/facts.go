package testbed

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/driver"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
)

// describe prints lines of a name and a value; what a machine does not have is
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

// Facts asks every host what it is. Where hosts differ in a version, all of
// them are told, separated by slashes.
func (t *Testbed) Facts(ctx context.Context) (Facts, error) {
	found, err := gather(t.shells(), func(host *inventory.Machine) (hostFacts, error) { return t.describe(ctx, host) })
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

// hostFacts are what is known of one host.
type hostFacts struct {
	HostFacts
	versions      map[string]string
	freeMemoryMiB int // of a hypervisor, for guests
}

// describe asks one host. A hypervisor's processors and memory are the
// machine's, not those of its control domain.
func (t *Testbed) describe(ctx context.Context, host *inventory.Machine) (hostFacts, error) {
	facts := hostFacts{HostFacts: HostFacts{Name: host.Name}}
	script := t.script(describe, func(facets driver.Facets) string { return facets.Versions(host.Name) })
	result, err := t.hosts[host.Name].Run(ctx, remote.Command{Args: []string{"sh", "-c", script}, Env: []string{"LC_ALL=C"}, Timeout: describeTimeout})
	if err != nil {
		return facts, err
	}
	if err := facts.parse(string(result.Stdout)); err != nil {
		return facts, fmt.Errorf("%s: %w", host.Name, err)
	}
	for _, site := range sites {
		if t.Site(site).Name != host.Name {
			continue
		}
		info, err := t.Hypervisor(site).Info(ctx)
		if err != nil {
			return facts, err
		}
		facts.Hypervisor = info.Hypervisor + " " + info.Version
		facts.CPUs, facts.MemoryMiB, facts.freeMemoryMiB = info.CPUs, info.MemoryMiB, info.FreeMemoryMiB
		facts.versions[info.Hypervisor] = info.Version
	}
	return facts, nil
}

// parse reads what describe prints.
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
	if f.Kernel == "" || f.CPUs == 0 || f.MemoryMiB == 0 {
		return fmt.Errorf("it does not tell its kernel, processors and memory: %.200q", text)
	}
	return nil
}
