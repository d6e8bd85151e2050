package load

import (
	"os"
	"path/filepath"

	"heliotrope/internal/load/fio"
)

// Names of the raw files of fio's load where Fetch puts them. PackedFile has what LogFile
// has; there is one of the two.
const (
	LogFile    = fio.LogFile
	PackedFile = fio.PackedFile
	ResultFile = fio.ResultFile
)

// ErrEmptyLog says that fio's log has no line at all.
var ErrEmptyLog = fio.ErrEmptyLog

// LogName is the name of fio's log in a folder of raw files.
func LogName(folder string) string {
	if _, err := os.Stat(filepath.Join(folder, PackedFile)); err == nil {
		return PackedFile
	}
	return LogFile
}
