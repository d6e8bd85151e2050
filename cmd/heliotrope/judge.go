package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"heliotrope/analysis/controls"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/analysis/summary"
	"heliotrope/internal/strict"
)

// exitChanged is the exit code when a verdict changed when it was judged again, or when a
// control did not show what it must.
const exitChanged = 3

// judgeOptions are the arguments of judge.
type judgeOptions struct {
	campaign, limitsFile, write string
	asJSON                      bool
	// The limits that are set on the command line; only flags that are given change
	// anything.
	limits judge.Limits
}

func newJudge() *cobra.Command {
	o := judgeOptions{}
	cmd := &cobra.Command{
		Use:   "judge DIR",
		Short: "Judge a dataset's trials again from their raw rows, with other limits if need be",
		Long: `Judge each attempt of a campaign's dataset (DATA/campaign=NAME), or of all campaigns of
a data folder, again: from its rows of I/Os, counters, domains, heartbeats and clocks, its
certificates and its ledger. The limits are those that the attempt was judged by, as far as
the dataset has them (else the defaults), then those of the limits file, then the flags'.
Nothing in the dataset is changed.

A limits file is YAML with any of: clock_uncertainty_ms, max_spacing, rtt_tolerance_ms,
rtt_tolerance_percent, min_throughput_percent, spread_ms, steady_state (round, window, range_percent,
slope_percent), recovery (within_percent, for), traffic_percent, traffic_bytes, traffic_invalid.

Files are compared with the manifest's SHA-256 before they are read. Controls are judged too:
they must show what is known of them beforehand.

Exit code 0 when all verdicts are what they were and no control failed, 3 otherwise.`,
		Example: `  heliotrope judge data
  heliotrope judge data --campaign quick --clock-uncertainty-ms 5
  heliotrope judge data/campaign=quick --limits strict.yaml --json | jq '.[] | select(.changed)'`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags, defaults := cmd.Flags(), judge.DefaultLimits()
	flags.StringVar(&o.campaign, "campaign", "", "judge this campaign of the data folder only")
	flags.StringVar(&o.limitsFile, "limits", "", "YAML file with limits")
	flags.Float64Var(&o.limits.ClockUncertaintyMs, "clock-uncertainty-ms", defaults.ClockUncertaintyMs, "most that any clock may be uncertain by")
	flags.DurationVar(&o.limits.MaxSpacing, "max-spacing", defaults.MaxSpacing, "longest time between two looks of a witness")
	flags.Float64Var(&o.limits.RTTToleranceMs, "rtt-tolerance-ms", defaults.RTTToleranceMs, "how far a round trip may be from the profile's, or")
	flags.Float64Var(&o.limits.RTTTolerancePercent, "rtt-tolerance-percent", defaults.RTTTolerancePercent, "in percent of it, whichever is more")
	flags.Float64Var(&o.limits.SteadyState.RangePercent, "steady-range", defaults.SteadyState.RangePercent, "range of a steady load, in percent")
	flags.Float64Var(&o.limits.SteadyState.SlopePercent, "steady-slope", defaults.SteadyState.SlopePercent, "slope of a steady load, in percent")
	flags.Float64Var(&o.limits.Recovery.WithinPercent, "recovery-within", defaults.Recovery.WithinPercent, "how far the IOPS may be below the new site's steady level, in percent")
	flags.DurationVar(&o.limits.Recovery.For, "recovery-for", defaults.Recovery.For, "for how long they must be no further below it")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON")
	flags.StringVar(&o.write, "write", "", "write all that was found to this file, as JSON")
	return cmd
}

// judgedTrial is an attempt's verdict before and after.
type judgedTrial struct {
	Campaign string         `json:"campaign"`
	Trial    string         `json:"trial"`
	Cell     string         `json:"cell"`
	Was      judgedVerdict  `json:"was"`
	Now      judgedVerdict  `json:"now"`
	Changed  bool           `json:"changed"` // the verdict
	Limits   judge.Limits   `json:"limits"`
	Row      *dataset.Trial `json:"row"` // as it would be now
	Judged   judge.Judged   `json:"judged"`
	// Control is the verdict on a control's trial.
	Control *controls.Verdict `json:"control,omitempty"`
}

// failed says why a control's trial did not show what it must; "" otherwise.
func (t judgedTrial) failed() string {
	if t.Control == nil {
		return ""
	}
	return t.Control.Problem()
}

type judgedVerdict struct {
	Verdict string `json:"verdict"`
	Cause   string `json:"cause"`
	Reason  string `json:"reason"`
}

func verdictOf(row *dataset.Trial) judgedVerdict {
	return judgedVerdict{row.Verdict, row.Cause, row.Reason}
}

func (o *judgeOptions) run(cmd *cobra.Command, path string) error {
	folders, err := campaignFolders(path)
	if err != nil {
		return err
	}
	if o.campaign != "" {
		folders = slices.DeleteFunc(folders, func(folder string) bool { return dataset.CampaignName(filepath.Clean(folder)) != o.campaign })
		if len(folders) == 0 {
			return usageError{fmt.Errorf("%s has no campaign %q", path, o.campaign)}
		}
	}
	all := []judgedTrial{}
	for _, folder := range folders {
		state, err := dataset.ReadState(folder)
		if err != nil {
			return err
		}
		if text := state.Text(); text != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", folder, text)
		}
		trials, err := o.judge(cmd, folder)
		if err != nil {
			return err
		}
		all = append(all, trials...)
	}
	if o.write != "" {
		if err := writeJudged(o.write, all); err != nil {
			return fmt.Errorf("write what was judged: %w", err)
		}
	}
	if o.asJSON {
		err = printJSON(cmd.OutOrStdout(), all)
	} else {
		err = printJudged(cmd.OutOrStdout(), all)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(t judgedTrial) bool { return t.Changed || t.failed() != "" }) {
		return exitCode(exitChanged)
	}
	return nil
}

// judge judges all attempts of a campaign.
func (o *judgeOptions) judge(cmd *cobra.Command, folder string) ([]judgedTrial, error) {
	manifest, err := dataset.ReadManifest(folder)
	if err != nil {
		return nil, fmt.Errorf("judge %s: %w", folder, err)
	}
	if err := dataset.Verify(folder, manifest); err != nil {
		return nil, fmt.Errorf("judge %s: %w", folder, err)
	}
	attempts, err := judge.ReadAttempts(folder)
	if err != nil {
		return nil, fmt.Errorf("judge %s: %w", folder, err)
	}
	var all []judgedTrial
	for i := range attempts.Trials {
		row := &attempts.Trials[i]
		limits, err := o.limitsFor(cmd, folder, row)
		if err != nil {
			return nil, fmt.Errorf("%s, trial %s: %w", folder, row.Key, err)
		}
		one := judgedTrial{Campaign: manifest.Campaign, Trial: row.Key, Cell: row.CellID, Was: verdictOf(row), Limits: limits, Row: row}
		judge.Again(row)
		raw := attempts.Raw(row)
		if one.Judged, err = judge.Judge(row, raw, limits); err != nil {
			return nil, fmt.Errorf("%s: %w", folder, err)
		}
		one.Judged.Apply(row)
		one.Now = verdictOf(row)
		one.Changed = one.Now.Verdict != one.Was.Verdict
		if verdict, judged := controls.Of(row, one.Judged.Witnesses, raw.Certificates); judged {
			one.Control = &verdict
		}
		all = append(all, one)
	}
	return all, nil
}

// limitsFor are the limits by which an attempt was judged, changed by those in the file,
// and then by those of the flags.
func (o *judgeOptions) limitsFor(cmd *cobra.Command, folder string, row *dataset.Trial) (judge.Limits, error) {
	limits := judge.DefaultLimits()
	if row.Folder != "" {
		path := filepath.Join(folder, filepath.FromSlash(row.Folder), dataset.Events.Name+".parquet")
		provenance, err := dataset.ReadProvenance(path)
		if err != nil {
			return limits, err
		}
		if text := provenance[judge.KeyLimits]; text != "" {
			if limits, err = judge.ParseLimits(text); err != nil {
				return limits, err
			}
		}
	}
	if o.limitsFile != "" {
		if err := readLimits(o.limitsFile, &limits); err != nil {
			return limits, err
		}
	}
	for name, set := range map[string]func(){
		"clock-uncertainty-ms":  func() { limits.ClockUncertaintyMs = o.limits.ClockUncertaintyMs },
		"max-spacing":           func() { limits.MaxSpacing = o.limits.MaxSpacing },
		"rtt-tolerance-ms":      func() { limits.RTTToleranceMs = o.limits.RTTToleranceMs },
		"rtt-tolerance-percent": func() { limits.RTTTolerancePercent = o.limits.RTTTolerancePercent },
		"steady-range":          func() { limits.SteadyState.RangePercent = o.limits.SteadyState.RangePercent },
		"steady-slope":          func() { limits.SteadyState.SlopePercent = o.limits.SteadyState.SlopePercent },
		"recovery-within":       func() { limits.Recovery.WithinPercent = o.limits.Recovery.WithinPercent },
		"recovery-for":          func() { limits.Recovery.For = o.limits.Recovery.For },
	} {
		if cmd.Flags().Changed(name) {
			set()
		}
	}
	if err := limits.Check(); err != nil {
		return limits, usageError{fmt.Errorf("limits: %w", err)}
	}
	return limits, nil
}

// readLimits reads a limits file over the limits that hold without it.
func readLimits(path string, limits *judge.Limits) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return usageError{fmt.Errorf("limits: %w", err)}
	}
	return strict.Decode(path, text, limits).Err()
}

func writeJudged(path string, all []judgedTrial) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := printJSON(file, all); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// judgedWitnesses are the columns of the witnesses, in order.
var judgedWitnesses = []string{dataset.WitnessGuest, dataset.WitnessHypervisor, dataset.WitnessBackend, dataset.WitnessNetwork}

// printJudged shows the verdicts to people, beginning with the kind of testbed of each
// campaign.
func printJudged(out io.Writer, all []judgedTrial) error {
	for i, t := range all {
		if i == 0 || t.Campaign != all[i-1].Campaign {
			fmt.Fprintf(out, "%s: %s\n", t.Campaign, summary.KindSays(t.Row.TestbedKind))
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CAMPAIGN\tTRIAL\tCELL\tVERDICT\tCAUSE\tGUEST ms\tHYPERVISOR ms\tBACKEND ms\tNETWORK ms\tDISAGREE ms\tRECOVERY ms")
	changed, judged, failed := 0, 0, 0
	for _, t := range all {
		verdict := t.Now.Verdict
		if t.Changed {
			verdict = t.Was.Verdict + " → " + t.Now.Verdict
			changed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s", t.Campaign, t.Trial, t.Cell, verdict, orDash(t.Now.Cause))
		for _, name := range judgedWitnesses {
			text := "–"
			for _, said := range t.Judged.Witnesses {
				if said.Witness == name && said.StallMs != nil && said.UncertaintyMs != nil {
					text = milliseconds(said.StallMs) + " ± " + milliseconds(said.UncertaintyMs)
				}
			}
			fmt.Fprintf(w, "\t%s", text)
		}
		fmt.Fprintf(w, "\t%s\t%s\n", milliseconds(t.Row.DisagreementMs), milliseconds(t.Row.RecoveryMs))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range all {
		if t.Now.Reason != t.Was.Reason {
			fmt.Fprintf(out, "%s %s: %s\n", t.Campaign, t.Trial, orDash(printable(t.Now.Reason)))
		}
		for _, note := range t.Judged.Notes {
			fmt.Fprintf(out, "%s %s: note: %s\n", t.Campaign, t.Trial, printable(note))
		}
		if t.Control != nil {
			judged++
		}
		if problem := t.failed(); problem != "" {
			fmt.Fprintf(out, "%s %s: the control %s FAILED: %s\n", t.Campaign, t.Trial, t.Control.Control, problem)
			failed++
		}
	}
	_, err := fmt.Fprintf(out, "%d attempts judged, %d verdicts changed; %d trials of controls, %d failed\n", len(all), changed, judged, failed)
	return err
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// milliseconds formats a number of ms to a tenth; – when there is none.
func milliseconds(ms *float64) string {
	if ms == nil {
		return "–"
	}
	return strconv.FormatFloat(*ms, 'f', 1, 64)
}
