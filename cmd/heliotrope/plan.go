package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/internal/campaign"
)

func newPlan() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show what a campaign would do: its cells, the trials in their order, time and disk space",
		Long: `Show what a campaign would do: its cells, the trials in their order, and about how
much time and disk space they take. The same file gives the same plan on every
machine. No host is touched.

With a stop rule these are all trials that it may take; it may end with fewer.
A control without a migration stays where its direction begins.

The estimate assumes the speed of the emulated testbed, or of good disks on hosts,
and that no trial is tried twice: docs/campaigns.md has its figures.`,
		Example: `  heliotrope plan examples/thesis.yaml
  heliotrope plan examples/thesis.yaml --json | jq -r '.trials[].cell_id'`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := loadRequest(args[0], "")
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), planOf(r))
			}
			return printPlan(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the plan as JSON: an object whose trials is the ordered list")
	return cmd
}

// plan is a campaign's plan as JSON.
type plan struct {
	Name        string           `json:"name"`
	SpecSHA256  string           `json:"spec_sha256"` // of the file as it is now
	Testbed     string           `json:"testbed"`
	Lanes       int              `json:"lanes"`
	Hypervisors []string         `json:"hypervisors"`
	Cells       []planCell       `json:"cells"`
	Warnings    []string         `json:"warnings,omitempty"` // about what cannot end well
	Stop        *planStop        `json:"stop,omitempty"`     // set when the campaign may end before the last trial
	Trials      []campaign.Trial `json:"trials"`             // in the order in which they start
	Estimate    planEstimate     `json:"estimate"`
}

type planCell struct {
	ID string `json:"id"`
	campaign.Cell
	Sentinel bool `json:"sentinel,omitempty"`
}

type planStop struct {
	Metric            string  `json:"metric"`
	RelativeCIPercent float64 `json:"relative_ci_percent"`
	Min               int     `json:"min"` // repetitions
	Max               int     `json:"max"`
}

type planEstimate struct {
	Seconds      float64 `json:"seconds"`
	LeastSeconds float64 `json:"least_seconds"` // less than Seconds when the campaign may end before the last trial
	Bytes        int64   `json:"bytes"`
}

func planOf(r *request) plan {
	p := plan{
		Name: r.spec.Name, SpecSHA256: r.sha256(), Testbed: r.spec.Testbed, Lanes: r.spec.LaneCount(), Hypervisors: r.spec.Hypervisors(),
		Trials: r.trials, Warnings: r.warnings(),
		Estimate: planEstimate{Seconds: r.estimate.Time.Seconds(), LeastSeconds: r.estimate.Least.Seconds(), Bytes: r.estimate.Bytes},
	}
	if r.spec.Stop != nil {
		stop := planStop(*r.spec.Stop)
		p.Stop = &stop
	}
	sentinel, has := r.spec.SentinelCell()
	for _, cell := range r.spec.Cells() {
		watched := has && cell.ID() == sentinel.ID()
		p.Cells = append(p.Cells, planCell{ID: cell.ID(), Cell: cell, Sentinel: watched})
		has = has && !watched
	}
	if has { // it is not one of the blocks' cells
		p.Cells = append(p.Cells, planCell{ID: sentinel.ID(), Cell: sentinel, Sentinel: true})
	}
	return p
}

// printPlan shows a plan to people.
func printPlan(out io.Writer, r *request) error {
	p := planOf(r)
	fmt.Fprintf(out, "campaign %s: %s, on %s\n", p.Name, cellsAndTrials(len(p.Cells), len(p.Trials)), whereOf(p))
	fmt.Fprintf(out, "takes about %s and leaves about %s\n", roughly(r.estimate.Time), mebibytes(p.Estimate.Bytes))
	if p.Stop != nil {
		fmt.Fprintf(out, "may end after about %s already: %s\n", roughly(r.estimate.Least), stopOf(*r.spec.Stop))
	}
	for _, warning := range p.Warnings {
		fmt.Fprintln(out, "warning: "+warning)
	}
	cells := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(cells, "\nCELL\tHYPERVISOR\tSTORAGE\tWAN\tROUND TRIP\tACCESS\tGUEST MEMORY\tVCPUS\tMIGRATION\tCONTROL\tSENTINEL")
	for _, cell := range p.Cells {
		storage := strings.TrimSpace(cell.Storage + " " + cell.DRBDProtocol + cell.MirrorCopy) // at most one of them is set
		memory := "the inventory's"
		if cell.GuestMemoryMiB != 0 {
			memory = fmt.Sprintf("%d MiB", cell.GuestMemoryMiB)
		}
		fmt.Fprintf(cells, "%s\t%s\t%s\t%s\t%s ms\t%s\t%s\t%d\t%s\t%s\t%s\n", cell.ID, cell.Hypervisor, storage, cell.WAN,
			strconv.FormatFloat(cell.RTTMs, 'f', -1, 64), cell.Access.Name, memory, cell.VCPUs(), migrationOf(cell.Cell), controlOf(cell.Cell), mark(cell.Sentinel))
	}
	if err := cells.Flush(); err != nil {
		return err
	}
	trials := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(trials, "\nTRIAL\tREPETITION\tDIRECTION\tCONTROL\tSENTINEL\tCELL")
	for _, trial := range p.Trials {
		fmt.Fprintf(trials, "%d\t%d\t%s\t%s\t%s\t%s\n", trial.Sequence, trial.Block, trial.Direction, controlOf(trial.Cell),
			mark(trial.Sentinel), trial.CellID)
	}
	return trials.Flush()
}

// migrationOf says how a cell's guest migrates, such as "precopy" or "postcopy, ≤ 100
// MiB/s"; "-" when it does not.
func migrationOf(cell campaign.Cell) string {
	if !cell.Migrates() {
		return "-"
	}
	text := cell.Mode()
	if cell.AutoConverge {
		text += ", auto-converge"
	}
	if cell.BandwidthMiBPerS != 0 {
		text += fmt.Sprintf(", ≤ %d MiB/s", cell.BandwidthMiBPerS)
	}
	if cell.MaxDowntimeMs != 0 {
		text += fmt.Sprintf(", stop ≤ %d ms", cell.MaxDowntimeMs)
	}
	return text
}

// controlOf says which control a cell is, such as "pause 5s"; "-" when it is none.
func controlOf(cell campaign.Cell) string {
	switch {
	case cell.Control == "":
		return "-"
	case cell.Hold == 0:
		return cell.Control
	}
	return cell.Control + " " + cell.Hold.String()
}

func mark(is bool) string {
	if is {
		return "yes"
	}
	return "-"
}

// stopOf says when a campaign may end.
func stopOf(stop campaign.Stop) string {
	return fmt.Sprintf("%s within ±%s %%, %d to %d repetitions", stop.Metric,
		strconv.FormatFloat(stop.RelativeCIPercent, 'f', -1, 64), stop.Min, stop.Max)
}

// whereOf says on which testbeds a plan runs.
func whereOf(p plan) string {
	switch p.Testbed {
	case campaign.TestbedEmulated:
		if len(p.Hypervisors) > 1 {
			return "the emulated testbeds of " + strings.Join(p.Hypervisors, " and ") + ", one up at a time"
		}
		return "the emulated testbed"
	case campaign.TestbedSimulated:
		return fmt.Sprintf("%d simulated %s: a model, no measurement", p.Lanes, plural(p.Lanes, "testbed"))
	}
	return fmt.Sprintf("%d %s of hosts", p.Lanes, plural(p.Lanes, "testbed"))
}

// roughly formats a duration without digits that nobody can know.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return seconds(d)
	case d < time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}
