package beat

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// priority is the lowest of real time: before every normal process.
	priority = 1
	// highestNice is for a kernel that has no real time for us.
	highestNice = -20
	// collectPercent collects garbage at a heap of a MiB, not of four. So
	// little is made that this happens every few minutes.
	collectPercent = 25
)

// prefer has the process run before others, and keeps what it has touched in
// memory: a heartbeat must not wait for the disk that is measured, from which
// the program's own pages would come. It does as much of it as it may.
func prefer() error {
	debug.SetGCPercent(collectPercent)
	var errs []error
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		errs = append(errs, fmt.Errorf("keep the process in memory: %w", err))
	}
	return errors.Join(append(errs, preferThreads())...)
}

// preferThreads sets each thread, as both properties are a thread's on Linux. A
// thread inherits them from the one that starts it, so that it is done when
// there is none that was not set: sched(7).
func preferThreads() error {
	set := map[string]bool{}
	for before := -1; before != len(set); {
		before = len(set)
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("threads of the process: %w", err)
		}
		for _, thread := range threads {
			if set[thread.Name()] {
				continue
			}
			id, err := strconv.Atoi(thread.Name())
			if err == nil {
				err = preferThread(id)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended since
				return fmt.Errorf("raise the priority of the process: %w", err)
			}
			set[thread.Name()] = true
		}
	}
	return nil
}

func preferThread(id int) error {
	realTime := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
	err := unix.SchedSetAttr(id, &realTime, 0)
	if err == nil || errors.Is(err, unix.ESRCH) {
		return err
	}
	if niceErr := unix.Setpriority(unix.PRIO_PROCESS, id, highestNice); niceErr != nil {
		return errors.Join(err, niceErr)
	}
	return nil
}
