package dataset

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
)

// CampaignEvent is something that was decided about the campaign, or happened to it:
// a row of table campaign_events.
type CampaignEvent struct {
	Number int32  // from 1, in the order in which they were noted; Event sets it
	TsNs   int64  // controller's clock; Event sets it where it is 0
	ID     string // of the request: an event with a known ID is not noted again; "" never equals another
	Name   string // EventLook and others, or the command of a person: pause, skip, ...
	Lane   string // "" for the campaign
	Trial  int32  // number in the plan; 0 for none
	Block  int32  // 0 for none
	By     string // who; "" for the program itself
	Why    string // in that person's words
	Detail string // what came of it; of EventLook, JSON
	// Amendment is what the event changes of the plan, whose file stays as it is: a
	// campaign.Amendment as JSON; "" for nothing.
	Amendment string
}

// Names of events that the program notes by itself.
const (
	EventLook   = "look"   // whether the results are precise enough
	EventDouble = "double" // a second result of a trial
	EventRun    = "run"    // a controller runs the campaign from now on
	EventEnded  = "ended"  // the campaign has ended, as Detail says
)

// CampaignEvents is table campaign_events: one for the campaign.
var CampaignEvents = newTable("campaign_events", "What was decided about the campaign while it ran, by whom and why, and what happened to it. "+
	"The plan is that of its beginning, and after it what these events change of it.",
	required("number", "", "of the event, from 1, in the order in which they were noted", func(r *CampaignEvent) *int32 { return &r.Number }),
	required("ts_ns", "ns", "when, on the controller's time base, since 1970 UTC", func(r *CampaignEvent) *int64 { return &r.TsNs }),
	required("name", "", "what: run (a controller runs the campaign from then on), ended (the campaign has, as detail says), look (whether the results are precise enough), double (a second result of a trial), or the word of who steered: "+
		"pause, resume, skip, repeat, add, drain, quarantine, release, stop-rule, until, cancel", func(r *CampaignEvent) *string { return &r.Name }),
	required("lane", "", "that it concerns; empty for the campaign", func(r *CampaignEvent) *string { return &r.Lane }),
	required("trial", "", "that it concerns, by its number in the plan; 0 for none", func(r *CampaignEvent) *int32 { return &r.Trial }),
	required("block", "", "that it concerns; 0 for none", func(r *CampaignEvent) *int32 { return &r.Block }),
	required("by", "", "who asked for it; empty for the program itself", func(r *CampaignEvent) *string { return &r.By }),
	required("why", "", "in the words of who asked for it", func(r *CampaignEvent) *string { return &r.Why }),
	required("detail", "", "what came of it; of a look, what it found, as JSON", func(r *CampaignEvent) *string { return &r.Detail }),
	required("amendment_json", "", "what it changes of the plan: trials that are skipped or added, and from then on the stop rule, and the time after which no trial is begun, as JSON; empty for nothing", func(r *CampaignEvent) *string { return &r.Amendment }),
	required("id", "", "of what asked for it: the same is noted once", func(r *CampaignEvent) *string { return &r.ID }),
)

// eventIndex is what the index knows of the events.
type eventIndex struct {
	last int32 // number
	byID map[string]CampaignEvent
}

// Event notes an event, which is on the disk when Event returns. An event whose ID was
// noted before is not noted again. When its amendment cannot be made, the error is
// fault.BadInput, and nothing is noted.
func (r *Record) Event(ctx context.Context, event CampaignEvent) error {
	return r.change(ctx, func() error { return r.note(event) })
}

// note notes an event; the caller holds the lock.
func (r *Record) note(event CampaignEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := &r.index.events
	if _, noted := known.byID[event.ID]; noted && event.ID != "" {
		return nil
	}
	if err := r.index.checkAmendment(event); err != nil {
		return err
	}
	event.Number = known.last + 1
	event.TsNs = cmp.Or(event.TsNs, time.Now().UnixNano())
	folder := filepath.Join(r.folder, segmentFolder)
	path := filepath.Join(folder, fmt.Sprintf("%s-%06d%s", CampaignEvents.Name, event.Number, segmentSuffix))
	if err := writeSealed(path, CampaignEvents, []CampaignEvent{event}); err != nil {
		return err
	}
	if err := SyncFolder(folder); err != nil {
		return err
	}
	return r.index.apply(event)
}

// checkAmendment is an error when an event's amendment cannot be made.
func (x *index) checkAmendment(event CampaignEvent) error {
	amendment, err := event.amendment()
	if err != nil {
		return err
	}
	for _, sequence := range amendment.Skip {
		if x.trial(sequence) == nil {
			return fault.New(fault.BadInput, "there is no trial %d: the plan has 1 to %d", sequence, len(x.trials))
		}
	}
	for i, added := range amendment.Trials {
		if want := len(x.trials) + 1 + i; added.Sequence != want {
			return fault.New(fault.BadInput, "a trial with number %d cannot be added: the next is %d", added.Sequence, want)
		}
	}
	return nil
}

// doublePrefix begins the ID of an event that tells of a second result; the attempt's key
// follows.
const doublePrefix = "double/"

// double is the key of the attempt that the event reports as a second result of its trial;
// false when the event reports none.
func (e CampaignEvent) double() (key string, is bool) {
	if e.Name != EventDouble {
		return "", false
	}
	return strings.CutPrefix(e.ID, doublePrefix)
}

// doublesOf are the keys of all attempts that the events report as second results.
func doublesOf(events []CampaignEvent) map[string]bool {
	doubles := map[string]bool{}
	for _, event := range events {
		if key, is := event.double(); is {
			doubles[key] = true
		}
	}
	return doubles
}

func (e CampaignEvent) amendment() (campaign.Amendment, error) {
	var amendment campaign.Amendment
	if e.Amendment == "" {
		return amendment, nil
	}
	if err := json.Unmarshal([]byte(e.Amendment), &amendment); err != nil {
		return amendment, fault.New(fault.BadInput, "amendment of event %d: %w", e.Number, err)
	}
	return amendment, nil
}

// apply takes an event into the index.
func (x *index) apply(event CampaignEvent) error {
	amendment, err := event.amendment()
	if err != nil {
		return err
	}
	if err := x.checkAmendment(event); err != nil {
		return err
	}
	x.events.last = max(x.events.last, event.Number)
	if event.ID != "" {
		x.events.byID[event.ID] = event
	}
	if amendment.Rule != nil {
		x.stop = amendment.Rule.Stop
	}
	switch {
	case amendment.Until != nil:
		x.until = amendment.Until.At
	case event.Name == EventEnded:
		x.until = time.Time{} // whoever runs the campaign after that wants it to go on
	}
	if key, is := event.double(); is {
		x.double(key)
	}
	for _, added := range amendment.Trials {
		x.plan(added)
	}
	for _, sequence := range amendment.Skip {
		planned := x.trial(sequence)
		planned.skipped = true
		x.settle(planned)
	}
	return nil
}

// readEvents reads a folder's events, in their order, into the index.
func (x *index) readEvents(folder string) error {
	x.events.byID = map[string]CampaignEvent{}
	events, _, err := allEvents(folder)
	if err != nil {
		return err
	}
	for _, event := range events {
		if err := x.apply(event); err != nil {
			return err
		}
	}
	return nil
}

// allEvents reads the events of the table and of the segments, and lists those segments. A
// damaged file is fault.BadInput: reading it again does not mend it.
func allEvents(folder string) (events []CampaignEvent, segments []string, err error) {
	defer func() {
		var damaged *DamagedError
		if errors.As(err, &damaged) {
			err = fault.New(fault.BadInput, "what was decided about the campaign is not known, as %w: put the file back from a copy", damaged)
		}
	}()
	if events, err = readLater(CampaignEvents, folder); err != nil {
		return nil, nil, err
	}
	if segments, err = SegmentPaths(filepath.Join(folder, segmentFolder), CampaignEvents); err != nil {
		return nil, nil, err
	}
	for _, path := range segments {
		fresh, err := All(ReadSegments(CampaignEvents, path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		events = append(events, fresh...)
	}
	slices.SortStableFunc(events, func(a, b CampaignEvent) int { return cmp.Compare(a.Number, b.Number) })
	return slices.CompactFunc(events, func(a, b CampaignEvent) bool { return a.Number == b.Number }), segments, nil
}

// ReadCampaignEvents reads the events of a campaign's folder in their order, including
// those that are not compacted yet.
func ReadCampaignEvents(folder string) ([]CampaignEvent, error) {
	events, _, err := allEvents(folder)
	return events, err
}

// Look is what a look at the first blocks found by the rule stop, as JSON. When this look
// was not made before, judge makes it from the rows of these blocks, and it is noted: the
// result of a look never changes afterwards. All trials of these blocks must be done.
func (r *Record) Look(ctx context.Context, blocks int, stop campaign.Stop, judge func(rows []Trial) ([]byte, error)) ([]byte, error) {
	r.looking.Lock()
	defer r.looking.Unlock()
	rule, err := json.Marshal(stop)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("look/%d/%s", blocks, rule)
	r.mu.Lock()
	made, noted := r.index.events.byID[id]
	r.mu.Unlock()
	if noted {
		return []byte(made.Detail), nil
	}
	if done := r.BlocksDone(); done < blocks {
		return nil, fmt.Errorf("look at %d blocks: only %d are done", blocks, done)
	}
	found, err := judge(r.Rows(blocks))
	if err != nil {
		return nil, err
	}
	return found, r.Event(ctx, CampaignEvent{ID: id, Name: EventLook, Block: int32(blocks), Detail: string(found)}) //nolint:gosec // blocks of a plan
}

// hexSum is the SHA-256 of a text, in hex.
func hexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
