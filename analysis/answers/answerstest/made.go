// Package answerstest makes up campaigns whose answers are known, for tests.
package answerstest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// Options describe a made-up campaign. Each of its cells has one trial in each block.
type Options struct {
	Kind        string
	Hypervisors []string
	Storages    []string // drbd has protocol C
	RTTsMs      []float64
	MemoriesMiB []int32 // of the guest; none: the inventory's
	Blocks      int
	Balanced    bool // each two blocks have each cell in both directions; which comes first is drawn
	FixedOrder  bool // with Balanced: a cell's directions alternate from block to block, as in plans of earlier versions
	Seed        uint64
	Sigma       float64 // standard deviation of the logarithms of all values
	// ResponseMs and WANMB give the medians of a cell's longest response time and of its
	// bytes on the WAN; other metrics follow from them.
	ResponseMs, WANMB func(storage string, rttMs float64) float64
	// Change, if set, changes the row of each trial of the matrix.
	Change        func(*dataset.Trial)
	Sentinel      int     // number of the sentinel's trials
	SentinelSlope float64 // of the sentinel's IOPS, per hour
}

// Usual is a campaign in which DRBD sends fewer bytes over the WAN everywhere, and has
// shorter responses at round trips above 60 ms.
func Usual() Options {
	return Options{
		Kind: "emulated", Hypervisors: []string{"kvm"}, Storages: []string{"iscsi", "nfs", "drbd"}, RTTsMs: []float64{0, 30, 90, 160},
		Blocks: 10, Seed: 1, Sigma: 0.1,
		ResponseMs: func(storage string, rttMs float64) float64 {
			if storage == "drbd" {
				return 1000
			}
			return 1000 * math.Exp((rttMs-60)/100)
		},
		WANMB: func(storage string, _ float64) float64 {
			if storage == "drbd" {
				return 70
			}
			return 100
		},
	}
}

// Rows are the campaign's rows, in the order of its plan.
func Rows(o Options) answers.Rows {
	random := rand.New(rand.NewPCG(o.Seed, 77)) //nolint:gosec // nobody has to be kept from guessing it
	var rows answers.Rows
	noise := func() float64 { return math.Exp(o.Sigma * random.NormFloat64()) }
	add := func(row dataset.Trial, responseMs, wanMB, iops float64) {
		row.Sequence = int32(len(rows.Trials) + 1) //nolint:gosec // few
		row.Key = fmt.Sprintf("%05d.1", row.Sequence)
		row.Attempt, row.Counted, row.TestbedKind, row.Access, row.Verdict = 1, true, o.Kind, "database", string(trial.Valid)
		row.BinaryVersion, row.SpecSHA256, row.HostsJSON, row.VersionsJSON, row.IORows = "v1", "abcd", "[]", "{}", new(int64(3))
		row.StartedTsNs = int64(row.Sequence) * 240e9
		row.EndedTsNs = row.StartedTsNs + 200e9
		row.Response.Ms, row.ReadResponse.Ms, row.WriteResponse.Ms = new(responseMs), new(0.7*responseMs), new(responseMs)
		row.BlackoutMs, row.TotalMigrationMs = new(0.5*responseMs*noise()), new(20*responseMs*noise())
		row.RecoveryMs, row.IOLostS = new(3*responseMs*noise()), new(responseMs/1000*noise())
		row.WANBytes = new(int64(1e6 * wanMB))
		for i, phase := range []string{dataset.Before, dataset.During, dataset.After} {
			rows.Phases = append(rows.Phases, dataset.Phase{Trial: row.Key, Phase: phase, Seconds: 60, IOs: new(int64(60 * iops)), Bytes: new(int64(60 * iops * 8192)),
				IOPS: new(iops), MBPerS: new(iops * 8192 / 1e6), MeanMs: new(1000 / iops), P50Ms: new(900 / iops), P99Ms: new(3000 / iops), P999Ms: new(5000 / iops), MaxMs: new(responseMs)})
			for _, direction := range []string{judge.ToB, judge.ToA} {
				rows.Traffic = append(rows.Traffic, dataset.Traffic{Trial: row.Key, Phase: phase, Class: judge.ClassInterface, Direction: direction, Bytes: int64(5e5 * wanMB), Packets: int64(i)})
			}
		}
		if o.Change != nil && !row.Sentinel {
			o.Change(&row)
		}
		rows.Trials = append(rows.Trials, row)
	}
	drawn := rand.New(rand.NewPCG(o.Seed, 78)) //nolint:gosec // likewise
	first := map[string]int{}
	for block := range o.Blocks {
		for _, cell := range o.cells() {
			row := cell.row
			row.Block = int32(block + 1)
			if block%2 == 0 {
				first[row.CellID] = cell.number
				if !o.FixedOrder {
					first[row.CellID] = drawn.IntN(2)
				}
			}
			if o.Balanced && (block+first[row.CellID])%2 == 1 {
				row.Direction = campaign.Return
			}
			add(row, o.ResponseMs(row.Storage, row.RTTMs)*noise(), o.WANMB(row.Storage, row.RTTMs)*noise(), 500*noise())
		}
	}
	for range o.Sentinel {
		hours := float64(len(rows.Trials)+1) * 240 / 3600
		add(dataset.Trial{Block: 1, Hypervisor: o.Hypervisors[0], Storage: "iscsi", WAN: "rtt=30ms", RTTMs: 30, Direction: campaign.Outbound, Sentinel: true, CellID: "sentinel"},
			1000*noise(), 100*noise(), (500+o.SentinelSlope*hours)*noise())
	}
	return rows
}

// cell is what the trials of a cell have in common.
type cell struct {
	row    dataset.Trial
	number int // of its storage and its RTT together
}

// cells are the cells in the order in which each block has them.
func (o Options) cells() []cell {
	var cells []cell
	memories := o.MemoriesMiB
	if len(memories) == 0 {
		memories = []int32{0}
	}
	for _, hypervisor := range o.Hypervisors {
		for i, storage := range o.Storages {
			for j, rtt := range o.RTTsMs {
				for _, memory := range memories {
					row := dataset.Trial{Hypervisor: hypervisor, Storage: storage, WAN: fmt.Sprintf("rtt=%vms", rtt), RTTMs: rtt, Direction: campaign.Outbound}
					parts := []string{hypervisor, storage}
					if storage == "drbd" {
						row.DRBDProtocol = new("C")
						parts = append(parts, "c")
					}
					parts = append(parts, fmt.Sprintf("rtt%v", rtt), "database")
					if memory != 0 {
						row.GuestMemoryMiB = new(memory)
						parts = append(parts, fmt.Sprintf("%dm", memory))
					}
					row.CellID = strings.Join(parts, "-")
					cells = append(cells, cell{row, i + j})
				}
			}
		}
	}
	return cells
}

// Write writes the campaign as a folder, compacted.
func Write(folder string, o Options) error {
	rows := Rows(o)
	of := map[string]*dataset.Attempt{}
	for i := range rows.Trials {
		of[rows.Trials[i].Key] = &dataset.Attempt{Trial: rows.Trials[i]}
	}
	for _, phase := range rows.Phases {
		of[phase.Trial].Phases = append(of[phase.Trial].Phases, phase)
	}
	for _, traffic := range rows.Traffic {
		of[traffic.Trial].Traffic = append(of[traffic.Trial].Traffic, traffic)
	}
	for i := range rows.Trials {
		if err := dataset.WriteAttempt(folder, *of[rows.Trials[i].Key]); err != nil {
			return err
		}
	}
	_, err := dataset.CompactCampaign(folder, dataset.Provenance{dataset.KeyCampaign: dataset.CampaignName(folder), dataset.KeyTestbedKind: o.Kind})
	return err
}
