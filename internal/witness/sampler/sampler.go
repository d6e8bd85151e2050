// Package sampler reads a host's counters, as package witness names them: all of them every
// witness.Interval, and the few counters of the guest's disk that show a stall every
// witness.DiskInterval. Only the program on the host uses it.
//
// It promises that a source that does not exist is left out of a sample, and is sampled again
// once it exists; and that the files of /proc and /sys which are read often stay open: a sample
// of the disk is one system call.
//
// Dangerous: a sample of the disk was read at its time, but in a sample of everything the other
// counters are read one after the other, some ms later on a slow host. Files of configfs and of
// modules are opened for each read: an open file would prevent the storage from being torn down.
package sampler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/pace"
	"heliotrope/internal/witness"
)

// Sampler samples the counters of one host. It must not be used by several goroutines.
type Sampler struct {
	sources []source
	disk    *source // the guest's disk, one of sources, or nil
	more    func(to []byte) ([]byte, error)

	stat, memory *Kept
	adjust       adjust
	samples      int64
	sample       Sample
}

// source is what is sampled under one role.
type source struct {
	role   string
	reader Reader
}

var (
	tickNames = []string{"user_ticks", "nice_ticks", "system_ticks", "idle_ticks", "iowait_ticks", "irq_ticks", "softirq_ticks", "steal_ticks"}
	diskNames = []string{"reads", "read_merges", "read_sectors", "read_ms", "writes", "write_merges", "write_sectors", "write_ms", "in_flight", "io_ms"}
	traffic   = []string{"rx_bytes", "rx_packets", "rx_dropped", "tx_bytes", "tx_packets", "tx_dropped"}
)

// New returns a sampler of the sources of a checked configuration, with the drivers' readers
// besides the general ones. more adds lines `device name value` to each sample of everything; it
// may be nil. A source whose reader is not known is an error.
func New(sources []witness.Source, drivers Readers, more func(to []byte) ([]byte, error)) (*Sampler, error) {
	return newIn(Roots{Proc: "/proc", Sys: "/sys"}, sources, drivers, more)
}

func newIn(roots Roots, sources []witness.Source, drivers Readers, more func(to []byte) ([]byte, error)) (*Sampler, error) {
	s := &Sampler{more: more, adjust: unix.Adjtimex,
		// Only the first line of stat and the third line of meminfo are needed.
		stat: Keep(roots.Proc+"/stat", 1<<9), memory: Keep(roots.Proc+"/meminfo", 1<<9)}
	for _, wanted := range sources {
		var open Open
		switch wanted.Reader {
		case witness.BlockReader:
			open = openBlock
		case witness.InterfaceReader:
			open = openCard
		default:
			open = drivers[wanted.Reader]
		}
		if open == nil {
			return nil, fmt.Errorf("nobody reads the counters of %q: this program has no reader %q", wanted.Role, wanted.Reader)
		}
		s.sources = append(s.sources, source{wanted.Role, open(wanted, roots)})
	}
	for i := range s.sources {
		if s.sources[i].role == witness.GuestDisk {
			s.disk = &s.sources[i]
		}
	}
	return s, nil
}

// Run samples until the context ends, which is no error. It writes whole samples, at least every
// witness.Interval, and then calls done with the number of samples of everything.
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
	_, err := out.Write(s.sample.buffer)
	s.sample.buffer = s.sample.buffer[:0]
	if err != nil {
		return fmt.Errorf("write the counters: %w", err)
	}
	return nil
}

// sampleDisk adds a sample of the disk alone. An empty sample is left out.
func (s *Sampler) sampleDisk(now time.Time) {
	before := len(s.sample.buffer)
	s.begin(now)
	empty := len(s.sample.buffer)
	s.read(s.disk, true)
	if len(s.sample.buffer) == empty {
		s.sample.buffer = s.sample.buffer[:before]
		return
	}
	s.end()
}

func (s *Sampler) read(from *source, frequent bool) {
	s.sample.Role = from.role
	from.reader.Read(&s.sample, frequent)
}

// sampleAll adds a sample of everything, the disk first.
func (s *Sampler) sampleAll(now time.Time, out io.Writer, done func(int64) error) error {
	s.begin(now)
	if s.disk != nil {
		s.read(s.disk, false)
	}
	if err := s.machine(); err != nil {
		return err
	}
	for i := range s.sources {
		if from := &s.sources[i]; from != s.disk {
			s.read(from, false)
		}
	}
	if s.more != nil {
		var err error
		if s.sample.buffer, err = s.more(s.sample.buffer); err != nil {
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
	s.sample.buffer = append(s.sample.buffer, '@')
	s.sample.buffer = strconv.AppendInt(s.sample.buffer, now.UnixNano(), 10)
	s.sample.buffer = append(s.sample.buffer, '\n')
}

func (s *Sampler) end() { s.sample.buffer = append(s.sample.buffer, ".\n"...) }

// machine adds the counters that any Linux has; a sample without them is an error.
func (s *Sampler) machine() error {
	line, found := cutPrefix(s.stat.Read(), "cpu ")
	if !found {
		return errors.New("there is no line of all processors in " + s.stat.path)
	}
	s.sample.Role = witness.CPU
	s.sample.Columns(tickNames, line, nil)
	s.sample.Role = witness.Memory
	for line := range bytes.Lines(s.memory.Read()) {
		for key, name := range memoryNames {
			if rest, found := cutPrefix(line, key); found {
				s.sample.Scaled(name, First(rest), 1<<10)
			}
		}
	}
	s.clock()
	return nil
}

// memoryNames maps the keys of /proc/meminfo, whose values are in KiB, to counters.
var memoryNames = map[string]string{"MemFree:": "free_bytes", "MemAvailable:": "available_bytes"}

func (s *Sampler) close() {
	s.stat.Close()
	s.memory.Close()
	for _, from := range s.sources {
		from.reader.Close()
	}
}
