package machine

import "heliotrope/internal/sdklog"

var _, _ sdklog.Keyed = Target{}, RecordingInput{}

// LogKeys say in the log which attempt an activity works on, and where.
func (t Target) LogKeys() []any {
	return []any{"campaign", t.Ref.Campaign, "trial", t.Ref.Key(), "lane", t.Lane.Name}
}

// LogKeys adds the machine to the target's keys.
func (i RecordingInput) LogKeys() []any { return append(i.Target.LogKeys(), "host", i.Machine) }
