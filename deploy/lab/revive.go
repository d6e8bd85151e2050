package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"heliotrope/deploy/lab/image"
)

// Revive starts the nodes of the testbed that died, each with a new throw-away
// disk, and returns when all of it is ready; nodes that run are left as they
// are. It returns at once when all run. A testbed that was taken down is not
// started: that is for who took it down to do, and an error.
func (l *Lab) Revive(ctx context.Context, cache image.Cache, progress func(string)) error {
	if len(l.notRunning()) == 0 && l.hasVCenter() {
		return nil
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	dead := l.notRunning() // another process may have started some
	if len(dead) == 0 && l.hasVCenter() {
		return nil
	}
	if exists(l.downPath()) {
		return fmt.Errorf("testbed %s was taken down; start it with `heliotrope lab up --name %s --hypervisor %s` (%w)",
			l.Options.Name, l.Options.Name, l.Options.Hypervisor, ErrNotRunning)
	}
	if len(dead) == 0 {
		progress(fmt.Sprintf("testbed %s: %s died", l.Options.Name, VCenter))
		return l.startVCenter(ctx, progress)
	}
	progress(fmt.Sprintf("testbed %s: %s died", l.Options.Name, strings.Join(dead, ", ")))
	return l.start(ctx, dead, cache, progress)
}

// downPath is a file that is there when the testbed was taken down on purpose.
func (l *Lab) downPath() string { return filepath.Join(l.Dir, "down") }
