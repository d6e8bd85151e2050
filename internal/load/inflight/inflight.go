// Package inflight is one page of memory that the load shares with the guest's witness: it holds
// what is in flight, and which site is near.
//
// It promises that neither side ever waits for the other. A worker of the load publishes with a
// few stores to memory, and a reader that reads at the same time is told that its read was torn.
// docs/load.md has the page's layout.
//
// Dangerous: after the load has died, the page still has what the load wrote last.
package inflight

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The layout of the page: byte offsets.
const (
	magic       = "HTINFL1\n"
	pageBytes   = 4096
	tokenAt     = 8
	workersAt   = 16
	siteAt      = 20 // 1 byte, followed by 3 that are 0
	saidAt      = 24
	firstWorker = 32
	workerBytes = 64
	oldestAt    = 8  // offset in a worker's place; the worker's counter is at 0
	completedAt = 16 // likewise
	maxWorkers  = (pageBytes - firstWorker) / workerBytes
)

// tries is how often a worker's place is read before the read counts as torn.
const tries = 4

// Page is the shared page.
type Page struct {
	memory  []byte // mmapped
	workers int
}

// Create makes the page, for the load. It replaces an existing page: a process that has the old
// one open keeps it.
func Create(path string, token uint64, workers int) (*Page, error) {
	if workers < 1 || workers > maxWorkers {
		return nil, fmt.Errorf("the page of what is in flight: %d workers: want 1 to %d", workers, maxWorkers)
	}
	content := make([]byte, pageBytes)
	copy(content, magic)
	binary.LittleEndian.PutUint64(content[tokenAt:], token)
	binary.LittleEndian.PutUint32(content[workersAt:], uint32(workers))
	// The page is complete before it gets its name. Writing its bytes allocates its memory:
	// storing to a page without memory behind it would end the load with SIGBUS.
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("make the page of what is in flight: %w", err)
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path) //nolint:forbidigo // the load imports little (docs/load.md), and its folder is in memory
	}
	if err != nil {
		return nil, fmt.Errorf("make the page of what is in flight: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return Open(path, token)
}

// Open opens the page of an attempt's token, for the witness. The error is fs.ErrNotExist while
// there is no page.
func Open(path string, token uint64) (*Page, error) {
	page, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open the page of what is in flight: %w", err)
	}
	if is := binary.LittleEndian.Uint64(page.memory[tokenAt:]); string(page.memory[:tokenAt]) != magic || is != token {
		return nil, errors.Join(fmt.Errorf("%s is no page of what is in flight, or of attempt %d instead of %d", path, is, token), page.Close())
	}
	page.workers = int(binary.LittleEndian.Uint32(page.memory[workersAt:]))
	if page.workers < 1 || page.workers > maxWorkers {
		return nil, errors.Join(fmt.Errorf("%s says that it is of %d workers: want 1 to %d", path, page.workers, maxWorkers), page.Close())
	}
	return page, nil
}

func open(path string) (*Page, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() != pageBytes {
		return nil, errors.Join(err, fmt.Errorf("%s has not %d bytes", path, pageBytes))
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &Page{memory: memory}, nil
}

// Close unmaps the memory; the file stays.
func (p *Page) Close() error {
	if err := unix.Munmap(p.memory); err != nil {
		return fmt.Errorf("unmap the page of what is in flight: %w", err)
	}
	p.memory = nil
	return nil
}

// word returns eight bytes of the page, which is aligned; the machine must be little-endian.
func (p *Page) word(at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&p.memory[at])) //nolint:gosec // within the page
}

// site returns the near site's byte with the three zero bytes after it.
func (p *Page) site() *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&p.memory[siteAt])) //nolint:gosec // within the page
}

func place(worker int) int { return firstWorker + worker*workerBytes }

// Set publishes the submission time of a worker's oldest I/O in flight, by the guest's wall clock
// in ns (0: none), and the number of its completed I/Os. Only one goroutine may do so for each
// worker.
func (p *Page) Set(worker int, oldestNs int64, completed uint64) {
	at := place(worker)
	counter := p.word(at)
	counter.Add(1)
	p.word(at + oldestAt).Store(uint64(oldestNs)) //nolint:gosec // read back as it was
	p.word(at + completedAt).Store(completed)
	counter.Add(1)
}

// Get returns the oldest submission time of all workers and the sum of their completed I/Os. ok
// is false when a worker was writing at the same time.
func (p *Page) Get() (oldestNs int64, completed uint64, ok bool) {
	for worker := range p.workers {
		oldest, done, ok := p.get(place(worker))
		if !ok {
			return 0, 0, false
		}
		completed += done
		if oldest != 0 && (oldestNs == 0 || oldest < oldestNs) {
			oldestNs = oldest
		}
	}
	return oldestNs, completed, true
}

func (p *Page) get(at int) (oldestNs int64, completed uint64, ok bool) {
	counter := p.word(at)
	for range tries {
		before := counter.Load()
		oldestNs, completed = int64(p.word(at+oldestAt).Load()), p.word(at+completedAt).Load() //nolint:gosec // written from an int64
		if before%2 == 0 && counter.Load() == before {
			return oldestNs, completed, true
		}
	}
	return 0, 0, false
}

// SetNear publishes at which site the guest's domain runs ('a', 'b', or 0 for neither), and when
// the guest heard so, by its CLOCK_MONOTONIC, which no migration steps. Each change of site must
// come with a new time: if a time were used for two sites, Near could not detect the change.
func (p *Page) SetNear(site byte, atNs int64) {
	said := p.word(saidAt)
	said.Store(0)
	p.site().Store(uint32(site))
	said.Store(uint64(atNs)) //nolint:gosec // read back as it was
}

// Near returns the site that was published and when: 0 and 0 when none was, or when SetNear is
// running.
func (p *Page) Near() (site byte, atNs int64) {
	said := p.word(saidAt)
	at := said.Load()
	site = byte(p.site().Load()) //nolint:gosec // one byte was stored
	if at == 0 || said.Load() != at {
		return 0, 0
	}
	return site, int64(at) //nolint:gosec // written from an int64
}
