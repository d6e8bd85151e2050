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
	// highestNice is the highest priority of a normal process. One of real time
	// would be charged with the time for which the guest is stopped while it
	// runs, and then be throttled for as long again (sched_rt_runtime_us in
	// sched(7)): seen as 9.8 s without a heartbeat at a pause of 4.5 s.
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

// preferThreads sets each thread, as the nice value is a thread's on Linux. A
// thread inherits it from the one that starts it, so that it is done when there
// is none that was not set: sched(7).
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
	return unix.Setpriority(unix.PRIO_PROCESS, id, highestNice)
}
