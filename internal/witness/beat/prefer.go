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
	// highestNice is the highest priority of a normal process. A real-time process would be
	// charged for the time during which the guest is stopped while the process runs, and would
	// then be throttled for as long again (sched_rt_runtime_us in sched(7)): observed as 9.8 s
	// without a heartbeat at a pause of 4.5 s.
	highestNice = -20
	// collectPercent makes the garbage collector run at a heap of 1 MiB instead of 4. The process
	// allocates so little that this happens every few minutes.
	collectPercent = 25
)

// prefer gives the process priority over others, and locks the pages that it has touched in
// memory: a heartbeat must not wait for the measured disk, from which the program's own pages
// would come. It does as much of that as is permitted.
func prefer() error {
	debug.SetGCPercent(collectPercent)
	var errs []error
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		errs = append(errs, fmt.Errorf("keep the process in memory: %w", err))
	}
	return errors.Join(append(errs, preferThreads())...)
}

// preferThreads sets the priority of each thread, because on Linux the nice value belongs to a
// thread. A new thread inherits it from the thread that starts it, so all is done once a pass
// finds no thread that was not set: sched(7).
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
			if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: the thread has ended since
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
