package storage

import (
	"maps"
	"slices"
	"strings"

	"heliotrope/internal/fault"
)

// Only refuses options that a system does not have.
func (o Options) Only(kind string, known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if slices.Contains(known, name) {
			continue
		}
		if len(known) == 0 {
			return fault.New(fault.BadInput, "storage option %q: %s has none", name, kind)
		}
		return fault.New(fault.BadInput, "storage option %q: %s has only %s", name, kind, strings.Join(known, ", "))
	}
	return nil
}
