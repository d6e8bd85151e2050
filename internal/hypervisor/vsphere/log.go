package vsphere

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/hypervisor"
)

// currentLog is the log that is being written; older ones are vmware-N.log, the newest
// with the highest number.
const currentLog = "vmware.log"

// logResolution is the resolution of the times in a machine's log.
const logResolution = time.Millisecond

// maxLogLine is longer than any line of a machine's log.
const maxLogLine = 1 << 20

var (
	logName = regexp.MustCompile(`^vmware(?:-(\d+))?\.log$`)
	// lineTime matches the beginning of both forms of a line.
	lineTime = regexp.MustCompile(`^(\d{4}-\S+Z)[| ]`)
	// The two forms of a line, before and since vSphere 7:
	//
	//	2021-03-04T10:11:12.345Z| vcpu-0| I005: Checkpoint_Unstun: vm stopped for 123456 us
	//	2023-02-20T14:42:22.123Z In(05) vcpu-0 - Checkpoint_Unstun: vm stopped for 123456 us
	//
	// The time is the end of the stop, on the host's clock, in UTC.
	unstun = regexp.MustCompile(`^(\S+Z)(?:\| \S+\| \S+: | \S+ \S+ - )Checkpoint_Unstun: vm stopped for (\d+) us\s*$`)
	// doubt matches a line that may precede such a line and says how far off its
	// values may be. ESXi writes none; the lab's vCenter does, because it derives the
	// length from two clocks.
	doubt = regexp.MustCompile(`^\S+Z(?:\| \S+\| \S+: | \S+ \S+ - )Checkpoint_Unstun: give or take (\d{1,12}) us\s*$`)
	// hostname matches a line in a log's header.
	hostname = regexp.MustCompile(`^\S+Z(?:\| \S+\| \S+: | \S+ \S+ - )Hostname=(\S+)\s*$`)
)

// logNumber orders the logs of a machine by age.
func logNumber(name string) int {
	if name == currentLog {
		return math.MaxInt
	}
	number, _ := strconv.Atoi(logName.FindStringSubmatch(name)[1]) // a number with too many digits becomes 0: nothing depends on it
	return number
}

// machineLog is the contents of a machine's log.
type machineLog struct {
	host   string    // the host that wrote it, by its own name; "" when the log does not say
	begins time.Time // the time of its first line with a time, on that host's clock
	stops  []hypervisor.Stop
}

// parseLog reads a machine's log. A line about a stop that is not understood is an
// error: the stop must not be missed.
func parseLog(file io.Reader) (machineLog, error) {
	var log machineLog
	var off time.Duration // the uncertainty of the next stop
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLogLine)
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if found := lineTime.FindStringSubmatch(line); found != nil && log.begins.IsZero() {
			log.begins, _ = time.Parse(time.RFC3339Nano, found[1]) // on failure, the next line's time is used
		}
		if found := hostname.FindStringSubmatch(line); found != nil && log.host == "" {
			log.host = found[1]
		}
		if found := doubt.FindStringSubmatch(line); found != nil {
			us, _ := strconv.ParseInt(found[1], 10, 64) // it has few enough digits
			off = time.Duration(us) * time.Microsecond
		}
		if !strings.Contains(line, "Checkpoint_Unstun: vm stopped") {
			continue
		}
		stop, err := parseStop(line)
		if err != nil {
			return log, fmt.Errorf("line %d, %.200q: %w", number, line, err)
		}
		stop.Resolution += off
		off = 0
		log.stops = append(log.stops, stop)
	}
	return log, lines.Err()
}

func parseStop(line string) (hypervisor.Stop, error) {
	found := unstun.FindStringSubmatch(line)
	if found == nil {
		return hypervisor.Stop{}, fmt.Errorf("want a time, and for how many us the machine was stopped")
	}
	to, err := time.Parse(time.RFC3339Nano, found[1])
	if err != nil {
		return hypervisor.Stop{}, err
	}
	us, err := strconv.ParseInt(found[2], 10, 64)
	if err != nil || time.Duration(us) > maxStop/time.Microsecond {
		return hypervisor.Stop{}, fmt.Errorf("%s us is no length of a stop", found[2])
	}
	return hypervisor.Stop{From: to.Add(-time.Duration(us) * time.Microsecond), To: to, Resolution: logResolution}, nil
}

// maxStop is longer than any stop.
const maxStop = 24 * time.Hour
