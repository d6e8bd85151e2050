// Package record runs detached processes on hosts and in the guest. A Process is
// any one of them, as the worker is; a Recording is one that runs for the length
// of a trial and leaves raw files: the load's log, the witnesses' lines.
//
// It promises that such a process outlives whoever started it: it is found again
// by its folder alone, so that a worker or a controller can be killed and come
// back without a gap in the data. Every method is idempotent.
//
// Dangerous: a recording's raw files are on the host until Fetch has brought
// all of them; Remove deletes them.
package record

import (
	"context"
	"time"
)

// Recording is a process that leaves raw files.
type Recording interface {
	// Start starts it; one that runs already is left as it is. It returns
	// when the recording is known to record.
	Start(ctx context.Context) error
	// Progress tells how far it is. A recording that ended by itself is not
	// an error here: Running is false and Problem says what is known.
	Progress(ctx context.Context) (Progress, error)
	// Stop ends it in an orderly way and waits until its files are complete.
	// One that does not run is no error.
	Stop(ctx context.Context) error
	// Fetch copies the raw files into a local folder, through temporary
	// names, and returns their names. Call Stop first.
	Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error)
	// Remove stops it and removes its files from the host.
	Remove(ctx context.Context) error
}

// Tailer is a recording whose raw files can be looked at while they are written.
type Tailer interface {
	// Tail is the end of a raw file, at most so many bytes; its first line may
	// be cut off.
	Tail(ctx context.Context, file string, bytes int64) ([]byte, error)
}

// Progress of a recording.
type Progress struct {
	Running bool   `json:"running"`
	Problem string `json:"problem,omitempty"` // why it does not run, when that was not asked for
	// Steps only grows while there is progress: I/Os completed, samples
	// taken. A watchdog compares it.
	Steps int64     `json:"steps"`
	At    time.Time `json:"at"` // on the clock of who asks

	// Of a load only, since the last call to Progress on this Recording (zero at the first).
	IOPS          float64 `json:"iops,omitempty"`
	MeanLatencyMs float64 `json:"mean_latency_ms,omitempty"`
}
