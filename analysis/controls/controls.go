// Package controls judges a campaign's controls: cells whose results are known
// beforehand. They ask whether the measuring measures.
//
// It promises a verdict of each control's trial that counts, by the same rows that
// its numbers are of, with what was to be found and what was. A control whose trial
// is invalid is not judged: nothing of it can be trusted.
//
// Dangerous: a control that passes says that the measuring works on this testbed
// at this load; not that a number elsewhere is right.
package controls

import (
	"fmt"
	"slices"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// MostGapMs is the longest time without a completed I/O that a control without a
// migration may show: as long as a witness may not look, beyond which the load alone
// would look like a stall.
const MostGapMs = 1000

// certificates of a trial: of each direction of the WAN, before and after.
const certificates = 4

// Result of a check.
type Result string

// Results.
const (
	Passed Result = "passed"
	Failed Result = "FAILED"
	// Noise is no check: what the testbed shows of itself, to compare results with.
	Noise Result = "noise floor"
	// NotJudged is of an invalid trial, or of a witness that the testbed does not have.
	NotJudged Result = "not judged"
)

// Check is one question to a control.
type Check struct {
	What   string `json:"what"`
	Found  string `json:"found"`
	Want   string `json:"want"`
	Result Result `json:"result"`
}

// Verdict of a control's trial.
type Verdict struct {
	Control string  `json:"control"`
	Checks  []Check `json:"checks"`
}

// Problem says what failed, in a line; "" when nothing did.
func (v Verdict) Problem() string {
	var failed []string
	for _, check := range v.Checks {
		if check.Result == Failed {
			failed = append(failed, fmt.Sprintf("%s: %s, want %s", check.What, check.Found, check.Want))
		}
	}
	return strings.Join(failed, "; ")
}

// Of judges a trial by its row, and its rows of the witnesses and certificates.
// False for one that is no control, or that is not in the results.
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

// none is a trial without a migration: the hypervisor's witness sees no stall, and
// the load has no gap that looks like one. What it shows nevertheless is noise.
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

// lan is a migration without a WAN: the path is as it should be, and the load comes
// back.
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

// pause is a guest that the hypervisor held: for at least hold_ms, and at most from
// command to command. Each witness finds that, give or take what it says that it is
// uncertain by. Those that look at the guest's work find the guest's way back into
// it too: by no more than the longest time that the guest was silent elsewhere.
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

// find is a witness's row; false when there is none.
func find(witnesses []dataset.Witness, name string) (dataset.Witness, bool) {
	at := slices.IndexFunc(witnesses, func(w dataset.Witness) bool { return w.Witness == name })
	if at < 0 {
		return dataset.Witness{}, false
	}
	return witnesses[at], true
}

// absent says that the testbed has no such witness.
func absent(row *dataset.Trial, name string) bool {
	return slices.Contains(strings.Fields(row.AbsentWitnesses), name)
}
