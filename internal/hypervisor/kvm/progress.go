package kvm

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/hypervisor"
)

// progressEvery is how often the source is asked for its job's statistics.
const progressEvery = 500 * time.Millisecond

// switchPass is the pass over the memory with which a post-copy continues at the target:
// the first pass has sent all of the memory.
const switchPass = 2

// follow reports the job's progress until the context ends, at each answer of libvirt
// and each step that QEMU reports. It also switches to post-copy.
func (m *migration) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	steps, err := m.source.virt.SubscribeQEMUEvents(ctx, m.name)
	if err != nil {
		m.note("QEMU's events cannot be had: " + err.Error())
	} else {
		defer drain(steps)
	}
	defer cancel()
	phase, switched := "", m.order.Mode != hypervisor.PostCopy
	if m.order.Domain.Disk.Copy != "" {
		phase = "mirror" // QEMU's name for the job that copies a disk
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-steps:
			if !open {
				steps = nil
				continue
			}
			word, pass := migrationStep(event)
			if word != "" {
				phase = word
				m.note("QEMU: " + word)
			}
			if begins, is := beginnings[word]; is {
				m.enter(begins)
			}
			if !switched && pass >= switchPass {
				switched = true
				m.switchOver()
			}
		case <-ticker.C:
		}
		kind, params, err := m.source.virt.DomainGetJobStats(m.domain, 0)
		if err != nil || libvirt.DomainJobType(kind) == libvirt.DomainJobNone {
			continue // the job has not begun, or has ended
		}
		progress := progressOf(numbers(params), m.order.Domain.Disk.Copy)
		progress.At, progress.Phase = time.Now(), phase
		m.report(progress)
	}
}

// switchOver makes the domain go on at the target and fetch the missing memory from the
// source. It is no error when the domain has arrived meanwhile.
func (m *migration) switchOver() {
	m.note("switch to post-copy")
	if err := m.source.virt.DomainMigrateStartPostCopy(m.domain, 0); err != nil {
		m.note("it was refused: " + err.Error())
	}
}

// drain reads until the end of a subscription, so that its sender does not block.
func drain(events <-chan libvirt.DomainEvent) {
	for range events {
		continue
	}
}

// diskCopied is our word for QEMU's event BLOCK_JOB_READY: the copy has all of the disk
// and follows the writes (qapi/block-core.json).
const diskCopied = "disk copied"

// beginnings maps steps to the phases that begin with them.
var beginnings = map[string]hypervisor.PhaseName{
	diskCopied:        hypervisor.Converging,
	"pre-switchover":  hypervisor.Switching, // the domain has just stopped
	"postcopy-active": hypervisor.Fetching,
}

// migrationStep is the word of an event MIGRATION and the number of an event
// MIGRATION_PASS (qapi/migration.json), or diskCopied.
func migrationStep(event libvirt.DomainEvent) (word string, pass int) {
	var details struct {
		Status string `json:"status"`
		Pass   int    `json:"pass"`
	}
	if event.Event == "BLOCK_JOB_READY" {
		return diskCopied, 0
	}
	if event.Event != "MIGRATION" && event.Event != "MIGRATION_PASS" || json.Unmarshal(event.Details, &details) != nil {
		return "", 0
	}
	return details.Status, details.Pass
}

// report stores the progress and passes it on.
func (m *migration) report(progress hypervisor.Progress) {
	m.mu.Lock()
	if last := m.last.DiskSentBytes; progress.DiskSentBytes != nil && last != nil && *last > *progress.DiskSentBytes {
		progress.DiskSentBytes, progress.DiskBytes = last, m.last.DiskBytes // the job of the disk's copy has ended, and its numbers are gone
	}
	m.last = progress
	m.mu.Unlock()
	if m.order.Progress != nil {
		m.order.Progress(progress)
	}
}

// began says whether anything of the domain was sent; libvirt keeps the statistics of
// the last job.
func (m *migration) began() bool {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	if last.SentBytes > 0 || last.DiskSentBytes != nil && *last.DiskSentBytes > 0 {
		return true
	}
	_, params, err := m.source.virt.DomainGetJobStats(m.domain, libvirt.DomainJobStatsCompleted|libvirt.DomainJobStatsKeepCompleted)
	if err != nil {
		return false
	}
	values := numbers(params)
	return values[libvirt.DomainJobMemoryProcessed] > 0 || values[libvirt.DomainJobDiskProcessed] > 0
}

// account completes the account of a migration with the statistics of its job, which
// libvirt has carried to the target, except those of a disk's copy. For post-copy there
// are none, because the job ends after the target has started.
//
// The downtime is downtime_net: the source's part by the source's clock plus the
// target's part by the target's clock. libvirt's downtime also contains the difference
// between the two clocks (qemuDomainJobDataUpdateDowntime). downtime_net leaves out the
// time between the two parts, in which our own process has the source's answer and calls
// the target. When the target's clock is behind the source's by more than that time,
// libvirt reports no downtime_net (qemuDomainMigrationJobDataToParams compares the
// negative difference as an unsigned number). Then the downtime is not known, and the
// log says so.
func (m *migration) account(account *hypervisor.Migration) {
	account.Phases = m.phases
	account.Log, account.StreamBytes, account.Rounds, account.DiskBytes = m.text(), m.last.SentBytes, m.last.Round, m.last.DiskSentBytes
	at, err := m.target.find(m.name)
	if err != nil {
		return
	}
	_, params, err := m.target.virt.DomainGetJobStats(at.domain, libvirt.DomainJobStatsCompleted)
	if err != nil {
		return
	}
	values := numbers(params)
	if sent, told := values[libvirt.DomainJobMemoryProcessed]; told {
		account.StreamBytes = sent
	}
	if ms, told := values[libvirt.DomainJobDowntimeNet]; told {
		downtime := time.Duration(ms) * time.Millisecond
		account.Downtime = &downtime
	} else if ms, told := values[libvirt.DomainJobDowntime]; told {
		m.note(fmt.Sprintf("libvirt tells no downtime_net, as the target's clock is behind the source's; its downtime, with their difference in it, is %d ms", ms))
		account.Log = m.text()
	}
	if rounds := known(values, libvirt.DomainJobMemoryIteration); rounds != nil {
		account.Rounds = rounds
	}
}

// progressOf reads a job's statistics (VIR_DOMAIN_JOB_* of libvirt-domain.h).
func progressOf(values map[string]int64, copied hypervisor.Copy) hypervisor.Progress {
	progress := hypervisor.Progress{
		SentBytes:      values[libvirt.DomainJobMemoryProcessed],
		MemoryBytes:    values[libvirt.DomainJobMemoryTotal],
		Round:          known(values, libvirt.DomainJobMemoryIteration),
		RemainingBytes: known(values, libvirt.DomainJobMemoryRemaining),
	}
	if pages := known(values, libvirt.DomainJobMemoryDirtyRate); pages != nil {
		if size, told := values[libvirt.DomainJobMemoryPageSize]; told {
			rate := *pages * size
			progress.DirtyBytesPerSecond = &rate
		}
	}
	if copied != "" {
		progress.DiskSentBytes = known(values, libvirt.DomainJobDiskProcessed)
		progress.DiskBytes = known(values, libvirt.DomainJobDiskTotal)
	}
	return progress
}

func known(values map[string]int64, name string) *int64 {
	value, told := values[name]
	if !told {
		return nil
	}
	return &value
}

// numbers are the integers among the parameters.
func numbers(params []libvirt.TypedParam) map[string]int64 {
	values := map[string]int64{}
	for _, param := range params {
		switch value := param.Value.I.(type) {
		case int32:
			values[param.Field] = int64(value)
		case uint32:
			values[param.Field] = int64(value)
		case int64:
			values[param.Field] = value
		case uint64:
			values[param.Field] = int64(value) //nolint:gosec // bytes, pages, counts and times
		}
	}
	return values
}
