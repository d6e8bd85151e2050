package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"heliotrope/internal/gather"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
)

// losetup is named with its folder, because a login shell from busybox would otherwise run busybox's losetup,
// which can do less.
const losetup = "/sbin/losetup"

// Loop is an attached loop device.
type Loop struct {
	Device string // such as /dev/loop3
	File   string // the file behind it, by the kernel's name
	Direct bool   // it bypasses the page cache when it reads and writes the file
}

// loopDevice matches a loop device's name, which a host reports and which becomes an argument of commands
// there.
var loopDevice = regexp.MustCompile(`^/dev/loop[0-9]+$`)

// ParseLoops reads the output of
//
//	losetup --list --json --output NAME,DIO,BACK-FILE
//
// (losetup(8), util-linux), which is empty when there is no loop device. DIO is
// a boolean, but the string "1" or "0" before util-linux 2.33.
func ParseLoops(output string) ([]Loop, error) {
	if strings.TrimSpace(output) == "" {
		return nil, nil
	}
	var list struct {
		LoopDevices []struct {
			Name     string          `json:"name"`
			Direct   json.RawMessage `json:"dio"`
			BackFile *string         `json:"back-file"`
		} `json:"loopdevices"`
	}
	if err := json.Unmarshal([]byte(output), &list); err != nil {
		return nil, fmt.Errorf("list of loop devices: %w", err)
	}
	var loops []Loop
	for _, device := range list.LoopDevices {
		if device.Name == "" || device.BackFile == nil {
			continue // it was detached while losetup ran
		}
		if !loopDevice.MatchString(device.Name) {
			return nil, fmt.Errorf("list of loop devices: %.100q is none", device.Name)
		}
		direct := strings.Trim(string(device.Direct), `"`)
		loops = append(loops, Loop{
			Device: device.Name, Direct: direct == "true" || direct == "1",
			File: strings.TrimSuffix(*device.BackFile, " (deleted)"),
		})
	}
	return loops, nil
}

// Loops lists the loop devices over files inside folder, or over folder itself if that is a file.
func (n *Node) Loops(ctx context.Context, folder string) ([]Loop, error) {
	output, err := n.Run(ctx, losetup, "--list", "--json", "--output", "NAME,DIO,BACK-FILE")
	if err != nil {
		return nil, err
	}
	all, err := ParseLoops(output)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name(), err)
	}
	var inside []Loop
	for _, loop := range all {
		if loop.File == folder || strings.HasPrefix(loop.File, folder+"/") {
			inside = append(inside, loop)
		}
	}
	return inside, nil
}

// AttachLoop makes a loop device over a file inside folder, with direct I/O, or finds it. When the file system
// cannot do direct I/O, like tmpfs, that is an error if mustDirect is set; otherwise the page cache is used.
func (n *Node) AttachLoop(ctx context.Context, folder, file string, mustDirect bool) (string, error) {
	return n.attach(ctx, folder, file, mustDirect)
}

// AttachReadOnly is AttachLoop for a file that must not be written through the device.
func (n *Node) AttachReadOnly(ctx context.Context, folder, file string) (string, error) {
	return n.attach(ctx, folder, file, false, "--read-only")
}

func (n *Node) attach(ctx context.Context, folder, file string, mustDirect bool, options ...string) (string, error) {
	loop, err := n.loopOver(ctx, folder, file)
	if err != nil {
		return "", err
	}
	if loop == nil {
		find := append([]string{losetup, "--find"}, options...)
		_, err := n.Run(ctx, append(slices.Clone(find), "--direct-io=on", file)...)
		if _, ended := remote.ExitCode(err); err != nil && ended && !mustDirect {
			_, err = n.Run(ctx, append(find, file)...)
		}
		if err != nil {
			return "", err
		}
		if loop, err = n.loopOver(ctx, folder, file); err != nil {
			return "", err
		}
	}
	switch {
	case loop == nil:
		return "", fmt.Errorf("%s: losetup made a loop device over %s, but it is not in its list", n.Name(), file)
	case mustDirect && !loop.Direct:
		return "", fmt.Errorf("%s: %s over %s does no direct I/O, so that one site could read what the other has long overwritten: use a data_dir on a file system that can (and tear down)",
			n.Name(), loop.Device, file)
	}
	return loop.Device, nil
}

// loopOver finds the one loop device over a file; nil when there is none.
func (n *Node) loopOver(ctx context.Context, folder, file string) (*Loop, error) {
	loops, err := n.Loops(ctx, folder)
	if err != nil {
		return nil, err
	}
	var found *Loop
	for i := range loops {
		if loops[i].File != file {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%s: both %s and %s are loop devices over %s: tear the testbed's disks down first",
				n.Name(), found.Device, loops[i].Device, file)
		}
		found = &loops[i]
	}
	return found, nil
}

// DetachLoops detaches every loop device over a file inside folder, or over folder itself if that is a file.
// losetup -d succeeds even for a device in use, which is then detached by its last user: that is an error here.
func (n *Node) DetachLoops(ctx context.Context, folder string) error {
	loops, err := n.Loops(ctx, folder)
	if err != nil || len(loops) == 0 {
		return err
	}
	var errs []error
	for _, loop := range loops {
		_, err := n.Run(ctx, losetup, "--detach", loop.Device)
		errs = append(errs, err)
	}
	left, err := n.Loops(ctx, folder)
	errs = append(errs, err)
	for _, loop := range left {
		errs = append(errs, fmt.Errorf("%s: %s over %s is still in use (by a domain or a mount?): end that and tear down again", n.Name(), loop.Device, loop.File))
	}
	return errors.Join(errs...)
}

// Each calls do for both sites at the same time and joins the errors.
func Each(do func(site storage.Site) error) error {
	return gather.Each([]storage.Site{storage.SiteA, storage.SiteB}, do)
}
