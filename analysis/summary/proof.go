package summary

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
)

// Path is what one direction of the WAN was measured to be with one profile, whatever
// traffic there was.
type Path struct {
	Profile, Direction string
	Certificates       int
	Problems           int // how many of them were outside of their tolerance
	WantRTTMs          float64
	RTTMs              Spread // of the medians of the certificates' round trips
	LossPercent        Spread
	ThroughputMbit     Spread
	Drops              int64
}

// Ledger is what became of the acknowledged writes in one copy of a group's disks.
type Ledger struct {
	Copy                          string
	Trials, Losing                int   // trials in which the copy was read, and those of them in which a write is missing
	Acked, Checked, Found, Losses int64 // summed over the trials
}

func (l *Ledger) add(row dataset.Ledger) {
	l.Trials++
	if row.LostCount > 0 {
		l.Losing++
	}
	l.Acked, l.Checked, l.Found, l.Losses = l.Acked+row.Acked, l.Checked+row.Checked, l.Found+row.Found, l.Losses+row.LostCount
}

// AtMost is the largest share of trials that may lose a write, with 95 % confidence, when
// none of n trials did: 1 - 0.05^(1/n), which is less than 3/n (the rule of three: Hanley
// and Lippman-Hand, JAMA 249, 1983). The unit is the trial, because writes of one migration
// are lost together.
func AtMost(n int) float64 { return 1 - math.Pow(0.05, 1/float64(n)) }

// Lost counts the acknowledged writes of every attempt whose ledger was read, and those
// that are missing in a copy of its disk.
type Lost struct {
	Attempts, Losing int
	Checked, Losses  int64
}

// Traffic is the bytes of one class during a group's migrations.
type Traffic struct {
	Class        string
	ToBMB, ToAMB Spread // 10^6 bytes; of the valid trials
}

// Watched is a trial of the sentinel.
type Watched struct {
	Trial       string
	StartedTsNs int64
	Verdict     trial.Verdict
	BlackoutMs  *float64
	MigrationMs *float64
	IOPS        *float64 // in phase before
}

// proof collects the evidence in the trials that does not belong to groups.
type proof struct {
	certified map[[2]string]*pathSamples // by profile and direction
	lost      Lost
	sentinel  []Watched
}

type pathSamples struct {
	Path
	rtt, loss, throughput []float64
}

type trafficSamples struct{ toB, toA []float64 }

func (s *trafficSamples) add(row dataset.Traffic) {
	if row.Direction == judge.ToB {
		s.toB = append(s.toB, float64(row.Bytes)/1e6)
	} else {
		s.toA = append(s.toA, float64(row.Bytes)/1e6)
	}
}

func newProof() *proof { return &proof{certified: map[[2]string]*pathSamples{}} }

// entry is a map's entry for a key, which it makes when there is none yet.
func entry[K comparable, V any](all map[K]*V, key K) *V {
	if all[key] == nil {
		all[key] = new(V)
	}
	return all[key]
}

// add adds an attempt.
func (p *proof) add(attempt *dataset.Attempt) {
	row := &attempt.Trial
	p.addLost(attempt.Ledger)
	if row.Counted && row.Sentinel {
		p.watch(row, attempt.Phases)
	}
	if _, in := group.Of(row); !in {
		return
	}
	for _, c := range attempt.Certificates {
		path := entry(p.certified, [2]string{c.Profile, c.Direction})
		path.Profile, path.Direction = c.Profile, c.Direction
		path.Certificates++
		path.WantRTTMs, path.Drops = c.WantRTTMs, path.Drops+c.Drops
		if c.Problem != "" {
			path.Problems++
		}
		path.rtt = appendKnown(path.rtt, c.RTTMedianMs, 1)
		path.loss, path.throughput = append(path.loss, c.LossPercent), append(path.throughput, c.ThroughputMbit)
	}
}

// addLost counts an attempt whose ledger was read, by the copy that lost most.
func (p *proof) addLost(copies []dataset.Ledger) {
	if len(copies) == 0 {
		return
	}
	worst := slices.MaxFunc(copies, func(a, b dataset.Ledger) int { return cmp.Compare(a.LostCount, b.LostCount) })
	p.lost.Attempts++
	p.lost.Checked, p.lost.Losses = p.lost.Checked+worst.Checked, p.lost.Losses+worst.LostCount
	if worst.LostCount > 0 {
		p.lost.Losing++
	}
}

func (p *proof) watch(row *dataset.Trial, phases []dataset.Phase) {
	watched := Watched{Trial: row.Key, StartedTsNs: row.StartedTsNs, Verdict: trial.Verdict(row.Verdict), BlackoutMs: row.BlackoutMs, MigrationMs: row.TotalMigrationMs}
	for _, phase := range phases {
		if phase.Phase == dataset.Before {
			watched.IOPS = phase.IOPS
		}
	}
	p.sentinel = append(p.sentinel, watched)
}

// paths are the paths in order.
func (p *proof) paths() []Path {
	keys := slices.SortedFunc(maps.Keys(p.certified), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var paths []Path
	for _, key := range keys {
		samples := p.certified[key]
		path := samples.Path
		path.RTTMs, path.LossPercent, path.ThroughputMbit = spread(samples.rtt), spread(samples.loss), spread(samples.throughput)
		paths = append(paths, path)
	}
	return paths
}
