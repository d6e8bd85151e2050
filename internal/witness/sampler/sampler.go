// Package sampler reads a host's counters, as package witness names them, all
// of them every witness.Interval and the few of the guest's disk that show a
// stall every witness.DiskInterval. Only the program on the host uses it.
//
// It promises that what is not there is left out of a sample and found again
// when it is, and that the files of /proc and /sys which are read often stay
// open: a sample of the disk is one system call.
//
// Dangerous: a disk's sample is as old as its time says, but the others of a
// sample of everything are read one after the other, some ms later on a slow
// host. Files of configfs and of modules are opened for each reading: an open
// one would keep the storage from being torn down.
package sampler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"time"

	"heliotrope/internal/pace"
	"heliotrope/internal/witness"
)

// Sampler samples the counters of one host. Not for use by several goroutines.
type Sampler struct {
	proc, sys string // where they are mounted
	devices   map[string]string
	more      func(to []byte) ([]byte, error)

	stat, memory, disk *kept
	network            []interfaceFiles
	samples            int64
	buffer             []byte
}

// interfaceFiles are the files of a network interface in the order of traffic.
type interfaceFiles struct {
	role  string
	files []*kept
}

var (
	tickNames = []string{"user_ticks", "nice_ticks", "system_ticks", "idle_ticks", "iowait_ticks", "irq_ticks", "softirq_ticks", "steal_ticks"}
	diskNames = []string{"reads", "read_merges", "read_sectors", "read_ms", "writes", "write_merges", "write_sectors", "write_ms", "in_flight", "io_ms"}
	traffic   = []string{"rx_bytes", "rx_packets", "rx_dropped", "tx_bytes", "tx_packets", "tx_dropped"}
)

// New samples the devices of a configuration that has been checked. more adds
// lines `device name value` to each sample of everything; it may be nil.
func New(devices map[string]string, more func(to []byte) ([]byte, error)) *Sampler {
	return newIn("/proc", "/sys", devices, more)
}

func newIn(proc, sys string, devices map[string]string, more func(to []byte) ([]byte, error)) *Sampler {
	s := &Sampler{proc: proc, sys: sys, devices: devices, more: more,
		// The first line of stat is all that is wanted, and of meminfo the third.
		stat: keep(proc+"/stat", 1<<9), memory: keep(proc+"/meminfo", 1<<9)}
	if device := devices[witness.GuestDisk]; device != "" {
		s.disk = keep(path.Join(sys, "class/block", path.Base(device), "stat"), 1<<9)
	}
	for _, role := range []string{witness.TestNet, witness.WAN} {
		if device := devices[role]; device != "" {
			one := interfaceFiles{role: role}
			for _, name := range traffic {
				one.files = append(one.files, keep(path.Join(sys, "class/net", device, "statistics", name), 1<<6))
			}
			s.network = append(s.network, one)
		}
	}
	return s
}

// Run samples until the context ends, which is no error. What it has is written
// at least every witness.Interval, in whole samples; then done is told how many
// samples of everything there are.
func (s *Sampler) Run(ctx context.Context, out io.Writer, done func(samples int64) error) error {
	interval := witness.Interval
	if s.disk != nil {
		interval = witness.DiskInterval
	}
	ticker, err := pace.New(interval)
	if err != nil {
		return err
	}
	defer ticker.Stop()
	return s.run(ctx, ticker.C, out, done)
}

func (s *Sampler) run(ctx context.Context, ticks <-chan time.Time, out io.Writer, done func(samples int64) error) error {
	defer s.close()
	for next := time.Now(); ; {
		now := time.Now()
		if s.disk != nil && now.Add(witness.DiskInterval/2).Before(next) {
			s.sampleDisk(now)
		} else {
			if next = next.Add(witness.Interval); next.Before(now) {
				next = now.Add(witness.Interval)
			}
			if err := s.sampleAll(now, out, done); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return s.flush(out)
		case <-ticks:
		}
	}
}

func (s *Sampler) flush(out io.Writer) error {
	_, err := out.Write(s.buffer)
	s.buffer = s.buffer[:0]
	if err != nil {
		return fmt.Errorf("write the counters: %w", err)
	}
	return nil
}

// sampleDisk adds a sample of the disk alone.
func (s *Sampler) sampleDisk(now time.Time) {
	if text := s.disk.read(); text != nil {
		s.begin(now)
		s.columns(witness.GuestDisk, diskNames, text, witness.DiskNames)
		s.end()
	}
}

// sampleAll adds a sample of everything, the disk first.
func (s *Sampler) sampleAll(now time.Time, out io.Writer, done func(int64) error) error {
	s.begin(now)
	if s.disk != nil {
		s.columns(witness.GuestDisk, diskNames, s.disk.read(), nil)
	}
	if err := s.host(); err != nil {
		return err
	}
	for _, one := range s.network {
		for i, file := range one.files {
			s.columns(one.role, traffic[i:i+1], file.read(), nil)
		}
	}
	if device := s.devices[witness.DRBD]; device != "" {
		s.drbd(device)
	}
	if device := s.devices[witness.Target]; device == witness.NFSD {
		s.nfsd()
	} else if device != "" {
		s.lun(device)
	}
	if s.more != nil {
		var err error
		if s.buffer, err = s.more(s.buffer); err != nil {
			return err
		}
	}
	s.end()
	if err := s.flush(out); err != nil {
		return err
	}
	s.samples++
	return done(s.samples)
}

func (s *Sampler) begin(now time.Time) {
	s.buffer = append(s.buffer, '@')
	s.buffer = strconv.AppendInt(s.buffer, now.UnixNano(), 10)
	s.buffer = append(s.buffer, '\n')
}

func (s *Sampler) end() { s.buffer = append(s.buffer, ".\n"...) }

// value adds a line, if the text is a number.
func (s *Sampler) value(device, name string, digits []byte) {
	if len(digits) == 0 {
		return
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return
		}
	}
	s.buffer = append(append(append(append(s.buffer, device...), ' '), name...), ' ')
	s.buffer = append(append(s.buffer, digits...), '\n')
}

// number adds a line.
func (s *Sampler) number(device, name string, value int64) {
	s.buffer = witness.AppendCounter(s.buffer, device, name, value)
}

// host adds what any Linux has: without it the sample would be worth nothing.
func (s *Sampler) host() error {
	line, found := cutPrefix(s.stat.read(), "cpu ")
	if !found {
		return errors.New("there is no line of all processors in " + s.stat.path)
	}
	s.columns(witness.CPU, tickNames, line, nil)
	for line := range lines(s.memory.read()) {
		for key, name := range memoryNames {
			if rest, found := cutPrefix(line, key); found {
				s.scaled(witness.Memory, name, first(rest), 1<<10)
			}
		}
	}
	return nil
}

// memoryNames by the keys of /proc/meminfo, whose values are KiB.
var memoryNames = map[string]string{"MemFree:": "free_bytes", "MemAvailable:": "available_bytes"}

func (s *Sampler) close() {
	all := []*kept{s.stat, s.memory}
	if s.disk != nil {
		all = append(all, s.disk)
	}
	for _, one := range s.network {
		all = append(all, one.files...)
	}
	for _, file := range all {
		file.close()
	}
}
