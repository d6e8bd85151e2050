package dataset

import (
	"context"
	"path/filepath"
	"strings"

	"heliotrope/internal/fault"
)

// Teardown is how the hosts were left after an attempt: a row of table teardowns.
type Teardown struct {
	Trial         string // Trial.Key
	BeganTsNs     int64
	EndedTsNs     int64
	Leftovers     *int32 // things of ours still on the hosts; nil when they could not be compared
	LeftoversText string // a line for each
	OthersChanged string // what somebody else made or removed meanwhile, a line for each
	Problem       string // why the testbed could not be torn down; "" when it was
}

// Teardowns is table teardowns: one for the campaign.
var Teardowns = newTable("teardowns", "How the hosts were left after each attempt. A row comes after its attempt's: what was measured is kept first, "+
	"whatever becomes of the hosts. An attempt that made nothing on the hosts has none.",
	attemptOf(func(r *Teardown) *string { return &r.Trial }), trialOf(func(r *Teardown) string { return r.Trial }),
	required("began_ts_ns", "ns", "when it was begun, on the controller's time base, since 1970 UTC", func(r *Teardown) *int64 { return &r.BeganTsNs }),
	required("ended_ts_ns", "ns", "when it was done", func(r *Teardown) *int64 { return &r.EndedTsNs }),
	optional("leftovers", "", "things of ours still on the hosts; null when they could not be compared with how they were", func(r *Teardown) **int32 { return &r.Leftovers }),
	required("leftovers_text", "", "what they are, a line for each", func(r *Teardown) *string { return &r.LeftoversText }),
	required("others_changed", "", "what somebody else made or removed meanwhile, a line for each", func(r *Teardown) *string { return &r.OthersChanged }),
	required("problem", "", "why the testbed could not be torn down; empty when it was", func(r *Teardown) *string { return &r.Problem }),
)

// TornDown notes how an attempt's hosts were left. Noting it again replaces the first note.
func (r *Record) TornDown(ctx context.Context, teardown Teardown) error {
	if key := teardown.Trial; key == "" || key != filepath.Base(key) {
		return fault.New(fault.BadInput, "note a teardown: the attempt's key is %q", key)
	}
	return r.change(ctx, func() error {
		folder := filepath.Join(r.folder, segmentFolder)
		if err := writeSealed(filepath.Join(folder, teardowns.prefix()+teardown.Trial+segmentSuffix), Teardowns, []Teardown{teardown}); err != nil {
			return err
		}
		return SyncFolder(folder)
	})
}

// teardowns is merged like the other parts, but noted after them.
var teardowns = part[Teardown]{Teardowns, nil, func(r *Teardown) string { return r.Trial }, asNoted[Teardown]}

// ReadTeardowns reads table teardowns of a campaign's folder.
func ReadTeardowns(folder string) ([]Teardown, error) { return readLater(Teardowns, folder) }

// Lines are the leftovers, one a line.
func (t Teardown) Lines() []string {
	if t.LeftoversText == "" {
		return nil
	}
	return strings.Split(t.LeftoversText, "\n")
}
