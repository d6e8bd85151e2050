package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	"heliotrope/internal/hooks"
)

// Hooks tell people what happens.
type Hooks struct{ To hooks.Hooks }

// Tell tells the hooks that want to know of the event. One that fails is a line
// in the log, and nothing of the campaign's.
func (h *Hooks) Tell(ctx context.Context, event hooks.Event) error {
	if err := h.To.Tell(ctx, event); err != nil {
		activity.GetLogger(ctx).Warn("a hook was not told", "event", string(event.Kind), "campaign", event.Campaign, "error", err.Error())
	}
	return ctx.Err()
}
