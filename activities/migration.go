package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"heliotrope/activities/machine"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

// Migration moves the guest, and measures the path and the clocks around it.
type Migration struct {
	Open Opener
}

// AttestInput says what the path is to be like.
type AttestInput struct {
	Target
	RTTToleranceMs int `json:"rtt_tolerance_ms"`
}

// Attested is what was measured before the load starts.
type Attested struct {
	RTTMinMs  float64                 `json:"rtt_min_ms"`
	RTTMeanMs float64                 `json:"rtt_mean_ms"`
	Clocks    map[string]clock.Offset `json:"clocks"` // by machine
	Now       time.Time               `json:"now"`
}

// pingCount is how often the path is asked; a ping each 0.2 s.
const pingCount = 10

// Attest measures the round trip between the sites, and the clocks. A path that
// is not what the profile says makes the measurement invalid: the least round
// trip must not be below the profile's by more than the tolerance, and not above
// it by more than the tolerance beyond what the profile's jitter explains.
func (m *Migration) Attest(ctx context.Context, input AttestInput) (Attested, error) {
	attested := Attested{Clocks: map[string]clock.Offset{}}
	err := withBed(ctx, m.Open, input.Target, stepSilence, func(ctx context.Context, bed testbed.Bed, p *machine.Pulse) error {
		p.Done(machine.Step{Step: "measure the round trip"})
		ping, err := bed.Ping(ctx, pingCount)
		if err != nil {
			return err
		}
		attested.RTTMinMs, attested.RTTMeanMs = milliseconds(ping.Min), milliseconds(ping.Mean)
		if err := checkPath(input, ping); err != nil {
			return err
		}
		if attested.Clocks, err = clocks(ctx, bed, p); err != nil {
			return err
		}
		attested.Now = bed.Now()
		return nil
	})
	return attested, err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func checkPath(input AttestInput, ping wan.Ping) error {
	profile, err := wan.ParseProfile(input.Ref.Trial.Cell.WAN)
	if err != nil {
		return fault.As(fault.BadInput, err)
	}
	tolerance := time.Duration(input.RTTToleranceMs) * time.Millisecond
	if low, high := profile.RTT-profile.Jitter-tolerance, profile.RTT+profile.Jitter+tolerance; ping.Min < low || ping.Min > high {
		return fault.New(fault.Invalid, "the least round trip of %d is %s, but %s wants %s to %s: something else shapes the path, or the shaping does not work",
			pingCount, ping.Min, profile, max(0, low), high)
	}
	return nil
}

// clocks measures the clock of every machine of the testbed.
func clocks(ctx context.Context, bed testbed.Bed, p *machine.Pulse) (map[string]clock.Offset, error) {
	offsets := map[string]clock.Offset{}
	for _, name := range append(bed.HostNames(), testbed.GuestName) {
		p.Done(machine.Step{Step: "measure the clock of " + name})
		offset, err := bed.Clock(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("clock of %s: %w", name, err)
		}
		offsets[name] = offset
	}
	return offsets, nil
}

// MigrateInput says what to migrate: from site A to site B.
type MigrateInput struct {
	Target
	Disk   storage.Disk  `json:"disk"`
	Domain string        `json:"domain"`
	Limit  time.Duration `json:"limit"` // a longer migration is cancelled and has failed
}

// Migrated is the account of a migration.
type Migrated struct {
	Prepared    time.Time `json:"prepared"` // the storage was ready for it
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
	Settled     time.Time `json:"settled"` // the storage was back to one site
	StreamBytes int64     `json:"stream_bytes"`
	MemoryBytes int64     `json:"memory_bytes"`
	Now         time.Time `json:"now"`
}

const (
	migrationLog = "migration.log"
	// migratingFile says that a migration was begun. What it measured is lost
	// when its activity is.
	migratingFile = "migration-begun.json"
	// migrationSilence is how long a migration's stream may stand still.
	migrationSilence = 2 * time.Minute
)

// Migrate moves the guest to site B. A migration that fails, or takes longer
// than its limit, is a result: TargetFailed. One that an earlier, lost run of
// this activity had begun has no account, so the measurement is invalid.
func (m *Migration) Migrate(ctx context.Context, input MigrateInput) (Migrated, error) {
	var migrated Migrated
	err := withBed(ctx, m.Open, input.Target, migrationSilence, func(ctx context.Context, bed testbed.Bed, p *machine.Pulse) error {
		begun := filepath.Join(input.WorkFolder(), migratingFile)
		if _, err := os.Stat(begun); err == nil {
			return fault.New(fault.Invalid, "whoever watched the migration was lost in the middle of it")
		}
		if err := writeJSON(begun, bed.Now()); err != nil {
			return err
		}
		system, err := storageOf(bed, input.Ref)
		if err != nil {
			return err
		}
		p.Done(machine.Step{Step: "open the disk at both sites"})
		if err := system.PrepareMigration(ctx, input.Disk, storage.SiteA, storage.SiteB); err != nil {
			return ofTarget(ctx, err)
		}
		migrated.Prepared = bed.Now()
		if err := m.move(ctx, input, bed, p, &migrated); err != nil {
			return err
		}
		p.Done(machine.Step{Step: "close the disk at site A"})
		if err := system.FinishMigration(ctx, input.Disk, storage.SiteB); err != nil {
			return ofTarget(ctx, err)
		}
		migrated.Settled, migrated.Now = bed.Now(), bed.Now()
		return nil
	})
	return migrated, err
}

func (m *Migration) move(ctx context.Context, input MigrateInput, bed testbed.Bed, p *machine.Pulse, migrated *Migrated) error {
	limited, cancel := context.WithTimeout(ctx, input.Limit)
	defer cancel()
	events, err := openJournal(input.Target)
	if err != nil {
		return err
	}
	account, err := bed.Hypervisor(storage.SiteA).Migrate(limited, input.Domain, bed.Hypervisor(storage.SiteB),
		func(progress hypervisor.Progress) {
			migrated.MemoryBytes = progress.MemoryBytes
			events.note(progress.At, "migration-progress", strconv.FormatInt(progress.SentBytes, 10)+" bytes")
			p.Done(progress)
		})
	if closeErr := events.close(); closeErr != nil {
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
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fault.New(fault.TargetFailed, "the migration was cancelled after its limit of %s: %w", input.Limit, err)
	}
	migrated.Started, migrated.Finished, migrated.StreamBytes = account.Started, account.Finished, account.StreamBytes
	return err
}

// ofTarget makes an error of the storage one of the system under test, unless
// it was us who stopped, or the way to the host that broke.
func ofTarget(ctx context.Context, err error) error {
	if ctx.Err() != nil || cutOff(err) {
		return err
	}
	return fault.As(fault.TargetFailed, err)
}

// cutOff says whether an error is of our own way to a host: it says nothing
// about what happened there.
func cutOff(err error) bool {
	return errors.Is(err, remote.ErrConnectionLost) || errors.Is(err, remote.ErrUnreachable)
}
