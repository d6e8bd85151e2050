package xen

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/hypervisor"
)

// info is the output of `xl info`.
type info struct {
	hypervisor.HostInfo
	virtual   []string // virt_caps: the kinds of guests that the host can run
	processor []uint32 // hw_caps: words of CPUID's feature bits
	// ownsMemory says that the control domain's memory is fixed, so that only
	// free memory can be given to a guest.
	ownsMemory bool
}

// Info asks `xl info`.
func (h *Host) Info(ctx context.Context) (hypervisor.HostInfo, error) {
	found, err := h.info(ctx)
	return found.HostInfo, err
}

func (h *Host) info(ctx context.Context) (info, error) {
	result, err := h.xl(ctx, "info")
	if err != nil {
		return info{}, err
	}
	found, err := parseInfo(string(result.Stdout))
	if err != nil {
		return found, fmt.Errorf("%s: %w", h.Host(), err)
	}
	return found, nil
}

// parseInfo reads `xl info`, which has one "key : value" on each line.
func parseInfo(text string) (info, error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	found := info{
		HostInfo:   hypervisor.HostInfo{Hypervisor: Kind.Name, Version: values["xen_version"], Kernel: values["release"]},
		virtual:    strings.Fields(values["virt_caps"]),
		ownsMemory: strings.Contains(values["xen_commandline"], "dom0_mem="),
	}
	for key, target := range map[string]*int{
		"nr_cpus": &found.CPUs, "total_memory": &found.MemoryMiB, "free_memory": &found.FreeMemoryMiB,
	} {
		number, err := strconv.Atoi(values[key])
		if err != nil || number < 0 {
			return found, fmt.Errorf("xl info has no number for %s: %q", key, values[key])
		}
		*target = number
	}
	if found.Version == "" {
		return found, fmt.Errorf("xl info names no xen_version")
	}
	if caps := values["hw_caps"]; caps != "" {
		for word := range strings.SplitSeq(caps, ":") {
			bits, err := strconv.ParseUint(word, 16, 32)
			if err != nil {
				return found, fmt.Errorf("xl info's hw_caps %q: %w", caps, err)
			}
			found.processor = append(found.processor, uint32(bits))
		}
	}
	return found, nil
}

func (i info) can(capability string) bool { return slices.Contains(i.virtual, capability) }

// lacks are the features that the other processor has and this one does not, as
// words of hw_caps; "" when this one has them all.
func (i info) lacks(other info) string {
	missing, lacking := make([]string, len(other.processor)), false
	for at, wanted := range other.processor {
		var have uint32
		if at < len(i.processor) {
			have = i.processor[at]
		}
		missing[at] = fmt.Sprintf("%08x", wanted&^have)
		lacking = lacking || wanted&^have != 0
	}
	if !lacking {
		return ""
	}
	return strings.Join(missing, ":")
}

// isOlder compares versions such as "4.17.7" by their numbers.
func isOlder(version, than string) bool {
	return slices.Compare(numbers(version), numbers(than)) < 0
}

// numbers are the leading numbers of a version's parts: "4.17.7-pre" has 4, 17
// and 7.
func numbers(version string) []int {
	var found []int
	for part := range strings.SplitSeq(version, ".") {
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(part)
		}
		number, err := strconv.Atoi(part[:end])
		if err != nil {
			break
		}
		found = append(found, number)
	}
	return found
}
