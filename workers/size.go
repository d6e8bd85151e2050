package workers

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"
)

// sizeEvery is how often a folder is measured: not often, because a dataset has many files.
const sizeEvery = 10 * time.Minute

// sizes are the sizes of folders. Folders are measured in the background, and callers get
// the size of the last measurement: a disk that hangs makes nobody wait.
type sizes struct {
	ctx     context.Context //nolint:containedctx // of all measuring, not of who asks
	measure func(ctx context.Context, folder string) (int64, error)

	mu    sync.Mutex
	known map[string]*size
}

// size is a folder's size at its last measurement.
type size struct {
	bytes     int64 // 0: not measured yet
	asked     time.Time
	measuring bool
}

// newSizes makes a sizes that measures until ctx ends.
func newSizes(ctx context.Context) *sizes {
	return &sizes{ctx: ctx, measure: folderSize, known: map[string]*size{}}
}

// of is the size of a folder; 0 while it is not known.
func (s *sizes) of(folder string) int64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.known[folder]
	if one == nil {
		one = &size{}
		s.known[folder] = one
	}
	if !one.measuring && (one.asked.IsZero() || time.Since(one.asked) >= sizeEvery) {
		one.measuring, one.asked = true, time.Now()
		go func() {
			bytes, err := s.measure(s.ctx, folder)
			s.mu.Lock()
			defer s.mu.Unlock()
			one.measuring = false
			if err == nil {
				one.bytes = bytes
			}
		}()
	}
	return one.bytes
}

// folderSize is the size of a folder's content, without files that vanish meanwhile. It
// ends with ctx, unless the disk hangs.
func folderSize(ctx context.Context, folder string) (int64, error) {
	size := int64(0)
	err := filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size, err
}
