package activities

import (
	"context"

	"heliotrope/internal/hooks"
)

// Hooks tell people what happens.
type Hooks struct{ To *hooks.Background }

// Tell tells the hooks that want to know of the event. One that fails, or takes long, is a
// line in the log, and nothing of the campaign's.
func (h *Hooks) Tell(ctx context.Context, event hooks.Event) error { return h.To.Tell(ctx, event) }
