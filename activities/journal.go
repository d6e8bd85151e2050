package activities

import (
	"errors"
	"fmt"
	"time"

	"heliotrope/analysis/dataset"
)

// journal writes events while they happen to a segment of the attempt's work folder. They
// are on the disk at most a second later. One goroutine at a time may use it.
type journal struct {
	segment *dataset.Segment[dataset.Event]
	waiting []dataset.Event
	flushed time.Time
	broken  error
}

// flushEvery limits how much a crash can lose, and how often the disk is written to.
const flushEvery = time.Second

func openJournal(target Target) (*journal, error) {
	segment, err := openRows(target, dataset.Events)
	return &journal{segment: segment, flushed: time.Now()}, err
}

func (j *journal) note(at time.Time, name, detail string) {
	j.waiting = append(j.waiting, dataset.Event{TsNs: at.UnixNano(), Source: controllerName, Name: name, Detail: detail})
	if time.Since(j.flushed) >= flushEvery {
		j.flush()
	}
}

func (j *journal) flush() {
	if j.broken == nil {
		j.broken = j.segment.Append(j.waiting)
	}
	j.waiting, j.flushed = nil, time.Now()
}

// close writes the waiting events, and reports what could not be written.
func (j *journal) close() error {
	j.flush()
	return errors.Join(j.broken, j.segment.Close())
}

// journaled are the events of the attempt's journals. A damaged journal is set aside in its
// place, and is an event itself.
func (a *account) journaled() ([]dataset.Event, error) {
	paths, err := dataset.SegmentPaths(a.input.WorkFolder(), dataset.Events)
	var events []dataset.Event
	for _, path := range paths {
		var rows []dataset.Event
		rows, err = dataset.All(dataset.ReadSegments(dataset.Events, path))
		var damaged *dataset.DamagedError
		if errors.As(err, &damaged) {
			var aside string
			if aside, err = dataset.SetAside(path); err == nil {
				a.damaged = true
				rows = []dataset.Event{{TsNs: a.input.Ended.UnixNano(), Source: controllerName, Name: "problem",
					Detail: fmt.Sprintf("%v; it is set aside as %s", damaged, aside)}}
			}
		}
		if err != nil {
			return nil, err
		}
		events = append(events, rows...)
	}
	return events, err
}
