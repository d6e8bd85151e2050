package summary

import (
	"fmt"
	"slices"
	"strconv"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// verdicts are the columns of table Trials.
var verdicts = []trial.Verdict{trial.Valid, trial.TargetFailed, trial.Invalid}

// Tables are the summary's tables that have rows.
func (s Summary) Tables() []Table {
	names := Names(s.Cells)
	tables := append(in(PartOutcomes, s.verdictTable(names), s.causeTable(names)), s.migrationTables(names)...)
	tables = append(tables, in(PartLoad, s.loadTables(names)...)...)
	tables = append(tables, in(PartValidity, s.clockTable(names), s.sentinelTable())...)
	tables = append(tables, s.proofTables(names)...)
	// Campaigns that are older than the witnesses have no rows for some tables. Tables that
	// say what was run are shown even without rows.
	return slices.DeleteFunc(tables, func(t Table) bool { return len(t.Rows) == 0 && t.optional })
}

// in assigns tables to a part of the report.
func in(part Part, tables ...Table) []Table {
	for i := range tables {
		tables[i].Part = part
	}
	return tables
}

// perCell is a table with a row for each cell.
func (s Summary) perCell(names []string, title string, header []string, values func(cell Cell, valid int) []string) Table {
	t := Table{Title: title, Header: append([]string{"#", "cell"}, header...)}
	for i, cell := range s.Cells {
		t.Rows = append(t.Rows, append([]string{strconv.Itoa(i + 1), names[i]}, values(cell, cell.Verdicts[trial.Valid])...))
	}
	return t
}

func (s Summary) verdictTable(names []string) Table {
	header := []string{}
	for _, verdict := range verdicts {
		header = append(header, string(verdict))
	}
	return s.perCell(names, "Trials", append(header, "attempts", "for each result", "late time-outs"), func(cell Cell, _ int) []string {
		row := []string{}
		for _, verdict := range verdicts {
			row = append(row, strconv.Itoa(cell.Verdicts[verdict]))
		}
		each := "–"
		if results := cell.results(); results > 0 {
			each = Number(float64(cell.Ran.Attempts) / float64(results))
		}
		return append(row, strconv.Itoa(cell.Ran.Attempts), each, strconv.Itoa(cell.Ran.Late))
	})
}

// causeTable says why attempts are not valid, including attempts that were tried again.
func (s Summary) causeTable(names []string) Table {
	t := Table{Title: "Causes, of every attempt that is not valid", Header: []string{"#", "cell", "verdict", "cause", "attempts", "of them counted"}, Texts: 2, optional: true}
	for _, c := range s.Causes {
		number, name := "–", c.Key.CellID+", "+c.Key.Direction
		if c.Sentinel {
			name = "sentinel"
		} else if i := place(s.Cells, c); i < len(names) {
			number, name = strconv.Itoa(i+1), names[i]
		}
		t.Rows = append(t.Rows, []string{number, name, string(c.Verdict), orDash(c.Cause), strconv.Itoa(c.Attempts), strconv.Itoa(c.Counted)})
	}
	return t
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// migrationTables say what happened in migrations and controls.
func (s Summary) migrationTables(names []string) []Table {
	migration := s.perCell(names, "Migration", []string{"total s", "blackout ms", "± ms", "WAN MB"}, func(cell Cell, valid int) []string {
		return []string{cell.MigrationS.text(cell.results()), cell.BlackoutMs.text(cell.results()), cell.UncertaintyMs.most(), cell.WANMB.text(valid)}
	})
	// Each witness of a cell has a row of its own, so that its four stalls can be compared.
	stalls := Table{Title: "Stall by witness", Header: []string{"#", "cell", "witness", "stall ms", "± ms"}, Texts: 1, optional: true}
	for i, cell := range s.Cells {
		valid := cell.Verdicts[trial.Valid]
		if len(cell.Witnesses) == 0 {
			continue
		}
		for _, name := range []string{dataset.WitnessGuest, dataset.WitnessHypervisor, dataset.WitnessBackend, dataset.WitnessNetwork} {
			stall := cell.Witnesses[name]
			stalls.Rows = append(stalls.Rows, []string{strconv.Itoa(i + 1), names[i], name, stall.Ms.text(valid), stall.UncertaintyMs.most()})
		}
		if cell.ToldMs.N > 0 {
			// The downtime that the hypervisor reports, for comparison with what the
			// witnesses saw.
			stalls.Rows = append(stalls.Rows, []string{strconv.Itoa(i + 1), names[i], "downtime told", cell.ToldMs.text(valid), "–"})
		}
		stalls.Rows = append(stalls.Rows, []string{strconv.Itoa(i + 1), names[i], "disagreement", cell.DisagreementMs.text(valid), "–"})
	}
	around := s.perCell(names, "Load around the stall", []string{"steady", "longest gap ms", "recovery ms", "I/O lost s"}, func(cell Cell, valid int) []string {
		steady := "–"
		if cell.SteadyKnown > 0 {
			steady = fmt.Sprintf("%d of %d", cell.Steady, cell.SteadyKnown)
		}
		return []string{steady, cell.LongestGapMs.text(valid), cell.RecoveryMs.text(cell.results()), cell.IOLostS.text(cell.results())}
	})
	longest := s.perCell(names, "Longest response time around the stall, ms", []string{"of all", "± ms", "of reads", "of writes"}, func(cell Cell, _ int) []string {
		return []string{cell.MaxResponseMs.text(cell.results()), cell.ResponseUncertaintyMs.most(), cell.ReadResponseMs.text(cell.results()), cell.WriteResponseMs.text(cell.results())}
	})
	return slices.Concat(in(PartValidity, s.controlTable(names)), in(PartStall, migration, stalls), in(PartRecovery, around, s.handoverTable(names)), in(PartStall, longest))
}

// handoverTable says how the disks moved from one site to the other, and for copied disks
// how long the copy took.
func (s Summary) handoverTable(names []string) Table {
	t := s.perCell(names, "The disk's hand-over", []string{"storage ready ms", "storage let go ms", "disk copied ms", "converged ms", "disk sent MB", "out of sync bytes"}, func(cell Cell, valid int) []string {
		h := cell.Handover
		return []string{h.PrepareMs.text(valid), h.FinishMs.text(valid), h.CopyMs.text(valid), h.ConvergeMs.text(valid), h.SentMB.text(valid), h.OutOfSyncBytes.text(valid)}
	})
	t.optional = true
	if !slices.ContainsFunc(s.Cells, func(c Cell) bool { return c.Handover != Handover{} }) {
		t.Rows = nil
	}
	return t
}

// controlTable says what the controls must show, and what they showed. Their numbers are
// among those of the other cells.
func (s Summary) controlTable(names []string) Table {
	t := Table{Title: "Controls: trials whose result is known beforehand", Header: []string{"#", "cell", "trial", "what", "verdict", "found", "want"}, Texts: 3, optional: true}
	for i, cell := range s.Cells {
		for _, control := range cell.Controls {
			for _, check := range control.Checks {
				t.Rows = append(t.Rows, []string{strconv.Itoa(i + 1), names[i], control.Trial, check.What, string(check.Result), check.Found, check.Want})
			}
		}
	}
	return t
}

// loadTables are the tables of the load, by phase.
func (s Summary) loadTables(names []string) []Table {
	var tables []Table
	for _, metric := range []struct {
		title string
		value func(Load) Spread
	}{
		{"IOPS", func(l Load) Spread { return l.IOPS }},
		{"MB/s", func(l Load) Spread { return l.MBPerS }},
		{"Mean response time, ms", func(l Load) Spread { return l.MeanMs }},
		{"99th percentile of the response time, ms", func(l Load) Spread { return l.P99Ms }},
		{"Maximum response time, ms", func(l Load) Spread { return l.MaxMs }},
	} {
		phases := []string{dataset.Before, dataset.During, dataset.After}
		tables = append(tables, s.perCell(names, metric.title, phases, func(cell Cell, valid int) []string {
			row := []string{}
			for _, phase := range phases {
				row = append(row, metric.value(cell.Phases[phase]).text(valid))
			}
			return row
		}))
	}
	return tables
}

func (s Summary) clockTable(names []string) Table {
	t := s.perCell(names, "Clocks", []string{"uncertainty ms", "drift ppm", "guest's step ms"}, func(cell Cell, valid int) []string {
		return []string{cell.ClockMs.text(valid), cell.DriftPPM.text(valid), cell.GuestStepMs.text(valid)}
	})
	t.optional = true
	if !slices.ContainsFunc(s.Cells, func(c Cell) bool { return c.ClockMs.N+c.DriftPPM.N+c.GuestStepMs.N > 0 }) {
		t.Rows = nil
	}
	return t
}

// sentinelTable shows the same cell again and again, so that a drift of the testbed becomes
// visible.
func (s Summary) sentinelTable() Table {
	t := Table{Title: "Sentinel: the same cell through the campaign", Header: []string{"trial", "verdict", "after min", "IOPS before", "total s", "blackout ms"}, optional: true}
	for _, w := range s.Sentinel {
		minutes := float64(w.StartedTsNs-s.Sentinel[0].StartedTsNs) / 60e9
		t.Rows = append(t.Rows, []string{w.Trial, string(w.Verdict), Number(minutes), known(w.IOPS, 1), known(w.MigrationMs, 1e-3), known(w.BlackoutMs, 1)})
	}
	return t
}

func known(value *float64, factor float64) string {
	if value == nil {
		return "–"
	}
	return Number(*value * factor)
}

// proofTables show the evidence for the measurements.
func (s Summary) proofTables(names []string) []Table {
	traffic := Table{Title: "Bytes on the WAN during the migration, or what stands for it, by class",
		Header: []string{"#", "cell", "class", "to B MB", "to A MB"}, Texts: 1, optional: true}
	ledgers := Table{Title: "Ledger: acknowledged writes that were read back",
		Header: []string{"#", "cell", "copy", "trials", "acknowledged", "checked", "found", "LOST", "≤ % of trials"}, Texts: 1, optional: true}
	for i, cell := range s.Cells {
		for _, t := range cell.Traffic {
			if t.ToBMB.Max > 0 || t.ToAMB.Max > 0 {
				traffic.Rows = append(traffic.Rows, []string{strconv.Itoa(i + 1), names[i], t.Class, t.ToBMB.text(cell.Verdicts[trial.Valid]), t.ToAMB.text(cell.Verdicts[trial.Valid])})
			}
		}
		for _, l := range cell.Ledgers {
			row := []string{strconv.Itoa(i + 1), names[i], l.Copy, strconv.Itoa(l.Trials)}
			for _, n := range []int64{l.Acked, l.Checked, l.Found, l.Losses} {
				row = append(row, strconv.FormatInt(n, 10))
			}
			ledgers.Rows = append(ledgers.Rows, append(row, atMost(l.Losing, l.Trials)))
		}
	}
	paths := Table{Title: "The WAN's certificates", Header: []string{"direction", "profile", "want ms", "RTT ms", "lost %", "Mbit/s", "drops", "n", "bad"}, optional: true}
	for _, p := range s.Paths {
		paths.Rows = append(paths.Rows, []string{p.Direction, p.Profile, Number(p.WantRTTMs), p.RTTMs.text(p.Certificates), p.LossPercent.most(),
			p.ThroughputMbit.text(p.Certificates), strconv.FormatInt(p.Drops, 10), strconv.Itoa(p.Certificates), strconv.Itoa(p.Problems)})
	}
	return slices.Concat(in(PartValidity, ledgers, paths), in(PartWire, traffic))
}

// atMost is the largest percentage of trials that may lose a write when none of n did.
func atMost(losing, n int) string {
	if losing > 0 {
		return "–"
	}
	return Number(100 * AtMost(n))
}
