package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"heliotrope/deploy/lab/image"
)

// Revive starts the nodes of the testbed that have died, each with a new throw-away disk, and
// returns when the whole testbed is ready. It leaves running nodes alone, and returns at once
// when all run. It does not start a testbed that was taken down: that is for whoever took it
// down, and an error here.
func (l *Lab) Revive(ctx context.Context, cache image.Cache, progress func(string)) error {
	if len(l.notRunning()) == 0 && l.hasVCenter() {
		return nil
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	dead := l.notRunning() // another process may have started some meanwhile
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

// downPath returns the path of a file that exists when the testbed was taken down on purpose.
func (l *Lab) downPath() string { return filepath.Join(l.Dir, "down") }
