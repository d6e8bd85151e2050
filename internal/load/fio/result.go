package fio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Result is fio's own summary of a load.
type Result struct {
	Version string // fio's, "fio-3.33"
	IOs     int64  // completed; as many as the log has lines
	Error   int    // the errno of the first I/O that failed and ended the load, or 0
}

// ReadResult reads fio's summary: the first JSON document in the text. fio prints its other
// messages before and after it, such as that it was interrupted. A load with failed I/Os is no
// error here: look at Result.Error.
func ReadResult(r io.Reader) (Result, error) {
	var report struct {
		Version string `json:"fio version"`
		Jobs    []struct {
			Error int `json:"error"`
			Read  struct {
				IOs int64 `json:"total_ios"`
			} `json:"read"`
			Write struct {
				IOs int64 `json:"total_ios"`
			} `json:"write"`
		} `json:"jobs"`
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return Result{}, fmt.Errorf("fio's result: %w", err)
	}
	start := max(bytes.IndexByte(text, '{'), 0)
	if err := json.NewDecoder(bytes.NewReader(text[start:])).Decode(&report); err != nil {
		return Result{}, fmt.Errorf("fio's result is damaged, %.80q: %w", text, err)
	}
	if len(report.Jobs) != 1 {
		return Result{}, fmt.Errorf("fio's result has %d jobs, want 1", len(report.Jobs))
	}
	job := report.Jobs[0]
	return Result{Version: report.Version, IOs: job.Read.IOs + job.Write.IOs, Error: job.Error}, nil
}
