package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// Migrator migrates the guest, or only pauses it.
type Migrator struct {
	Open    Opener
	Records *Records
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// route is the site at which a trial's guest starts, and the site to which it migrates.
func route(ref trial.Ref) (from, to storage.Site) {
	if ref.Trial.Direction == campaign.Return {
		return storage.SiteB, storage.SiteA
	}
	return storage.SiteA, storage.SiteB
}

// lastSite is the site where a trial's guest ends up.
func lastSite(ref trial.Ref) storage.Site {
	from, to := route(ref)
	if ref.Trial.Cell.Migrates() {
		return to
	}
	return from
}

// MigrateInput says what to migrate.
type MigrateInput struct {
	Target
	Disk   storage.Disk  `json:"disk"`
	Domain string        `json:"domain"`
	Limit  time.Duration `json:"limit"` // a migration that takes longer is cancelled, and has failed
}

// guest is the attempt's guest, with its disk.
func (i MigrateInput) guest() testbed.Guest { return guestOf(i.Ref, i.Disk) }

// guestOf is the guest that an attempt's cell asks for, with its disk.
func guestOf(ref trial.Ref, disk storage.Disk) testbed.Guest {
	cell := ref.Trial.Cell
	return testbed.Guest{Disk: disk, MemoryMiB: cell.GuestMemoryMiB, VCPUs: cell.GuestVCPUs}
}

// Migrated is the account of a migration or a pause.
type Migrated struct {
	// PrepareBegan and FinishBegan are when the storage was told to prepare the disk, and
	// to release the source's side. Only a migration has them.
	PrepareBegan time.Time `json:"prepare_began,omitzero"`
	FinishBegan  time.Time `json:"finish_began,omitzero"`

	Prepared    time.Time `json:"prepared"` // the storage was ready for the migration
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
	Settled     time.Time `json:"settled"` // the storage was back at one site
	StreamBytes int64     `json:"stream_bytes"`
	MemoryBytes int64     `json:"memory_bytes"`
	// What the hypervisor reports of the migration; nil when it does not.
	DowntimeMs *float64 `json:"downtime_ms,omitempty"`
	Rounds     *int64   `json:"rounds,omitempty"`
	DiskBytes  *int64   `json:"disk_bytes,omitempty"` // of the copy of a private disk
	// Phases are the parts of the migration that the hypervisor reports.
	Phases []hypervisor.Phase `json:"phases,omitempty"`
	Now    time.Time          `json:"now"`
}

const (
	migrationLog = "migration.log"
	// migratingFile says that a migration was begun. When its activity is lost, what it
	// measured is lost.
	migratingFile = "migration-begun.json"
)

// begun is the content of migratingFile.
type begun struct {
	At time.Time `json:"at"`
	// Ended is how a try ended that has no account; "" when nobody who watched it could
	// tell.
	Ended string `json:"ended,omitempty"`
}

// begin notes that what the trial measures has begun. It is an error the second time,
// because what was measured is lost with the first try.
func begin(target Target, bed testbed.Bed) error {
	path := filepath.Join(target.WorkFolder(), migratingFile)
	var before begun
	switch err := readJSON(path, &before); {
	case errors.Is(err, fs.ErrNotExist):
		return writeJSON(path, begun{At: bed.Now()})
	case err != nil:
		return err
	case before.Ended != "":
		return fault.New(fault.Invalid, "the migration had begun, and its account is lost: %s", before.Ended)
	}
	return fault.New(fault.Invalid, "whoever watched the migration was lost in the middle of it")
}

// unbegin removes what begin noted, when certainly nothing of the guest was sent: then the
// next try may migrate the guest. Otherwise it notes how this try ended.
func unbegin(target Target, sent bool, why error) error {
	path := filepath.Join(target.WorkFolder(), migratingFile)
	if !sent && fault.Of(why) == fault.Infrastructure && !errors.Is(why, hypervisor.ErrUnknown) && !errors.Is(why, hypervisor.ErrBegun) {
		return os.Remove(path)
	}
	var before begun
	if err := readJSON(path, &before); err != nil {
		return err
	}
	before.Ended = why.Error()
	return writeJSON(path, before)
}

// Migrate migrates the guest to the other site. A migration that fails, or takes longer
// than its limit, is a result: TargetFailed. A migration that an earlier, lost try of this
// activity had begun has no account, so the measurement is invalid.
func (m *Migrator) Migrate(ctx context.Context, input MigrateInput) (Migrated, error) {
	var migrated Migrated
	err := withBed(ctx, m.Open, input.Target, input.Ref.Job().Path.StreamSilence(), m.Records.before(input.Target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) (err error) {
		if err := begin(input.Target, bed); err != nil {
			return err
		}
		defer func() {
			if err = classify(err); err != nil {
				err = errors.Join(err, unbegin(input.Target, migrated.StreamBytes > 0, err))
			}
		}()
		from, to := route(input.Ref)
		p.Done(pulse.Step{Step: "keep what was counted before"})
		if err := keepCounts(ctx, bed, input.Target, from); err != nil {
			return err
		}
		system, err := storageOf(bed, input.Ref)
		if err != nil {
			return err
		}
		// This is checked again: memory that was free may be in use now, or a host may run
		// another kernel since. That would not be a failed migration.
		p.Done(pulse.Step{Step: "ask the target whether it could take the guest"})
		if err := bed.CheckMigration(ctx, input.guest(), from); cutOff(err) {
			return err // the next try asks again
		} else if err != nil {
			return fault.Because(fault.Invalid, cause.Infrastructure, fmt.Errorf("the target cannot take the guest: %w", err))
		}
		p.Done(pulse.Step{Step: "open the disk at both sites"})
		migrated.PrepareBegan = bed.Now()
		if err := system.PrepareMigration(ctx, input.Disk, from, to); err != nil {
			return ofTarget(ctx, err)
		}
		migrated.Prepared = bed.Now()
		if err := m.move(ctx, input, bed, p, &migrated); err != nil {
			return err
		}
		p.Done(pulse.Step{Step: "close the disk at site " + string(from)})
		migrated.FinishBegan = bed.Now()
		if err := system.FinishMigration(ctx, input.Disk, to); err != nil {
			return ofTarget(ctx, err)
		}
		migrated.Settled, migrated.Now = bed.Now(), bed.Now()
		return nil
	}))
	return migrated, err
}

func (m *Migrator) move(ctx context.Context, input MigrateInput, bed testbed.Bed, p *pulse.Pulse, migrated *Migrated) error {
	limited, cancel := poll.WithTimeout(ctx, bed, input.Limit)
	defer cancel()
	events, err := openJournal(input.Target)
	if err != nil {
		return err
	}
	from, to := route(input.Ref)
	order := orderOf(input.Ref.Trial.Cell)
	order.Domain, order.AtTarget, order.Target = bed.GuestAt(from, input.guest()), bed.GuestAt(to, input.guest()), bed.Hypervisor(to)
	job := input.Ref.Job()
	job.MemoryBytes = int64(order.Domain.MemoryMiB) << 20
	order.Settle = job.Settle()
	read, kept := besideModel(bed, input.Target)
	var last hypervisor.Progress
	order.Progress = func(progress hypervisor.Progress) {
		last = progress
		migrated.MemoryBytes, migrated.StreamBytes = progress.MemoryBytes, progress.SentBytes
		events.note(progress.At, "migration-progress", progressText(progress))
		p.Done(progress)
		read(limited, progress.At)
	}
	account, err := bed.Hypervisor(from).Migrate(limited, order)
	if closeErr := errors.Join(events.close(), kept()); closeErr != nil {
		return errors.Join(err, closeErr)
	}
	log := account.Log
	var failed *hypervisor.MigrationError
	if errors.As(err, &failed) {
		log = failed.Log
	}
	if logErr := os.WriteFile(filepath.Join(input.WorkFolder(), migrationLog), []byte(log), 0o644); logErr != nil {
		return errors.Join(err, logErr)
	}
	// When the driver says whose fault it was, that stands, also at the limit.
	var told *fault.Error
	if err != nil && limited.Err() != nil && ctx.Err() == nil && !errors.Is(err, hypervisor.ErrUnknown) && !errors.As(err, &told) {
		return fault.Because(fault.TargetFailed, causeAtLimit(last),
			fmt.Errorf("the migration was cancelled after its limit of %s: %w", input.Limit, err))
	}
	migrated.Started, migrated.Finished, migrated.StreamBytes = account.Started, account.Finished, account.StreamBytes
	migrated.Rounds, migrated.DiskBytes, migrated.Phases = account.Rounds, account.DiskBytes, account.Phases
	if account.Downtime != nil {
		downtime := milliseconds(*account.Downtime)
		migrated.DowntimeMs = &downtime
	}
	return err
}

// besideModel reads the clocks of a model's hosts each minute while its guest migrates, and writes
// the readings in the end. On real hosts FollowClocks does that at the same time: a model's time
// passes only in the migration.
func besideModel(bed testbed.Bed, target Target) (read func(context.Context, time.Time), kept func() error) {
	if _, model := bed.(poll.Clock); !model {
		return func(context.Context, time.Time) {}, func() error { return nil }
	}
	var rows []dataset.Clock
	var failed error
	last := bed.Now()
	return func(ctx context.Context, now time.Time) {
			if now.Sub(last) < time.Minute || failed != nil || ctx.Err() != nil {
				return
			}
			last = now
			found, err := readClocks(ctx, bed, nil)
			rows, failed = append(rows, found...), err
		}, func() error {
			if failed != nil || len(rows) == 0 {
				return failed
			}
			return journalRows(target, dataset.Clocks, rows)
		}
}

// orderOf says how a cell wants the guest to be migrated.
func orderOf(cell campaign.Cell) hypervisor.Order {
	return hypervisor.Order{Mode: hypervisor.Mode(cell.Mode()), AutoConverge: cell.AutoConverge,
		BandwidthMiBPerSecond: cell.BandwidthMiBPerS, MaxDowntime: time.Duration(cell.MaxDowntimeMs) * time.Millisecond}
}

// progressText describes how far a migration is, as far as the hypervisor reports it.
func progressText(p hypervisor.Progress) string {
	text := strconv.FormatInt(p.SentBytes, 10) + " bytes"
	for _, more := range []struct {
		name  string
		value *int64
	}{{"round", p.Round}, {"remaining bytes", p.RemainingBytes}, {"dirty bytes/s", p.DirtyBytesPerSecond},
		{"disk bytes", p.DiskSentBytes}, {"of disk bytes", p.DiskBytes}} {
		if more.value != nil {
			text += fmt.Sprintf(", %s %d", more.name, *more.value)
		}
	}
	if p.Phase != "" {
		text += ", " + p.Phase
	}
	return text
}

// causeAtLimit is the cause when a migration was not finished at its limit. It depends on
// whether the migration was still in its first round or in a later one. When the hypervisor
// reports neither bytes nor rounds, that is not known.
func causeAtLimit(last hypervisor.Progress) cause.Code {
	if last.SentBytes == 0 && last.Round == nil {
		return cause.TimeOut
	}
	// Where pages of zeros are skipped, the number of bytes says less than the round.
	first := last.SentBytes < last.MemoryBytes
	if last.Round != nil {
		first = *last.Round <= 1
	}
	if first {
		return cause.TooSlow
	}
	return cause.NonConvergence
}

// PauseInput says what to pause, and for how long.
type PauseInput struct {
	Target
	Domain string        `json:"domain"`
	Hold   time.Duration `json:"hold"`
}

// Pause stops the guest's processors through the hypervisor for a known time, as the
// control of a measured stall. In the account, Started ≤ the pause begins ≤ Prepared, and
// Settled ≤ the pause ends ≤ Finished: the pause lasted at least from Prepared to Settled,
// and at most from Started to Finished.
func (m *Migrator) Pause(ctx context.Context, input PauseInput) (Migrated, error) {
	var account Migrated
	err := withBed(ctx, m.Open, input.Target, input.Ref.Job().Path.StreamSilence()+input.Hold, m.Records.before(input.Target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		from, _ := route(input.Ref)
		host := bed.Hypervisor(from)
		if err := begin(input.Target, bed); err != nil {
			// The guest must not stay paused for ever.
			return errors.Join(err, host.Unpause(ctx, input.Domain))
		}
		p.Done(pulse.Step{Step: "pause the guest"})
		account.Started = bed.Now()
		if err := host.Pause(ctx, input.Domain); err != nil {
			return err
		}
		account.Prepared = bed.Now()
		waited := poll.ClockOf(bed).Wait(ctx, input.Hold)
		account.Settled = bed.Now()
		p.Done(pulse.Step{Step: "let the guest go on"})
		err := host.Unpause(context.WithoutCancel(ctx), input.Domain)
		account.Finished, account.Now = bed.Now(), bed.Now()
		return errors.Join(waited, err)
	}))
	return account, err
}

// ofTarget turns an error of the storage into one of the system under test, unless we ended
// the step, or our connection to the host broke.
func ofTarget(ctx context.Context, err error) error {
	if ctx.Err() != nil || cutOff(err) || fault.Told(err) != "" {
		return err // the cause that the driver gives stands
	}
	code := cause.StorageFailed
	if errors.Is(err, context.DeadlineExceeded) {
		code = cause.TimeOut
	}
	return fault.Because(fault.TargetFailed, code, err)
}

// cutOff says whether an error is of our own connection to a host: such an error says
// nothing about what happened there.
func cutOff(err error) bool {
	return errors.Is(err, remote.ErrConnectionLost) || errors.Is(err, remote.ErrUnreachable)
}
