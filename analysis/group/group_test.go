package group_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

func row(change func(*dataset.Trial)) *dataset.Trial {
	r := dataset.Trial{CellID: "kvm-nfs-lan-a", Direction: campaign.Return, Counted: true, Verdict: string(trial.Valid)}
	change(&r)
	return &r
}

func TestOf(t *testing.T) {
	key := group.Key{CellID: "kvm-nfs-lan-a", Direction: campaign.Return}
	for name, of := range map[string]struct {
		change func(*dataset.Trial)
		want   group.Key
		in     bool
	}{
		"valid":          {func(*dataset.Trial) {}, key, true},
		"failed":         {func(r *dataset.Trial) { r.Verdict = string(trial.TargetFailed) }, key, true},
		"invalid":        {func(r *dataset.Trial) { r.Verdict = string(trial.Invalid) }, key, true},
		"control":        {func(r *dataset.Trial) { r.Control = campaign.ControlPause }, key, true},
		"no direction":   {func(r *dataset.Trial) { r.Direction = "" }, group.Key{CellID: key.CellID, Direction: campaign.Outbound}, true},
		"skipped":        {func(r *dataset.Trial) { r.Verdict = string(trial.Skipped) }, key, false},
		"sentinel":       {func(r *dataset.Trial) { r.Sentinel = true }, key, false},
		"attempt before": {func(r *dataset.Trial) { r.Counted = false }, key, false},
	} {
		got, in := group.Of(row(of.change))
		assert.Equal(t, of.in, in, name)
		assert.Equal(t, of.want, got, name)
	}
}

func TestCompare(t *testing.T) {
	keys := []group.Key{{CellID: "b", Direction: "outbound"}, {CellID: "a", Direction: "return"}, {CellID: "a", Direction: "outbound"}}
	slices.SortFunc(keys, group.Key.Compare)
	assert.Equal(t, []group.Key{{CellID: "a", Direction: "outbound"}, {CellID: "a", Direction: "return"}, {CellID: "b", Direction: "outbound"}}, keys)
}

func TestValue(t *testing.T) {
	one, nan, infinite, yes := 1.0, math.NaN(), math.Inf(-1), true
	for name, of := range map[string]struct {
		change func(*dataset.Trial)
		metric string
		want   float64
		known  bool
	}{
		"measured":                  {func(r *dataset.Trial) { r.IOLostS = &one }, group.IOLostS, 1, true},
		"not known":                 {func(*dataset.Trial) {}, group.BlackoutMs, 0, false},
		"no number":                 {func(r *dataset.Trial) { r.TotalMigrationMs = &nan }, group.TotalMigrationMs, 0, false},
		"no finite number":          {func(r *dataset.Trial) { r.TotalMigrationMs = &infinite }, group.TotalMigrationMs, 0, false},
		"failed":                    {func(r *dataset.Trial) { r.Verdict = string(trial.TargetFailed) }, group.BlackoutMs, math.Inf(1), true},
		"failed, with a number":     {func(r *dataset.Trial) { r.Verdict, r.BlackoutMs = string(trial.TargetFailed), &one }, group.BlackoutMs, math.Inf(1), true},
		"invalid, with a number":    {func(r *dataset.Trial) { r.Verdict, r.BlackoutMs = string(trial.Invalid), &one }, group.BlackoutMs, 0, false},
		"did not come back":         {func(r *dataset.Trial) { r.BlackoutMs = &one }, group.RecoveryMs, math.Inf(1), true},
		"longest response time":     {func(r *dataset.Trial) { r.Response = dataset.Response{Ms: &one, InFlight: new(bool)} }, group.MaxResponseMs, 1, true},
		"an I/O never completed":    {func(r *dataset.Trial) { r.Response = dataset.Response{Ms: &one, InFlight: &yes} }, group.MaxResponseMs, math.Inf(1), true},
		"nothing to come back from": {func(*dataset.Trial) {}, group.RecoveryMs, 0, false},
	} {
		got, known := group.Value(row(of.change), of.metric)
		assert.Equal(t, of.known, known, name)
		if known {
			assert.InDelta(t, of.want, got, 0, name)
		}
	}
	assert.True(t, group.IsMetric(group.RecoveryMs))
	assert.False(t, group.IsMetric("seed"))
}

// TestContradiction: a valid trial has I/O before and after its migration; a log that
// somebody else wrote has no phases, but must have some I/O.
func TestContradiction(t *testing.T) {
	some, none := int64(3), int64(0)
	phases := func(ios *int64, names ...string) (of []dataset.Phase) {
		for _, name := range names {
			of = append(of, dataset.Phase{Phase: name, IOs: ios})
		}
		return of
	}
	trial, log := row(func(r *dataset.Trial) { r.IORows = &some }), row(func(r *dataset.Trial) {
		r.IORows = &some
		r.TestbedKind = "ingested"
	})
	all := []string{dataset.Before, dataset.During, dataset.After}
	assert.Empty(t, group.Contradiction(trial, phases(&some, all...)))
	assert.Equal(t, "it has no I/O in phase before", group.Contradiction(trial, phases(&none, all...)))
	assert.Equal(t, "it has no I/O in phase before", group.Contradiction(trial, phases(&some, dataset.WholeLog)))
	assert.Empty(t, group.Contradiction(log, phases(&some, dataset.WholeLog)))
	assert.Equal(t, "it has no I/O in phase whole", group.Contradiction(log, phases(&none, dataset.WholeLog)))
}
