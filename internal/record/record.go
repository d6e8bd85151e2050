// Package record runs detached processes on hosts and in the guest. A Process is any one of
// them, for example the worker; a Recording is one that runs for the length of a trial and
// leaves raw files, such as the load's log or the witnesses' lines.
//
// It promises that such a process outlives the program that started it. It is found again by
// its folder alone, so that a worker or a controller can be killed and come back without a
// gap in the data. Every method is idempotent.
//
// Dangerous: a recording's raw files exist only on the host until Fetch has copied all of
// them; Remove deletes them.
package record

import (
	"context"
	"time"
)

// Recording is a process that leaves raw files.
type Recording interface {
	// Start starts the recording; one that already runs is left as it is. It returns once
	// the recording is known to record.
	Start(ctx context.Context) error
	// Progress says how far the recording is. A recording that ended by itself is not an
	// error here: Running is then false, and Problem says what is known.
	Progress(ctx context.Context) (Progress, error)
	// Stop ends the recording in an orderly way and waits until its files are complete. A
	// recording that does not run is no error.
	Stop(ctx context.Context) error
	// Fetch copies the raw files into a local folder and returns their names; a file appears
	// there only once it is complete. Call Stop first.
	Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error)
	// Remove stops the recording and removes its files from the host.
	Remove(ctx context.Context) error
}

// Tailer is a recording whose raw files can be read while they are written.
type Tailer interface {
	// Tail is the end of a raw file, at most so many bytes; its first line may
	// be cut off.
	Tail(ctx context.Context, file string, bytes int64) ([]byte, error)
}

// Progress is the state of a recording.
type Progress struct {
	Running bool   `json:"running"`
	Problem string `json:"problem,omitempty"` // why it does not run, when nobody stopped it
	// Steps counts I/Os completed or samples taken. It grows only while there is progress,
	// and a watchdog compares it.
	Steps int64     `json:"steps"`
	At    time.Time `json:"at"` // on the asking machine's clock

	// Of a load only: since the last call to Progress on this Recording, zero at the first
	// call.
	IOPS          float64 `json:"iops,omitempty"`
	MeanLatencyMs float64 `json:"mean_latency_ms,omitempty"`
}
