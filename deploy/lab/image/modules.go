package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// moduleIndex finds kernel modules and what they need (modules.dep).
type moduleIndex struct {
	dir  string              // <tree>/lib/modules/<release>
	path map[string]string   // module name -> path relative to dir
	deps map[string][]string // path -> paths it needs, deepest last
}

// indexModules runs depmod over the tree and reads modules.dep.
func indexModules(ctx context.Context, tree, release string) (*moduleIndex, error) {
	if _, err := local(ctx, "depmod", "-b", tree, release); err != nil {
		return nil, err
	}
	index := &moduleIndex{dir: filepath.Join(tree, "lib/modules", release),
		path: map[string]string{}, deps: map[string][]string{}}
	text, err := os.ReadFile(filepath.Join(index.dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		path, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep of %s: unreadable line %q", release, line)
		}
		index.path[moduleName(path)] = path
		index.deps[path] = strings.Fields(deps)
	}
	return index, nil
}

// moduleName is a module's name as the kernel knows it: dashes are underscores.
func moduleName(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// closure lists the modules and all they need, each after its needs. A name
// that is no module is an error, unless the kernel has it built in.
func (m *moduleIndex) closure(names []string) ([]string, error) {
	builtin, err := os.ReadFile(filepath.Join(m.dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	isBuiltin := map[string]bool{}
	for line := range strings.Lines(string(builtin)) {
		isBuiltin[moduleName(strings.TrimSpace(line))] = true
	}
	var order, missing []string
	seen := map[string]bool{}
	add := func(path string) {
		if !seen[path] {
			seen[path] = true
			order = append(order, path)
		}
	}
	for _, name := range names {
		path, ok := m.path[moduleName(name)]
		if !ok {
			if !isBuiltin[moduleName(name)] {
				missing = append(missing, name)
			}
			continue
		}
		deps := m.deps[path]
		for i := len(deps) - 1; i >= 0; i-- {
			add(deps[i])
		}
		add(path)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the kernel in %s has no module %s", m.dir, strings.Join(missing, ", "))
	}
	return order, nil
}

// prune deletes every module that is not in keep.
func (m *moduleIndex) prune(keep []string) error {
	kept := map[string]bool{}
	for _, path := range keep {
		kept[path] = true
	}
	return filepath.WalkDir(m.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".ko") {
			return err
		}
		relative, err := filepath.Rel(m.dir, path)
		if err != nil || kept[relative] {
			return err
		}
		return os.Remove(path) //nolint:gosec // the build's own folder, which nobody else writes to
	})
}

// modules keeps the nodes' modules of the recipe and deletes all others.
func (b *builder) modules(ctx context.Context) error {
	index, err := indexModules(ctx, b.tree, b.nodeRelease)
	if err != nil {
		return err
	}
	keep, err := index.closure(b.recipe.Modules)
	if err != nil {
		return err
	}
	if err := index.prune(keep); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(b.tree, "lib/modules", b.guestRelease)); err != nil {
		return err
	}
	_, err = local(ctx, "depmod", "-b", b.tree, b.nodeRelease)
	return err
}
