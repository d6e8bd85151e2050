package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/summary"
)

// exitExceeded is the exit code when a threshold is exceeded.
const exitExceeded = 4

// comparedMetrics are the metrics that are shown to people who ask for none.
var comparedMetrics = []string{group.BlackoutMs, group.TotalMigrationMs, group.MaxResponseMs, group.RecoveryMs, group.IOLostS,
	answers.WANMB, answers.BeforeIOPS, answers.BeforeP99Ms, answers.AfterP99Ms}

// compareOptions are the arguments of compare.
type compareOptions struct {
	failIf, metrics    []string
	asJSON, mixedKinds bool
}

func newCompare() *cobra.Command {
	o := compareOptions{}
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Compare two campaigns cell by cell, as before and after an upgrade",
		Long: `Compare two campaigns cell by cell: A, as before a new kernel, hypervisor or storage system, and B after it.
Each is a campaign's dataset (DATA/campaign=NAME), or a data folder that holds one. Cells
that only one of them has are listed. Controls and sentinels are left out.

The table has the medians over migrations with their 95 % intervals, and B's by A's. A
change is called that when the rank-sum test finds one, corrected for the number of cells.

--fail-if METRIC > CHANGE  B's median must not be more than so much above A's, in any cell
--fail-if METRIC < CHANGE  nor, for what should be high, more than so much below it
--fail-if 'failure_rate > +5'  nor its share of failed migrations more than 5 percentage points
CHANGE has a sign: +10% is a tenth of A's median, +50 is 50 of the metric's unit. A
threshold fails only when the interval of the change lies wholly beyond it, and the
rank-sum test against A moved by CHANGE agrees (95 %, one-sided, corrected for the number
of cells). A change that is not sure enough is told as undecided and does not fail: with
few migrations nothing fails, so look at how many are undecided before you trust a 0.
Cells of A that B does not have are undecided, and so are cells without a value in A or B.
Failed migrations count as worse than all others in times, and have no bytes.

Metrics: ` + strings.Join(answers.MetricNames(), ", ") + `.

Exit codes: 0 no threshold is exceeded, 4 one is, 2 a threshold or an argument cannot be
understood, campaigns of two kinds of testbeds are to be compared, or a dataset is not
compacted, 1 a dataset cannot be read or has nothing to compare.`,
		Example: `  heliotrope compare before/campaign=nightly after/campaign=nightly
  heliotrope compare before after --fail-if 'max_response_ms > +10%' --fail-if 'before_iops < -5%'
  heliotrope compare before after --json | jq '.cells[] | {cell_id, direction, metrics}'`,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1]) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.failIf, "fail-if", nil, "exit with 4 when a cell shows this change, as 'max_response_ms > +10%'; may be repeated")
	flags.StringSliceVar(&o.metrics, "metric", comparedMetrics, "metrics of the table")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON, with all metrics")
	flags.BoolVar(&o.mixedKinds, "mixed-kinds", false, "compare even when the testbeds are of two kinds, as a model and a measurement")
	return cmd
}

func (o *compareOptions) run(cmd *cobra.Command, pathA, pathB string) error {
	thresholds, err := o.understand()
	if err != nil {
		return usageError{err}
	}
	a, errA := comparable(cmd, pathA)
	b, errB := comparable(cmd, pathB)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if a.TestbedKind != b.TestbedKind && !o.mixedKinds {
		return usageError{fmt.Errorf("%s is of a testbed that is %s and %s of one that is %s: what differs may be the testbeds; --mixed-kinds compares them all the same",
			pathA, a.TestbedKind, pathB, b.TestbedKind)}
	}
	versus, err := answers.Compare(a, b, thresholds)
	if err != nil {
		return err
	}
	if o.asJSON {
		err = printJSON(cmd.OutOrStdout(), versus)
	} else {
		err = o.print(cmd.OutOrStdout(), versus)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(versus.Thresholds, func(t answers.Exceeded) bool { return t.Fails }) {
		return exitCode(exitExceeded)
	}
	return nil
}

// understand parses the arguments, and reports all problems at once.
func (o *compareOptions) understand() ([]answers.Threshold, error) {
	var thresholds []answers.Threshold
	var problems []error
	for _, text := range o.failIf {
		threshold, err := answers.ParseThreshold(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("--fail-if %w", err))
		}
		thresholds = append(thresholds, threshold)
	}
	for _, name := range o.metrics {
		if !answers.IsMetric(name) {
			problems = append(problems, fmt.Errorf("--metric: there is no metric %q", name))
		}
	}
	return thresholds, errors.Join(problems...)
}

// comparable reads the one campaign that a path names.
func comparable(cmd *cobra.Command, path string) (answers.Campaign, error) {
	folders, err := campaignFolders(path)
	if err != nil {
		return answers.Campaign{}, err
	}
	if len(folders) > 1 {
		return answers.Campaign{}, usageError{fmt.Errorf("%s holds %d campaigns: name one of them, as %s", path, len(folders), folders[0])}
	}
	campaign, err := answers.ReadCampaign(folders[0])
	if err != nil {
		return campaign, err
	}
	strays, err := dataset.Strays(folders[0])
	switch {
	case err != nil:
		return campaign, err
	case len(strays) > 0:
		return campaign, notWhole(folders[0], strays)
	}
	if campaign.State != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", folders[0], campaign.State)
	}
	return campaign, nil
}

// print shows a comparison to people, beginning with the kind of testbed of each campaign.
func (o *compareOptions) print(out io.Writer, v answers.Versus) error {
	fmt.Fprintf(out, "A: %s: %s\nB: %s: %s\n", v.A.Campaign, summary.KindSays(v.A.TestbedKind), v.B.Campaign, summary.KindSays(v.B.TestbedKind))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nCELL\tDIRECTION\tMETRIC\tN\tA\tB\tB/A\tCHANGE")
	for _, cell := range v.Cells {
		for _, m := range cell.Metrics {
			if slices.Contains(o.metrics, m.Metric) {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d, %d\t%s\t%s\t%s\t%s\n", cell.ID, cell.Direction, m.Metric, m.A.N, m.B.N,
					between(m.A.Median, m.A.Low, m.A.High), between(m.B.Median, m.B.Low, m.B.High), between(m.Ratio, m.RatioLow, m.RatioHigh), m.Verdict)
			}
		}
		if cell.FailuresA.Count+cell.FailuresB.Count > 0 {
			fmt.Fprintf(w, "%s\t%s\tfailed\t%d, %d\t%d\t%d\t\t\n", cell.ID, cell.Direction, cell.FailuresA.Of, cell.FailuresB.Of, cell.FailuresA.Count, cell.FailuresB.Count)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, only := range []struct {
		where string
		cells []answers.CellName
	}{{"A", v.OnlyA}, {"B", v.OnlyB}} {
		for _, cell := range only.cells {
			fmt.Fprintf(out, "only in %s: %s, %s\n", only.where, cell.ID, cell.Direction)
		}
	}
	for _, note := range v.Notes {
		fmt.Fprintln(out, printable(note))
	}
	fmt.Fprintln(out, "A, B: medians over migrations and their 95 % intervals (BCa). CHANGE: of B against A, by the rank-sum test, corrected for the number of cells.")
	for _, threshold := range v.Thresholds {
		printThreshold(out, threshold)
	}
	return nil
}

// printThreshold prints the result of a threshold: one line, and one for each cell that is
// not within the threshold.
func printThreshold(out io.Writer, t answers.Exceeded) {
	count := map[any]int{}
	for _, cell := range t.Cells {
		count[cell.Verdict]++
	}
	says := "not exceeded"
	if t.Fails {
		says = "EXCEEDED"
	}
	fmt.Fprintf(out, "\n%s: %s: in %d of %d cells, kept in %d, undecided in %d\n", t.Threshold, says,
		count[answers.ThresholdExceeded], len(t.Cells), count[answers.ThresholdKept], count[answers.ThresholdUndecided])
	for _, cell := range t.Cells {
		if cell.Verdict != answers.ThresholdKept {
			says := cell.Missing
			if says == "" {
				says = between(cell.Value, cell.Low, cell.High)
			}
			fmt.Fprintf(out, "  %s: %s, %s: %s\n", cell.Verdict, cell.ID, cell.Direction, says)
		}
	}
}

// between is a number with its interval, if that is known.
func between(value, low, high answers.Number) string {
	if !low.Known() || !high.Known() {
		return value.String()
	}
	return fmt.Sprintf("%s (%s to %s)", value, low, high)
}
