package activities

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/gather"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// Collector brings an attempt's data from its machines into the dataset.
type Collector struct {
	Open    Opener
	Records *Records
	Version string // of this program
}

// CollectInput says what to collect.
type CollectInput struct {
	Target
	// Failed says that the system under test has failed: then data that can no longer be
	// had is a problem to note, not an error.
	Failed bool `json:"failed,omitempty"`
	// Hung says that the guest does not answer: then it is not asked for anything.
	Hung bool `json:"hung,omitempty"`
}

// Collected is what was brought to the attempt's work folder: a folder of raw files for
// each machine.
type Collected struct {
	Machines []string `json:"machines,omitempty"`
	// Records are those of Machines on which our witness did not run, and whose
	// hypervisor's own record was read.
	Records  []string  `json:"records,omitempty"`
	Problems []string  `json:"problems,omitempty"`
	Bytes    int64     `json:"bytes"` // of the raw files
	Now      time.Time `json:"now"`
}

// Collect ends the recordings and fetches their raw files. Doing it again fetches the files
// again. First it ends what writes to the disk, so that the hosts have seen all of it; then
// it collects from all hosts at once.
func (c *Collector) Collect(ctx context.Context, input CollectInput) (Collected, error) {
	var collected Collected
	err := withBed(ctx, c.Open, input.Target, silenceOf(input.Target), c.Records.alone(input.Target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		g := gathering{input: input, bed: bed, pulse: p}
		errs := append(g.guest(ctx), g.hosts(ctx)...)
		collected = g.collected
		slices.Sort(collected.Machines)
		slices.Sort(collected.Records)
		if err := errors.Join(errs...); err != nil && (!input.Failed || ctx.Err() != nil) {
			return err
		}
		for _, err := range errs {
			if err != nil {
				collected.Problems = append(collected.Problems, err.Error())
			}
		}
		collected.Now = bed.Now()
		return nil
	}))
	return collected, err
}

// gathering is one collection from several machines at once.
type gathering struct {
	input CollectInput
	bed   testbed.Bed
	pulse *pulse.Pulse

	mu        sync.Mutex
	collected Collected
}

// guestLimit is how long a guest may take to deliver its data after the target has failed:
// the load waits for its disk before it is killed, and its log crosses the WAN. It is
// shorter than the silence that would end the whole collection.
func guestLimit(target Target) time.Duration { return silenceOf(target) * 4 / 5 }

var errHung = errors.New("collect from the guest: it hangs; what its load has logged is lost")

// guest ends the load, fetches its log, and ends the guest's witness. When the target has
// failed, the guest may not answer: that must not prevent the collection of the hosts'
// files.
func (g *gathering) guest(ctx context.Context) []error {
	if g.input.Hung {
		return []error{errHung}
	}
	if g.input.Failed {
		limit := guestLimit(g.input.Target)
		limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest did not give what it has within %s", limit))
		defer cancel()
		ctx = limited
	}
	return []error{g.fetch(ctx, trial.Guest, func() (record.Recording, error) { return g.bed.Load(g.input.Ref) }, cause.LoadDied), g.endBeats(ctx)}
}

// hosts collects from all hosts at once: the files of the witness where one runs, and
// otherwise the record of a site's own hypervisor.
func (g *gathering) hosts(ctx context.Context) []error {
	return gather.Values(g.bed.Machines(), func(m trial.Machine) error {
		recorder := recorderAt(g.bed, m)
		switch {
		case hostWitness(m): // the guest's witness leaves no files
			return g.fetch(ctx, m.Name, func() (record.Recording, error) { return g.bed.Witness(g.input.Ref, m.Name) }, cause.WitnessDied)
		case recorder != nil:
			return g.record(ctx, m, recorder)
		}
		return nil
	})
}

// endBeats ends the guest's witness.
func (g *gathering) endBeats(ctx context.Context) error {
	beats, err := g.bed.Witness(g.input.Ref, trial.Guest)
	if err == nil {
		err = g.end(ctx, trial.Guest, beats, cause.WitnessDied)
	}
	if err != nil {
		return fmt.Errorf("end the witness in the guest: %w", err)
	}
	return nil
}

// end ends a recording. A recording that has ended by itself is an error, unless the target
// has failed: then it may have ended because of that, and what it wrote is kept.
func (g *gathering) end(ctx context.Context, name string, recording record.Recording, died cause.Code) error {
	progress, err := recording.Progress(ctx)
	if err != nil {
		return err
	}
	if !progress.Running && progress.Problem != "" {
		ended := fault.Because(fault.Invalid, died, fmt.Errorf("what recorded ended by itself: %s", progress.Problem))
		if !g.input.Failed {
			return ended
		}
		g.mu.Lock()
		g.collected.Problems = append(g.collected.Problems, name+": "+ended.Error())
		g.mu.Unlock()
	}
	g.pulse.Done(pulse.Step{Step: "end what records on " + name})
	return recording.Stop(ctx)
}

// fetch ends a recording, and fetches its files to the machine's folder.
func (g *gathering) fetch(ctx context.Context, name string, find func() (record.Recording, error), died cause.Code) error {
	recording, err := find()
	if err == nil {
		err = g.end(ctx, name, recording, died)
	}
	folder := filepath.Join(g.input.WorkFolder(), name)
	if err == nil {
		err = makeFolder(g.input.Target, folder)
	}
	var bytes int64
	if err == nil {
		_, err = recording.Fetch(ctx, folder, func(done, total int64) {
			bytes = total
			g.pulse.Done(pulse.Step{Step: fmt.Sprintf("fetch from %s: %d of %d bytes", name, done, total)})
		})
	}
	if err != nil {
		return fmt.Errorf("collect from %s: %w", name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.collected.Bytes += bytes
	g.collected.Machines = append(g.collected.Machines, name)
	return nil
}

// Found is what the evidence of a failure shows at once.
type Found struct {
	// Cause is the cause of a failure of the system under test; "" when the evidence shows
	// none.
	Cause  cause.Code `json:"cause,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Now    time.Time  `json:"now"`
}

// EvidenceInput says which attempt's evidence is wanted.
type EvidenceInput struct {
	Target
	Disk storage.Disk `json:"disk"` // as it was provisioned; without a name when it was not provisioned
}

// Evidence brings what may explain a failure into the attempt's part of the dataset, before
// the teardown removes it, and checks whether the guest or the storage shows what has
// happened. For an attempt that is already in the dataset it does nothing: what it found is
// there.
func (c *Collector) Evidence(ctx context.Context, input EvidenceInput) (Found, error) {
	var found Found
	find := c.Records.alone(input.Target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) (err error) {
		found, err = find(ctx, bed, p, input)
		return err
	})
	err := withBed(ctx, c.Open, input.Target, silenceOf(input.Target), func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		err := find(ctx, bed, p)
		if errors.Is(err, errConcluded) {
			return nil
		}
		return err
	})
	return found, err
}

// find collects the evidence of an attempt.
func find(ctx context.Context, bed testbed.Bed, p *pulse.Pulse, input EvidenceInput) (Found, error) {
	p.Done(pulse.Step{Step: "collect evidence"})
	var found Found
	folder := evidenceFolder(input.Target)
	if err := makeFolder(input.Target, folder); err != nil {
		return found, err
	}
	if err := bed.Evidence(ctx, folder); err != nil {
		return found, err
	}
	if found.Cause, found.Reason = diagnose(ctx, bed, input.Ref); found.Cause == "" {
		found.Cause, found.Reason = diagnoseStorage(ctx, bed, input)
	}
	found.Now = bed.Now()
	return found, nil
}

// evidenceName is the name of the evidence folder in an attempt's folder.
const evidenceName = "evidence"

// evidenceFolder is the folder of an attempt's evidence bundle.
func evidenceFolder(target Target) string {
	cell := target.Ref.Trial.Cell
	return filepath.Join(dataset.CampaignFolder(target.DataDir, target.Ref.Campaign),
		filepath.FromSlash(dataset.TrialFolder(cell.Storage, cell.RTTMs, target.Ref.Key())), evidenceName)
}

// diagnose asks the hypervisors about the guest: a guest that should run but has crashed,
// or is on no host, is a result.
func diagnose(ctx context.Context, bed testbed.Bed, ref trial.Ref) (code cause.Code, reason string) {
	if _, loaded := ref.Timeline.Start(trial.WarmUp); !loaded {
		return "", ""
	}
	seen := 0
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		domains, err := bed.Hypervisor(site).List(ctx)
		if err != nil {
			return "", "" // a host that cannot be asked shows nothing
		}
		for _, domain := range domains {
			seen++
			// A domain that is shut down may be suspended for its migration.
			if domain.Status == hypervisor.Crashed {
				return cause.GuestCrash, fmt.Sprintf("domain %s is %s on %s", domain.Name, domain.Status, bed.Hypervisor(site).Host())
			}
		}
	}
	if seen == 0 {
		return cause.GuestCrash, "the guest's domain is on neither host"
	}
	return "", ""
}

// diagnoseStorage asks the storage system what has happened to the disk: failures that
// follow from that may have other names.
func diagnoseStorage(ctx context.Context, bed testbed.Bed, input EvidenceInput) (code cause.Code, reason string) {
	system, err := storageOf(bed, input.Ref)
	if err != nil || input.Disk.Name == "" {
		return "", ""
	}
	diagnoser, ok := system.(storage.Diagnoser)
	if !ok {
		return "", ""
	}
	return diagnoser.Diagnose(ctx, input.Disk)
}
