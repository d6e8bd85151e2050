package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"heliotrope/analysis/judge"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/wan"
)

// Planner expands a campaign's plan and reads it back in pieces, so that a
// workflow carries only the next trial's number.
type Planner struct{}

// PlanInput names a campaign.
type PlanInput struct {
	Campaign string `json:"campaign"`
	SpecYAML string `json:"spec_yaml"`
	// Files are the texts of Iometer's files that it names.
	Files   map[string][]byte `json:"files,omitempty"`
	DataDir string            `json:"data_dir"`
	// SHA256 is of the plan that the campaign began with; none at its start.
	SHA256 string `json:"sha256,omitempty"`
}

// Planned is a plan on disk.
type Planned struct {
	Trials int    `json:"trials,omitempty"` // of a new plan
	SHA256 string `json:"sha256"`           // of the plan file, hex
	Settings
	// Stop ends the campaign by precision; nil for a fixed number of trials.
	Stop *campaign.Stop `json:"stop,omitempty"`
}

// Settings are what each trial takes from the spec beside its cell.
type Settings struct {
	Phases      campaign.Phases      `json:"phases"`
	SteadyState campaign.SteadyState `json:"steady_state"`
	Recovery    campaign.Recovery    `json:"recovery"`
	Disk        campaign.DiskSpec    `json:"disk"`
	Limits      campaign.Limits      `json:"limits"`
}

// Tolerance is how far the path may be from its profile.
func (s Settings) Tolerance() wan.Tolerance {
	return wan.Tolerance{RTTMs: s.Limits.RTTToleranceMs, RTTPercent: s.Limits.RTTTolerancePercent,
		MinThroughputPercent: s.Limits.MinThroughputPercent, SpreadMs: s.Limits.SpreadMs}
}

// judged are the limits by which an attempt is judged.
func (s Settings) judged() judge.Limits { return judge.LimitsOf(s.Limits, s.SteadyState, s.Recovery) }

func planPath(dataDir, name string) string {
	return filepath.Join(dataDir, "work", name, "plan.json")
}

// Expand writes the campaign's plan, and its spec beside it. The plan of a
// campaign that has begun is never written again: a newer program could have
// other ideas about it.
func (*Planner) Expand(_ context.Context, input PlanInput) (Planned, error) {
	spec, err := campaign.Parse(input.Campaign+".yaml", []byte(input.SpecYAML), campaign.FromTexts(input.Files))
	if err != nil {
		return Planned{}, wire.ToTemporal(fault.As(fault.BadInput, err))
	}
	planned := Planned{SHA256: input.SHA256, Stop: spec.Stop, Settings: Settings{Phases: spec.Phases,
		SteadyState: spec.SteadyState, Recovery: spec.Recovery, Disk: spec.Disk, Limits: spec.Limits}}
	if input.SHA256 != "" {
		return planned, nil
	}
	trials := spec.Plan()
	path := planPath(input.DataDir, input.Campaign)
	if err := writeJSON(path, trials); err != nil {
		return Planned{}, wire.ToTemporal(err)
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(filepath.Join(filepath.Dir(path), "campaign.yaml"), []byte(input.SpecYAML), 0o644)
	}
	if err != nil {
		return Planned{}, wire.ToTemporal(err)
	}
	sum := sha256.Sum256(text)
	planned.Trials, planned.SHA256 = len(trials), hex.EncodeToString(sum[:])
	return planned, nil
}

// TrialsInput asks for a piece of a plan.
type TrialsInput struct {
	Campaign string `json:"campaign"`
	DataDir  string `json:"data_dir"`
	SHA256   string `json:"sha256"` // of the plan file
	First    int    `json:"first"`  // sequence of the first trial, from 1
	Count    int    `json:"count"`  // at most; a trial is about 1 kB
}

// Trials reads a piece of the plan. A plan file that was changed is refused.
func (*Planner) Trials(_ context.Context, input TrialsInput) ([]campaign.Trial, error) {
	path := planPath(input.DataDir, input.Campaign)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, wire.ToTemporal(fmt.Errorf("read the campaign's plan: %w", err))
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != input.SHA256 {
		return nil, wire.ToTemporal(fault.New(fault.BadInput, "%s is not the plan that the campaign began with", path))
	}
	var trials []campaign.Trial
	if err := json.Unmarshal(text, &trials); err != nil {
		return nil, wire.ToTemporal(fault.New(fault.BadInput, "%s: %w", path, err))
	}
	first := min(max(input.First-1, 0), len(trials))
	return trials[first:min(first+input.Count, len(trials))], nil
}
