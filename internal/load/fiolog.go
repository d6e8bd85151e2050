package load

import (
	"os"
	"path/filepath"

	"heliotrope/internal/load/fio"
)

// Names of the raw files of fio's load in the folder where Fetch puts them. There is either
// LogFile or PackedFile, which is LogFile compressed.
const (
	LogFile    = fio.LogFile
	PackedFile = fio.PackedFile
	ResultFile = fio.ResultFile
)

// ErrEmptyLog says that fio's log has no lines.
var ErrEmptyLog = fio.ErrEmptyLog

// LogName returns the name of fio's log in a folder of raw files.
func LogName(folder string) string {
	if _, err := os.Stat(filepath.Join(folder, PackedFile)); err == nil {
		return PackedFile
	}
	return LogFile
}
