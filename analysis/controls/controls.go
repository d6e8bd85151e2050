// Package controls judges a campaign's controls: cells whose results are known beforehand.
// They test whether the measuring works.
//
// It promises a verdict on each control's trial that counts, from the same rows as its
// numbers, with what was expected and what was found. A control whose trial is invalid is
// not judged: nothing in it can be trusted.
//
// Dangerous: a control that passes shows that the measuring works on this testbed at this
// load; it does not show that a number elsewhere is right.
package controls

import (
	"fmt"
	"slices"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// MostGapMs is the longest time without a completed I/O that a control without a migration
// may show. It equals the longest permitted time between two looks of a witness: from a
// longer gap on, the load alone would look like a stall.
const MostGapMs = 1000

// certificates is the number of certificates of a trial: one for each direction of the WAN,
// before and after.
const certificates = 4

// Result is the result of a check.
type Result string

// The results of checks.
const (
	Passed Result = "passed"
	Failed Result = "FAILED"
	// Noise is not a check: it shows the testbed's own noise, to compare results with.
	Noise Result = "noise floor"
	// NotJudged is for an invalid trial, or for a witness that the testbed does not have.
	NotJudged Result = "not judged"
)

// Check is one thing that is checked of a control.
type Check struct {
	What   string `json:"what"`
	Found  string `json:"found"`
	Want   string `json:"want"`
	Result Result `json:"result"`
}

// Verdict is the verdict on a control's trial.
type Verdict struct {
	Control string  `json:"control"`
	Checks  []Check `json:"checks"`
}

// Problem says in one line what failed; "" when nothing did.
func (v Verdict) Problem() string {
	var failed []string
	for _, check := range v.Checks {
		if check.Result == Failed {
			failed = append(failed, fmt.Sprintf("%s: %s, want %s", check.What, check.Found, check.Want))
		}
	}
	return strings.Join(failed, "; ")
}

// Of judges a trial by its row and by its rows of witnesses and certificates. It is false
// for a trial that is no control or not among the results.
func Of(row *dataset.Trial, witnesses []dataset.Witness, certificates []dataset.Certificate) (Verdict, bool) {
	verdict := Verdict{Control: row.Control}
	if row.Control == "" || row.Sentinel || !row.Counted || trial.Verdict(row.Verdict) == trial.Skipped {
		return verdict, false
	}
	switch trial.Verdict(row.Verdict) {
	case trial.TargetFailed:
		verdict.Checks = []Check{{"verdict", row.Verdict + " (" + row.Cause + ")", string(trial.Valid), Failed}}
		return verdict, true
	case trial.Valid:
	default:
		verdict.Checks = []Check{{"verdict", row.Verdict + " (" + row.Cause + ")", string(trial.Valid), NotJudged}}
		return verdict, true
	}
	switch row.Control {
	case campaign.ControlNone:
		verdict.Checks = none(row, witnesses)
	case campaign.ControlLAN:
		verdict.Checks = lan(row, certificates)
	case campaign.ControlPause:
		verdict.Checks = pause(row, witnesses)
	}
	return verdict, true
}

// none checks a trial without a migration: the hypervisor's witness must see no stall, and
// the load must have no gap that looks like one. Anything else that it shows is noise.
func none(row *dataset.Trial, witnesses []dataset.Witness) []Check {
	stall := Check{"hypervisor's stall", "none", "none", Passed}
	if said, there := find(witnesses, dataset.WitnessHypervisor); !there || absent(row, dataset.WitnessHypervisor) {
		stall.Found, stall.Result = "no such witness", NotJudged
	} else if said.StallMs != nil {
		stall.Found, stall.Result = plusMinus(*said.StallMs, said.UncertaintyMs), Failed
	}
	gap := Check{"longest gap ms", "not known", fmt.Sprintf("at most %d", MostGapMs), Failed}
	if row.LongestGapMs != nil {
		gap.Found = plusMinus(*row.LongestGapMs, row.LongestGapUncertaintyMs)
		gap.Result = result(*row.LongestGapMs <= MostGapMs)
	}
	checks := []Check{stall, gap}
	if row.IOLostS != nil {
		checks = append(checks, Check{"I/O lost s", fmt.Sprintf("%.3g", *row.IOLostS), "–", Noise})
	}
	return checks
}

// lan checks a migration without a WAN: the path must be within its tolerance, and the load
// must come back.
func lan(row *dataset.Trial, rows []dataset.Certificate) []Check {
	good := 0
	for _, row := range rows {
		if row.Problem == "" {
			good++
		}
	}
	back := Check{"recovery ms", "not seen", "in phase after", Failed}
	switch {
	case row.RecoveryMs != nil:
		back.Found, back.Result = fmt.Sprintf("%.0f", *row.RecoveryMs), Passed
	case absent(row, dataset.WitnessHypervisor):
		back.Found, back.Result = "no such witness", NotJudged
	case row.LevelAfterIOPS == nil:
		back.Found, back.Result = "no steady level", NotJudged
	}
	return []Check{
		{"good certificates", fmt.Sprintf("%d of %d", good, len(rows)), fmt.Sprintf("%d of %d", certificates, certificates),
			result(good == certificates && len(rows) == certificates)},
		back,
	}
}

// pause checks a guest that the hypervisor held for at least hold_ms, and at most from
// command to command. Each witness must find that time, within its own uncertainty.
// Witnesses that observe the guest's work also see the guest resume it: they may find up to
// the longest other silence of the guest more.
func pause(row *dataset.Trial, witnesses []dataset.Witness) []Check {
	if row.HoldMs == nil {
		return []Check{{"pause ms", "not known", "known", Failed}}
	}
	least, most := *row.HoldMs, *row.HoldMs
	if row.TotalMigrationMs != nil {
		most = max(most, *row.TotalMigrationMs)
	}
	var checks []Check
	for _, name := range []string{dataset.WitnessHypervisor, dataset.WitnessGuest, dataset.WitnessBackend, dataset.WitnessNetwork} {
		said, _ := find(witnesses, name)
		check := Check{name + "'s stall ms", "none", fmt.Sprintf("%.0f to %.0f", least, most), Failed}
		slack := 0.0
		if name != dataset.WitnessHypervisor {
			slack = said.SpacingMs
			check.Want += fmt.Sprintf(" + %.0f", slack)
		}
		switch {
		case absent(row, name):
			check.Found, check.Result = "no such witness", NotJudged
		case said.StallMs != nil && said.UncertaintyMs != nil:
			check.Found = plusMinus(*said.StallMs, said.UncertaintyMs)
			check.Result = result(*said.StallMs+*said.UncertaintyMs >= least && *said.StallMs-*said.UncertaintyMs <= most+slack)
		}
		checks = append(checks, check)
	}
	return checks
}

func result(passed bool) Result {
	if passed {
		return Passed
	}
	return Failed
}

func plusMinus(value float64, uncertainty *float64) string {
	if uncertainty == nil {
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.1f ± %.1f", value, *uncertainty)
}

// find finds a witness's row; false when there is none.
func find(witnesses []dataset.Witness, name string) (dataset.Witness, bool) {
	at := slices.IndexFunc(witnesses, func(w dataset.Witness) bool { return w.Witness == name })
	if at < 0 {
		return dataset.Witness{}, false
	}
	return witnesses[at], true
}

// absent says whether the testbed does not have the witness.
func absent(row *dataset.Trial, name string) bool {
	return slices.Contains(strings.Fields(row.AbsentWitnesses), name)
}
