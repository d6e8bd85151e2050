package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// Planner makes a campaign's folder with its plan, and hands out its trials.
type Planner struct {
	Records *Records
	Version string // of this program
}

// PlanInput is what a campaign begins with.
type PlanInput struct {
	Campaign   string `json:"campaign"`
	SpecYAML   string `json:"spec_yaml,omitempty"` // only at its start
	SpecSHA256 string `json:"spec_sha256"`
	// Files are the texts of Iometer's files that the spec names.
	Files   map[string][]byte `json:"files,omitempty"`
	DataDir string            `json:"data_dir"`
	Lanes   []trial.Lane      `json:"lanes"`
	// Dataset is the identity of the folder in which the campaign was begun. It is "" at
	// the campaign's start: then the folder is made.
	Dataset string `json:"dataset,omitempty"`
	// Execution identifies one start of the campaign, and is the same in all its runs. What
	// lanes had claimed in other executions is free.
	Execution string `json:"execution,omitempty"`
	// SHA256 is the hash of the plan that the campaign began with; "" at its start.
	SHA256 string `json:"sha256,omitempty"`
}

// Planned describes a campaign's folder.
type Planned struct {
	Trials  int       `json:"trials"`  // of the plan, including added ones
	SHA256  string    `json:"sha256"`  // of the plan file, hex
	Dataset string    `json:"dataset"` // the folder's identity
	Began   time.Time `json:"began"`   // when the folder was made
	Counts  Counts    `json:"counts"`  // what it holds
	Settings
	// Orders are the orders of each lane at the campaign's start, by the lanes' names: what
	// people had told it, according to the folder, and the stop rule that holds.
	Orders map[string]Orders `json:"orders,omitempty"`
}

// Settings are what each trial takes from the spec besides its cell.
type Settings struct {
	Phases      campaign.Phases      `json:"phases"`
	SteadyState campaign.SteadyState `json:"steady_state"`
	Recovery    campaign.Recovery    `json:"recovery"`
	Disk        campaign.DiskSpec    `json:"disk"`
	Limits      campaign.Limits      `json:"limits"`
}

// settingsOf are the settings that a campaign was begun with.
func settingsOf(record *dataset.Record) Settings {
	settings := record.Settings()
	return Settings{Phases: settings.Phases, SteadyState: settings.SteadyState, Recovery: settings.Recovery,
		Disk: settings.Disk, Limits: settings.Limits}
}

// Tolerance is how far the path may deviate from its profile.
func (s Settings) Tolerance() wan.Tolerance {
	return wan.Tolerance{RTTMs: s.Limits.RTTToleranceMs, RTTPercent: s.Limits.RTTTolerancePercent,
		MinThroughputPercent: s.Limits.MinThroughputPercent, SpreadMs: s.Limits.SpreadMs}
}

// judged are the limits by which an attempt is judged.
func (s Settings) judged() judge.Limits { return judge.LimitsOf(s.Limits, s.SteadyState, s.Recovery) }

// Expand makes the campaign's folder with its plan and settings, or opens it. What the
// campaign was begun with is never written again, because a newer program might write it
// differently.
func (p *Planner) Expand(ctx context.Context, input PlanInput) (Planned, error) {
	record, err := p.open(ctx, input)
	if err != nil {
		return Planned{}, wire.ToTemporal(err)
	}
	if input.Dataset != "" { // a later run: another controller may have taken over meanwhile
		if err := stillOurs(ctx, record); err != nil {
			return Planned{}, wire.ToTemporal(err)
		}
	}
	identity := record.Identity()
	if input.SHA256 != "" && input.SHA256 != identity.PlanSHA256 {
		return Planned{}, wire.ToTemporal(fault.New(fault.BadInput, "the plan in %s is not the one that the campaign began with", record.Folder()))
	}
	err = record.Begin(ctx, input.Execution)
	if err == nil {
		err = hold(ctx, record, input.Execution)
	}
	if err != nil {
		return Planned{}, wire.ToTemporal(err)
	}
	if err := record.SetState(ctx, dataset.StateRunning); err != nil {
		return Planned{}, wire.ToTemporal(err)
	}
	orders, err := begunWith(record, input)
	if err != nil {
		return Planned{}, wire.ToTemporal(err)
	}
	counts := holds(record)
	return Planned{Trials: counts.Total, SHA256: identity.PlanSHA256, Dataset: identity.ID, Began: identity.Created, Counts: counts,
		Orders: orders, Settings: settingsOf(record)}, nil
}

// begunWith are the orders with which a campaign's lanes begin; none in a later run, which
// has them from the run before.
func begunWith(record *dataset.Record, input PlanInput) (map[string]Orders, error) {
	orders := map[string]Orders{}
	if input.Dataset != "" {
		return orders, nil
	}
	standing, err := StandingOf(record)
	if err != nil {
		return nil, err
	}
	for _, lane := range input.Lanes {
		orders[lane.Name] = standing.For(lane.Name)
	}
	return orders, nil
}

// open opens the campaign's folder; at the campaign's start it makes the folder.
func (p *Planner) open(ctx context.Context, input PlanInput) (*dataset.Record, error) {
	if input.Dataset != "" || input.SHA256 != "" {
		return p.Records.of(ctx, input.DataDir, input.Campaign, input.Dataset)
	}
	spec, err := campaign.Parse(input.Campaign+".yaml", []byte(input.SpecYAML), campaign.FromTexts(input.Files))
	if err != nil {
		return nil, fault.As(fault.BadInput, err)
	}
	identity := dataset.Identity{Campaign: input.Campaign, SpecSHA256: input.SpecSHA256, Program: p.Version}
	for _, lane := range input.Lanes {
		if kind := string(lane.Kind); identity.TestbedKind != "" && identity.TestbedKind != kind {
			return nil, fault.New(fault.BadInput, "lane %s is a testbed that is %s, and others are %s: a campaign's results are of one kind", lane.Name, kind, identity.TestbedKind)
		}
		identity.TestbedKind = string(lane.Kind)
	}
	frozen := dataset.Frozen{Spec: []byte(input.SpecYAML), Files: input.Files, Trials: spec.Plan(),
		Settings: dataset.Settings{Order: spec.Order, Stop: spec.Stop, Phases: spec.Phases, SteadyState: spec.SteadyState,
			Recovery: spec.Recovery, Disk: spec.Disk, Limits: spec.Limits}}
	if frozen.Inventories, err = inventories(input.Lanes); err != nil {
		return nil, err
	}
	return p.Records.create(ctx, input.DataDir, identity, frozen)
}

// inventories are the lanes' inventories without what leads to secrets. The inventory of a
// testbed that is not up yet is left out.
func inventories(lanes []trial.Lane) (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, lane := range lanes {
		for _, one := range append([]trial.Lane{lane}, lane.Others...) {
			if one.Inventory == "" {
				continue
			}
			text, err := os.ReadFile(one.Inventory)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				text, err = withoutSecrets(text)
			}
			if err != nil {
				return nil, fmt.Errorf("the inventory of lane %s: %s: %w", one.Name, one.Inventory, err)
			}
			texts[one.Name] = text
		}
	}
	return texts, nil
}

// leadsToSecrets are the keys of an inventory that say where a secret is.
var leadsToSecrets = []string{"key_file", "password_from", "sudo_password_from"}

// withoutSecrets is an inventory without what leads to secrets, and without its comments, which may contain anything: the
// folder may be given to others.
func withoutSecrets(text []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fault.As(fault.BadInput, err)
	}
	blank(&document)
	return yaml.Marshal(&document)
}

func blank(node *yaml.Node) {
	node.HeadComment, node.LineComment, node.FootComment = "", "", ""
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 1 && slices.Contains(leadsToSecrets, node.Content[i-1].Value) {
			*child = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "left out"}
			continue
		}
		blank(child)
	}
}
