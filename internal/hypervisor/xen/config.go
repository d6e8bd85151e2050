package xen

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/hypervisor"
)

// domainConfig returns the domain's configuration for this host, in the format
// of xl.cfg(5).
func (h *Host) domainConfig(d hypervisor.Domain) (string, error) {
	script := h.file(d.Name, scriptEnd)
	for _, value := range []string{d.Name, d.Kernel, d.Ramdisk, d.Cmdline, d.Disk.Path, script, d.MAC, d.Bridge} {
		if strings.ContainsAny(value, "\"'\\\n") || (value != d.Cmdline && strings.ContainsAny(value, ", ")) {
			return "", fault.New(fault.BadInput, "domain %s: %q cannot be written into an xl configuration", d.Name, value)
		}
	}
	if d.MemoryMiB <= 0 || d.VCPUs <= 0 {
		return "", fault.New(fault.BadInput, "domain %s: memory %d MiB, %d CPUs: both must be above zero", d.Name, d.MemoryMiB, d.VCPUs)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "name = \"%s\"\nuuid = \"%s\"\ntype = \"pvh\"\nkernel = \"%s\"\nramdisk = \"%s\"\ncmdline = \"%s\"\nmemory = %d\nvcpus = %d\n",
		d.Name, d.UUID(), d.Kernel, d.Ramdisk, d.Cmdline, d.MemoryMiB, d.VCPUs)
	// A guest that ends must not vanish or be restarted: how it ended is a
	// result.
	b.WriteString("on_poweroff = \"preserve\"\non_reboot = \"preserve\"\non_crash = \"preserve\"\non_watchdog = \"preserve\"\n")
	if d.NativeTSC {
		b.WriteString("tsc_mode = \"native\"\n")
	}
	fmt.Fprintf(&b, "vif = [\"mac=%s,bridge=%s\"]\n", d.MAC, d.Bridge)
	if d.Disk.Path != "" {
		// target takes the rest of the line (xl-disk-configuration(5)).
		fmt.Fprintf(&b, "disk = [\"format=raw,vdev=%s,access=w,backendtype=phy,script=%s,target=%s\"]\n", guestDisk, script, d.Disk.Path)
	}
	return b.String(), nil
}

// write writes a file in the folder, which it makes and marks when it is not there.
func (h *Host) write(ctx context.Context, file, text string, mode fs.FileMode) error {
	files, err := h.remote.Files(ctx)
	if err != nil {
		return err
	}
	if err := folder.Make(files, h.Host(), h.ownFolder()); err != nil {
		return err
	}
	if err := files.MkdirAll(h.folder()); err != nil {
		return err
	}
	return files.ReplaceFile(file, []byte(text), mode)
}
