package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"heliotrope/internal/record"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// snapshot is the state of a campaign at one moment.
type snapshot struct {
	At         time.Time                `json:"at"`
	WorkflowID string                   `json:"workflow_id"`
	Outcome    outcome                  `json:"outcome"`
	Failure    string                   `json:"failure,omitempty"` // why the campaign failed
	Status     workflows.CampaignStatus `json:"status"`
	Lanes      []laneSnapshot           `json:"lanes,omitempty"`
	// EstimateSeconds is how long a trial takes according to the plan; it is used until the
	// first trial has finished.
	EstimateSeconds float64 `json:"estimate_seconds"`
	LaneCount       int     `json:"lane_count"`
	// CellCauses are the reasons why attempts were not valid, by cell; only status sets it.
	CellCauses []cellCause `json:"cell_causes,omitempty"`
	// Unanswered says why Status is out of date, and what to do; empty when it is not.
	Unanswered string `json:"unanswered,omitempty"`
}

// outcome is the outcome of a campaign's workflow.
type outcome string

// The outcomes.
const (
	outcomeRunning    outcome = "running"
	outcomeCompleted  outcome = "completed"
	outcomeFailed     outcome = "failed"
	outcomeCancelled  outcome = "cancelled"
	outcomeTerminated outcome = "terminated" // by somebody, without the campaign's own teardown
	outcomeTimedOut   outcome = "timed-out"
)

// sentence is the part of a sentence that follows the campaign's name.
func (o outcome) sentence() string {
	switch o {
	case outcomeRunning:
		return "is running"
	case outcomeCompleted:
		return "has finished"
	case outcomeTimedOut:
		return "has timed out"
	case outcomeFailed:
		return "has failed"
	}
	return "was " + string(o)
}

// laneSnapshot is the trial that a lane runs, with what its activities last reported. A
// field that could not be queried is nil.
type laneSnapshot struct {
	workflows.RunningTrial
	// State is the lane's state when it runs no trial, since Started; Why is the reason.
	State     string                 `json:"state,omitempty"`
	Why       string                 `json:"why,omitempty"`
	Trial     *workflows.TrialStatus `json:"trial,omitempty"`
	Load      *record.Progress       `json:"load,omitempty"`
	Migration *migrationProgress     `json:"migration,omitempty"`
	Step      string                 `json:"step,omitempty"` // what is being done, in a few words
	Waits     []wait                 `json:"waits,omitempty"`
}

// migrationProgress is how far a migration is.
type migrationProgress struct {
	SentBytes   int64 `json:"sent_bytes"`   // in all rounds
	MemoryBytes int64 `json:"memory_bytes"` // the guest's memory, all of which is sent in one round
}

// left forecasts the time until the campaign ends, from the mean time of its finished
// trials, or from the plan's estimate before there is one. It is false when nothing is
// known.
func (s snapshot) left() (time.Duration, bool) {
	progress := s.Status.Progress
	mean := s.EstimateSeconds
	if finished := progress.Done() - progress.Verdicts[trial.Skipped]; finished > 0 && progress.TrialSeconds > 0 {
		mean = progress.TrialSeconds / float64(finished)
	}
	if mean <= 0 || progress.Total == 0 {
		return 0, false
	}
	left := progress.Total - progress.Done()
	if progress.Precise != nil {
		// That many more trials were needed when the results were last judged.
		left = min(left, max(0, progress.JudgedDone+progress.Precise.MoreTrials-progress.Done()))
	}
	if progress.Enough {
		left = len(s.Status.Running)
	}
	seconds := mean * float64(left)
	for _, running := range s.Status.Running {
		seconds -= min(mean, max(0, s.At.Sub(running.Started).Seconds()))
	}
	seconds = max(0, seconds) / float64(max(1, s.LaneCount))
	return time.Duration(seconds * float64(time.Second)), true
}

// headline describes the campaign in one line.
func (s snapshot) headline() string {
	state := s.Status.State
	if s.Outcome != outcomeRunning {
		state = string(s.Outcome)
	}
	if state == "" {
		return s.Status.Name + ": running, and how far it is nobody says"
	}
	line := fmt.Sprintf("%s: %s, %s", s.Status.Name, state, s.counts())
	if left, known := s.left(); known && left > 0 && s.Outcome == outcomeRunning && state != "finished" {
		line += ", about " + seconds(left) + " left"
	}
	return line
}

// counts says how many trials are done, and how they ended.
func (s snapshot) counts() string {
	progress := s.Status.Progress
	line := fmt.Sprintf("%d of %d trials done", progress.Done(), progress.Total)
	var parts []string
	for _, verdict := range []trial.Verdict{trial.Valid, trial.TargetFailed, trial.Invalid, trial.Skipped} {
		if count := progress.Verdicts[verdict]; count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count, verdict))
		}
	}
	if progress.Retried > 0 {
		parts = append(parts, fmt.Sprintf("%d tried again", progress.Retried))
	}
	if len(parts) > 0 {
		line += " (" + strings.Join(parts, ", ") + ")"
	}
	return line
}

// headline describes the lane's trial in one line. Text that comes from a host is shown
// without control characters.
func (l laneSnapshot) headline(total int, at time.Time) string {
	if l.WorkflowID == "" {
		return printable(fmt.Sprintf("%s: %s %s: %s", l.Lane, l.State, seconds(at.Sub(l.Started)), l.Why))
	}
	line := fmt.Sprintf("%s: trial %d/%d %s", l.Lane, l.Sequence, total, l.CellID)
	if l.Trial != nil {
		if l.Trial.Attempt > 1 {
			line += fmt.Sprintf(", attempt %d/%d", l.Trial.Attempt, l.Trial.Attempts)
		}
		line += fmt.Sprintf(", %s %s", l.Trial.Phase, seconds(at.Sub(l.Trial.Since)))
	} else {
		line += fmt.Sprintf(", %s %s", l.unknown(at), seconds(at.Sub(l.Started)))
	}
	for _, detail := range l.details(at) {
		line += ", " + detail
	}
	for _, w := range l.distinct() {
		line += "; " + w.text(at)
	}
	return printable(line)
}

// unknown stands in place of a phase that the trial has not reported: a trial that has just
// begun has no history yet that could be queried, and a trial may end at any moment.
func (l laneSnapshot) unknown(at time.Time) string {
	if at.Sub(l.Started) <= 2*askLimit {
		return "beginning"
	}
	return "not known"
}

// loadFresh is how old a figure of the load may be to be shown without its age. It dates
// from when the load was last looked at: an older one shows how the load was before a
// stall.
const loadFresh = 3 * time.Second

// details are the figures that belong to the lane's phase.
func (l laneSnapshot) details(at time.Time) []string {
	var details []string
	if l.Step != "" {
		details = append(details, l.Step)
	}
	if m := l.Migration; m != nil && m.MemoryBytes > 0 {
		details = append(details, fmt.Sprintf("%s sent of a memory of %s", mebibytes(m.SentBytes), mebibytes(m.MemoryBytes)))
	}
	if l.Load != nil {
		figures := fmt.Sprintf("%.0f IOPS, %.1f ms", l.Load.IOPS, l.Load.MeanLatencyMs)
		if age := at.Sub(l.Load.At); !l.Load.At.IsZero() && age > loadFresh {
			figures += " " + seconds(age) + " ago"
		}
		details = append(details, figures)
	}
	if l.Trial != nil && l.Trial.Problem != "" {
		details = append(details, "the attempt before: "+l.Trial.Problem)
	}
	return details
}

// key changes when the lane's trial, attempt or phase changes, or what it waits for.
func (l laneSnapshot) key() string {
	key := l.WorkflowID + l.State + l.Why
	if l.Trial != nil {
		key += fmt.Sprintf("/%d/%s", l.Trial.Attempt, l.Trial.Phase)
	}
	for _, w := range l.distinct() {
		key += "/" + w.Failure
	}
	return key
}

func seconds(d time.Duration) string { return max(0, d).Round(time.Second).String() }

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// printable is text on one line, without characters that could disturb a terminal.
func printable(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?")))
}
