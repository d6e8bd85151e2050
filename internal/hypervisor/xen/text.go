package xen

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/hypervisor"
)

// domainConfig writes the domain's configuration in the format of xl.cfg(5).
func domainConfig(d hypervisor.Domain) (string, error) {
	for _, value := range []string{d.Name, d.Kernel, d.Ramdisk, d.Cmdline, d.Disk, d.MAC, d.Bridge} {
		if strings.ContainsAny(value, "\"'\\\n") || (value != d.Cmdline && strings.ContainsAny(value, ", ")) {
			return "", fmt.Errorf("domain %s: %q cannot be written into an xl configuration", d.Name, value)
		}
	}
	if d.MemoryMiB <= 0 || d.VCPUs <= 0 {
		return "", fmt.Errorf("domain %s: memory %d MiB, %d CPUs: both must be above zero", d.Name, d.MemoryMiB, d.VCPUs)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "name = \"%s\"\ntype = \"pvh\"\nkernel = \"%s\"\nramdisk = \"%s\"\ncmdline = \"%s\"\nmemory = %d\nvcpus = %d\n",
		d.Name, d.Kernel, d.Ramdisk, d.Cmdline, d.MemoryMiB, d.VCPUs)
	// A guest that ends must not vanish or come back: how it ended is a result.
	b.WriteString("on_poweroff = \"preserve\"\non_reboot = \"preserve\"\non_crash = \"preserve\"\n")
	if d.NativeTSC {
		b.WriteString("tsc_mode = \"native\"\n")
	}
	fmt.Fprintf(&b, "vif = [\"mac=%s,bridge=%s\"]\n", d.MAC, d.Bridge)
	if d.Disk != "" {
		fmt.Fprintf(&b, "disk = [\"phy:%s,xvda,w\"]\n", d.Disk)
	}
	return b.String(), nil
}

// parseInfo reads `xl info`: one "key : value" a line.
func parseInfo(text string) (hypervisor.HostInfo, error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	info := hypervisor.HostInfo{
		Hypervisor: "xen", Version: values["xen_version"], Kernel: values["release"],
		HardwareAssist: containsWord(values["virt_caps"], "hap"),
	}
	for key, target := range map[string]*int{
		"nr_cpus": &info.CPUs, "total_memory": &info.MemoryMiB, "free_memory": &info.FreeMemoryMiB,
	} {
		number, err := strconv.Atoi(values[key])
		if err != nil {
			return info, fmt.Errorf("xl info has no number for %s: %q", key, values[key])
		}
		*target = number
	}
	if info.Version == "" {
		return info, fmt.Errorf("xl info names no xen_version")
	}
	return info, nil
}

func containsWord(text, word string) bool {
	for _, field := range strings.Fields(text) {
		if field == word {
			return true
		}
	}
	return false
}

// parseList reads `xl list`: a header, then name, id, memory in MiB, CPUs,
// state letters and CPU seconds.
func parseList(text string) ([]hypervisor.State, error) {
	var states []hypervisor.State
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "Name" {
			continue
		}
		if len(fields) != 6 {
			return nil, fmt.Errorf("xl list: unreadable line %q", line)
		}
		id, idErr := strconv.Atoi(fields[1])
		memory, memoryErr := strconv.Atoi(fields[2])
		seconds, secondsErr := strconv.ParseFloat(fields[5], 64)
		if idErr != nil || memoryErr != nil || secondsErr != nil {
			return nil, fmt.Errorf("xl list: unreadable line %q", line)
		}
		states = append(states, hypervisor.State{
			Name: fields[0], ID: id, MemoryMiB: memory, Status: status(fields[0], fields[4]),
			CPUTime: time.Duration(seconds * float64(time.Second)),
		})
	}
	return states, nil
}

// status reads the state letters of xl list (xl(1)): r running, b blocked,
// p paused, s shut down, c crashed, d dying; none of them is waiting for a CPU.
// A domain that was suspended for a migration counts as shut down, too.
func status(name, letters string) hypervisor.Status {
	switch {
	case strings.HasSuffix(name, incomingSuffix), strings.HasSuffix(name, awaySuffix):
		return hypervisor.Leftover
	case strings.Contains(letters, "c"):
		return hypervisor.Crashed
	case strings.ContainsAny(letters, "sd"):
		return hypervisor.ShutDown
	case strings.Contains(letters, "p"):
		return hypervisor.Paused
	}
	return hypervisor.Running
}
