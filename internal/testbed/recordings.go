package testbed

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/guest"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// guestRunDir is where the guest keeps the folders of our processes. It is
// memory, as all of the guest but the disk under test.
const guestRunDir = "/run/heliotrope"

// runDir is where a host keeps the folders of a testbed's processes.
func runDir(host *inventory.Host, label string) string {
	return path.Join(host.DataDir, label+".run")
}

// RunDir is the folder of a process of ours on a host: a record.Process there
// is ended by the testbed's Teardown.
func RunDir(host *inventory.Host, label, name string) string {
	return path.Join(runDir(host, label), name)
}

// RunDir is the folder of a process of ours on a machine of the testbed.
func (t *Testbed) RunDir(machine, name string) string {
	if host := t.Inventory.Host(machine); host != nil {
		return RunDir(host, t.Name(), name)
	}
	return path.Join(guestRunDir, name)
}

// WorkerDir is where a worker of ours lives on a machine of the testbed. On a
// host it stays from trial to trial.
func (t *Testbed) WorkerDir(machine string) string {
	if host := t.Inventory.Host(machine); host != nil {
		return path.Join(host.DataDir, t.Name()+".worker")
	}
	return guest.WorkerDir
}

// LoadDir is the folder of a trial's load in the guest.
func (t *Testbed) LoadDir(ref trial.Ref) string { return t.RunDir(GuestName, "load-"+ref.Key()) }

// CountersDir is the folder of a trial's counters on a host.
func (t *Testbed) CountersDir(ref trial.Ref, host string) string {
	return t.RunDir(host, "counters-"+ref.Key())
}

// Load is the trial's workload in the guest, driven from here.
func (t *Testbed) Load(ref trial.Ref) (record.Recording, error) {
	return load.New(t.guest, t.LoadDir(ref), ref.Trial.Cell.Access, ref.Trial.Seed, guest.Device)
}

// Counters samples a host's counters, driven from here. The disk must be there
// when it is started.
func (t *Testbed) Counters(ref trial.Ref, host string) (record.Recording, error) {
	if t.Inventory.Host(host) == nil {
		return nil, t.unknown(host)
	}
	// The folder is all that a running one is known by.
	known, err := t.counters(ref, host, nil)
	if err != nil {
		return nil, err
	}
	return &lateCounters{Recording: known, start: func(ctx context.Context) error {
		devices, err := t.CounterDevices(ctx, host)
		if err != nil {
			return err
		}
		recording, err := t.counters(ref, host, devices)
		if err != nil {
			return err
		}
		return recording.Start(ctx)
	}}, nil
}

func (t *Testbed) counters(ref trial.Ref, host string, devices map[string]string) (record.Recording, error) {
	return witness.NewCounters(t.hosts[host], t.CountersDir(ref, host),
		witness.CountersConfig{Interval: witness.Interval, Devices: devices})
}

// lateCounters finds its devices when it is started.
type lateCounters struct {
	record.Recording
	start func(context.Context) error
}

func (c *lateCounters) Start(ctx context.Context) error { return c.start(ctx) }

// findDevices prints lines of a role and a device. Its arguments are the
// testbed's label and the host's address on the test network. The drivers of
// the storage systems name their things so that they are found here: DRBD's
// resource files, the targets of iSCSI, the images on NFS.
const findDevices = `
label=$1 address=$2
disk() {
	for file in "/etc/drbd.d/$label".*.res; do
		[ -e "$file" ] || continue
		while read -r key device _; do
			if [ "$key" = device ]; then
				echo "$device"
				return
			fi
		done < "$file"
	done
	for session in /sys/class/iscsi_session/session*; do
		[ -e "$session" ] && read -r target < "$session/targetname" || continue
		case $target in *":$label."*)
			for block in "$session"/device/target*/*/block/*; do
				[ -e "$block" ] && echo "/dev/${block##*/}" && return
			done ;;
		esac
	done
	for loop in /sys/block/loop*; do
		[ -e "$loop/loop/backing_file" ] && read -r file < "$loop/loop/backing_file" || continue
		case $file in *"/$label/nfs/"*) echo "/dev/${loop##*/}" && return ;; esac
	done
}
found=$(disk)
[ -n "$found" ] && echo "guest-disk $found"
/sbin/ip -o addr show to "$address" | while read -r _ name _; do echo "test-net ${name%@*}"; done`

const findTimeout = time.Minute

// CounterDevices finds the devices of a host whose counters are sampled, by
// role: see witness.CountersConfig. A site's host without a disk of ours is an
// error.
func (t *Testbed) CounterDevices(ctx context.Context, name string) (map[string]string, error) {
	host := t.Inventory.Host(name)
	if host == nil {
		return nil, t.unknown(name)
	}
	result, err := t.hosts[name].Run(ctx, remote.Command{
		Args: []string{"sh", "-c", findDevices, "find-devices", t.Name(), host.Address.String()}, Timeout: findTimeout})
	if err != nil {
		return nil, fmt.Errorf("find the devices to count: %w", err)
	}
	devices := map[string]string{}
	for line := range strings.Lines(string(result.Stdout)) {
		role, device, _ := strings.Cut(strings.TrimSpace(line), " ")
		devices[role] = device
	}
	if devices[witness.TestNet] == "" {
		return nil, fmt.Errorf("%s: no network interface has the address %s", name, host.Address)
	}
	if host.Hypervisor != "" && devices[witness.GuestDisk] == "" {
		return nil, fmt.Errorf("%s: there is no disk of testbed %s whose counters could be sampled: provision it first", name, t.Name())
	}
	if name == t.Inventory.WAN.Host {
		devices[witness.WAN] = t.Inventory.WAN.Device
	}
	return devices, nil
}

// sweep ends what runs in RunDir on every host, and removes it.
func (t *Testbed) sweep(ctx context.Context) error {
	hosts := t.Inventory.Hosts()
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() { errs[i] = record.Sweep(ctx, t.hosts[host.Name], runDir(host, t.Name())) })
	}
	all.Wait()
	return errors.Join(errs...)
}
