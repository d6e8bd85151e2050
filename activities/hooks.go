package activities

import (
	"context"

	"heliotrope/internal/hooks"
)

// Hooks tell people about events.
type Hooks struct{ To *hooks.Background }

// Tell tells the hooks that want to know about the event. When a hook fails or takes long,
// that is logged, and does not affect the campaign.
func (h *Hooks) Tell(ctx context.Context, event hooks.Event) error { return h.To.Tell(ctx, event) }
