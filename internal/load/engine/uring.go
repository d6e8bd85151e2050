package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// Constants of linux/io_uring.h, with their names there and the first Linux version that has
// them.
const (
	offSQRing = 0          // IORING_OFF_SQ_RING
	offSQEs   = 0x10000000 // IORING_OFF_SQES

	setupSingleIssuer = 1 << 12 // IORING_SETUP_SINGLE_ISSUER, 6.0
	setupDeferTaskrun = 1 << 13 // IORING_SETUP_DEFER_TASKRUN, 6.1

	featSingleMmap = 1 << 0 // IORING_FEAT_SINGLE_MMAP, 5.4
	featExtArg     = 1 << 8 // IORING_FEAT_EXT_ARG, 5.11

	enterGetEvents = 1 << 0 // IORING_ENTER_GETEVENTS
	enterExtArg    = 1 << 3 // IORING_ENTER_EXT_ARG

	registerFiles   = 2 // IORING_REGISTER_FILES
	unregisterFiles = 3 // IORING_UNREGISTER_FILES

	opTimeout = 11 // IORING_OP_TIMEOUT, 5.4
	opRead    = 22 // IORING_OP_READ, 5.6
	opWrite   = 23 // IORING_OP_WRITE, 5.6

	fixedFile = 1 << 0 // IOSQE_FIXED_FILE
)

// uringParams is struct io_uring_params.
type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	_                                                                      [3]uint32
	sq                                                                     sqOffsets
	cq                                                                     cqOffsets
}

// sqOffsets is struct io_sqring_offsets.
type sqOffsets struct {
	head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
	_                                                           uint64
}

// cqOffsets is struct io_cqring_offsets.
type cqOffsets struct {
	head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
	_                                                           uint64
}

// sqe is struct io_uring_sqe.
type sqe struct {
	opcode, flags uint8
	_             uint16
	file          int32
	offset        uint64
	address       uint64
	length        uint32
	_             uint32
	userData      uint64
	_             [3]uint64
}

// cqe is struct io_uring_cqe.
type cqe struct {
	userData uint64
	result   int32
	_        uint32
}

// eventsArg is struct io_uring_getevents_arg, followed by the struct __kernel_timespec that it
// points to.
type eventsArg struct {
	sigmask     uint64
	sigmaskSize uint32
	_           uint32
	timeout     uint64
	seconds     int64
	nanoseconds int64
}

const eventsArgBytes = 24 // of struct io_uring_getevents_arg

// tickData is the userData of the tick: no slot has this number.
const tickData = 1 << 63

// ring is a device that uses io_uring(7). It belongs to the thread that made it.
//
// Limits of lookEvery or more are enforced by one timeout operation that is always in flight, the
// tick. A limit for each wait would instead set a timer for each I/O and cancel it again.
type ring struct {
	fd             int
	params         uringParams
	rings, entries []byte // mmapped: both rings, and the entries of the submission ring
	extra          []byte // mmapped: memory for arg and tick
	arg            *eventsArg
	tick           *unix.Timespec // its length, as a struct __kernel_timespec
	ticking        bool           // the tick is in flight
	failed         error          // why an I/O could not be begun; the next wait returns it
	begun          []beginning    // by slot
	sqHead, sqTail *atomic.Uint32
	cqHead, cqTail *atomic.Uint32
	tail           uint32 // of the submission ring, as written to sqTail
}

// beginning is an I/O and how often it was begun.
type beginning struct {
	entry sqe
	times int
}

// mostTimes is how often an I/O is begun when the kernel cancels it before doing any of it.
const mostTimes = 100

// openRing makes a ring with the given number of slots, and registers the files with it.
func openRing(files []int, slots int) (device, error) {
	r, err := newRing(slots)
	if err != nil {
		return nil, err
	}
	descriptors := make([]int32, len(files))
	for i, file := range files {
		descriptors[i] = int32(file) //nolint:gosec // a descriptor
	}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerFiles,
		uintptr(unsafe.Pointer(&descriptors[0])), uintptr(len(descriptors)), 0, 0) //nolint:gosec // as many as is said
	if errno != 0 {
		return nil, errors.Join(fmt.Errorf("io_uring_register %d files: %w", len(files), errno), r.free())
	}
	return r, nil
}

// newRing makes a ring whose completions only its own thread processes, when the kernel supports
// that. A kernel without EXT_ARG is treated as one without io_uring.
func newRing(slots int) (*ring, error) {
	r := &ring{params: uringParams{flags: setupSingleIssuer | setupDeferTaskrun}, begun: make([]beginning, slots)}
	entries := slots + 1 // and the tick
	err := r.setup(entries)
	if errors.Is(err, unix.EINVAL) {
		r.params = uringParams{}
		err = r.setup(entries)
	}
	if err != nil {
		return nil, fmt.Errorf("io_uring_setup: %w", err)
	}
	if err := r.mapRings(); err != nil {
		return nil, errors.Join(err, r.free())
	}
	return r, nil
}

func (r *ring) setup(entries int) error {
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&r.params)), 0) //nolint:gosec // its structure
	if errno != 0 {
		return errno
	}
	r.fd = int(fd)
	unix.CloseOnExec(r.fd)
	if needed := uint32(featSingleMmap | featExtArg); r.params.features&needed != needed {
		return errors.Join(fmt.Errorf("its features are %#x, of before Linux 5.11: %w", r.params.features, unix.ENOSYS), r.free())
	}
	return nil
}

func (r *ring) mapRings() (err error) {
	p := &r.params
	bytes := max(p.sq.array+4*p.sqEntries, p.cq.cqes+uint32(unsafe.Sizeof(cqe{}))*p.cqEntries)
	if r.rings, err = r.mmap(offSQRing, bytes); err != nil {
		return err
	}
	if r.entries, err = r.mmap(offSQEs, uint32(unsafe.Sizeof(sqe{}))*p.sqEntries); err != nil {
		return err
	}
	argBytes := int(unsafe.Sizeof(eventsArg{}))
	if r.extra, err = pages(argBytes + int(unsafe.Sizeof(unix.Timespec{}))); err != nil {
		return err
	}
	r.arg = (*eventsArg)(unsafe.Pointer(&r.extra[0]))             //nolint:gosec // as long as is said
	r.tick = (*unix.Timespec)(unsafe.Pointer(&r.extra[argBytes])) //nolint:gosec // behind it
	*r.tick = unix.NsecToTimespec(int64(lookEvery))
	r.sqHead, r.sqTail, r.cqHead, r.cqTail = r.word(p.sq.head), r.word(p.sq.tail), r.word(p.cq.head), r.word(p.cq.tail)
	r.tail = r.sqTail.Load()
	for i := range p.sqEntries {
		r.word(p.sq.array + 4*i).Store(i) // entry n of the ring is always entry n of the array
	}
	return nil
}

func (r *ring) mmap(offset int64, bytes uint32) ([]byte, error) {
	memory, err := unix.Mmap(r.fd, offset, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of io_uring's rings: %w", bytes, err)
	}
	return memory, nil
}

func (r *ring) word(at uint32) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.rings[at])) //nolint:gosec // within the rings
}

// flags names the flags that the kernel has accepted.
func (r *ring) flags() string {
	var names []string
	for _, flag := range []struct {
		bit  uint32
		name string
	}{{setupSingleIssuer, "SINGLE_ISSUER"}, {setupDeferTaskrun, "DEFER_TASKRUN"}} {
		if r.params.flags&flag.bit != 0 {
			names = append(names, flag.name)
		}
	}
	return strings.Join(names, " ")
}

// submit begins each I/O with a system call of its own, as fio does and Iometer did. The call
// that waits begins the last one: submit holds one I/O until the next I/O comes or the worker
// waits, a microsecond at most. In a batch, an I/O's stamp would precede the call by the time
// that the batch's other I/Os take.
func (r *ring) submit(slot int, io spec.IO, buffer []byte) {
	entry := sqe{
		opcode: opRead, flags: fixedFile, file: int32(io.Target), offset: uint64(io.OffsetBytes), //nolint:gosec // few targets, and an offset of a device
		address: uint64(uintptr(unsafe.Pointer(&buffer[0]))), length: uint32(io.SizeBytes), userData: uint64(slot), //nolint:gosec // the buffer is mmapped: it stays where it is
	}
	if io.Write {
		entry.opcode = opWrite
	}
	r.begun[slot] = beginning{entry, 1}
	if r.tail != r.sqHead.Load() {
		if err := r.enter(0, 0, 0, 0); r.failed == nil {
			r.failed = err
		}
	}
	r.queue(entry)
}

// queue always has room: there are as many entries as slots plus one for the tick, and the next
// system call begins whatever is queued.
func (r *ring) queue(entry sqe) {
	index := r.tail & (r.params.sqEntries - 1)
	*(*sqe)(unsafe.Pointer(&r.entries[uintptr(index)*unsafe.Sizeof(sqe{})])) = entry //nolint:gosec // within the entries
	r.tail++
	r.sqTail.Store(r.tail)
}

// enter is io_uring_enter(2). It begins what is queued.
//
// It is a raw system call, so Go's scheduler does not know of it. Otherwise the scheduler would
// wake its monitor thread, which would then look every 20 µs for a while whenever an I/O takes
// longer than 10 ms. A stalled disk delays nobody nevertheless: the kernel begins I/Os without
// waiting, and leaves those that would wait to its own threads; and a signal ends the kernel's
// wait for completions, as Go sends one when the garbage collector wants this thread to stop.
func (r *ring) enter(least int, flags, arg, argBytes uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.tail-r.sqHead.Load()), uintptr(least), flags, arg, argBytes)
	switch errno {
	// The limit is over, a signal came, or the kernel lacks some resource at the moment: queued
	// entries remain queued.
	case 0, unix.ETIME, unix.EINTR, unix.EAGAIN, unix.EBUSY:
		return nil
	}
	return fmt.Errorf("io_uring_enter: %w", errno)
}

func (r *ring) wait(least int, limit time.Duration, done func(slot, result int)) error {
	err := r.failed
	switch {
	case err != nil:
	case limit >= lookEvery:
		if !r.ticking {
			r.ticking = true
			r.queue(sqe{opcode: opTimeout, file: -1, address: uint64(uintptr(unsafe.Pointer(r.tick))), length: 1, userData: tickData}) //nolint:gosec // mmapped: it stays where it is
		}
		err = r.enter(least, enterGetEvents, 0, 0)
	default:
		limit = max(limit, 0)
		*r.arg = eventsArg{
			timeout: uint64(uintptr(unsafe.Pointer(&r.arg.seconds))), //nolint:gosec // mmapped: it stays where it is
			seconds: int64(limit / time.Second), nanoseconds: int64(limit % time.Second),
		}
		err = r.enter(least, enterGetEvents|enterExtArg, uintptr(unsafe.Pointer(r.arg)), eventsArgBytes) //nolint:gosec // its structure
	}
	if err != nil {
		return err
	}
	r.take(done)
	return nil
}

// take passes everything that has completed to done.
func (r *ring) take(done func(slot, result int)) {
	head := r.cqHead.Load()
	for tail := r.cqTail.Load(); head != tail; head++ {
		index := uintptr(head & (r.params.cqEntries - 1))
		entry := *(*cqe)(unsafe.Pointer(&r.rings[uintptr(r.params.cq.cqes)+index*unsafe.Sizeof(cqe{})])) //nolint:gosec // within the rings
		r.cqHead.Store(head + 1)
		if entry.userData == tickData {
			r.ticking = false
			continue
		}
		// The kernel could not create the thread that was to do this I/O, as happens while a
		// signal is pending for this thread. Nothing of the I/O was done.
		if one := &r.begun[entry.userData]; entry.result == -int32(unix.ECANCELED) && one.times < mostTimes {
			one.times++
			r.queue(one.entry)
			continue
		}
		done(int(entry.userData), int(entry.result)) //nolint:gosec // a slot
	}
}

// close unregisters the files at once. The kernel releases a ring some time after it was closed,
// and until then an exclusive open of the device would fail.
func (r *ring) close() error {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), unregisterFiles, 0, 0, 0, 0)
	if errno != 0 {
		return errors.Join(fmt.Errorf("io_uring_register: let go of the files: %w", errno), r.free())
	}
	return r.free()
}

// free releases whatever was allocated.
func (r *ring) free() (err error) {
	for _, memory := range []*[]byte{&r.rings, &r.entries, &r.extra} {
		if *memory != nil {
			err = errors.Join(err, unix.Munmap(*memory))
			*memory = nil
		}
	}
	return errors.Join(err, unix.Close(r.fd))
}
