package report

import (
	"cmp"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
)

// Path is what one direction of the WAN was measured to be with one profile.
type Path struct {
	Profile, Direction string
	Certificates       int
	Problems           int // of them, that were outside of their tolerance
	WantRTTMs          float64
	RTTMs              Spread // medians of the certificates' round trips
	LossPercent        Spread
	ThroughputMbit     Spread
	Drops              int64
}

// Ledger is what became of the acknowledged writes in one copy of the disks of
// one storage system.
type Ledger struct {
	Storage, Copy                 string
	Trials                        int
	Acked, Checked, Found, Losses int64 // summed over the trials
}

// Traffic is the bytes of one class during the migrations of one storage system.
type Traffic struct {
	Storage, Class string
	ToBMB, ToAMB   Spread // 10^6 bytes; of the valid trials with a migration
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

// proof puts together what is known of all trials, beside their cells.
type proof struct {
	certificates map[string][]dataset.Certificate
	traffic      map[string][]dataset.Traffic
	ledgers      map[string][]dataset.Ledger

	severalHypervisors bool

	paths    map[[2]string]*pathSamples
	copies   map[[2]string]*Ledger
	classes  map[[2]string]*trafficSamples
	sentinel []Watched
}

type pathSamples struct {
	Path
	rtt, loss, throughput []float64
}

type trafficSamples struct{ toB, toA []float64 }

func newProof(tables Tables) *proof {
	several := slices.ContainsFunc(tables.Trials, func(row dataset.Trial) bool { return row.Hypervisor != tables.Trials[0].Hypervisor })
	return &proof{
		severalHypervisors: several,
		certificates:       byTrial(tables.Certificates, func(r *dataset.Certificate) string { return r.Trial }),
		traffic:            byTrial(tables.Traffic, func(r *dataset.Traffic) string { return r.Trial }),
		ledgers:            byTrial(tables.Ledger, func(r *dataset.Ledger) string { return r.Trial }),
		paths:              map[[2]string]*pathSamples{}, copies: map[[2]string]*Ledger{}, classes: map[[2]string]*trafficSamples{},
	}
}

// entry is what a map has for a key, made when it has nothing yet.
func entry[V any](all map[[2]string]*V, first, second string) *V {
	key := [2]string{first, second}
	if all[key] == nil {
		all[key] = new(V)
	}
	return all[key]
}

// add counts a trial that counts in.
func (p *proof) add(row *dataset.Trial, verdict trial.Verdict, phases []dataset.Phase) {
	storage := storageName(row)
	if p.severalHypervisors {
		storage = row.Hypervisor + ", " + storage
	}
	for _, c := range p.certificates[row.Key] {
		path := entry(p.paths, c.Profile, c.Direction)
		path.Certificates++
		path.WantRTTMs, path.Drops = c.WantRTTMs, path.Drops+c.Drops
		if c.Problem != "" {
			path.Problems++
		}
		path.rtt = appendKnown(path.rtt, c.RTTMedianMs, 1)
		path.loss, path.throughput = append(path.loss, c.LossPercent), append(path.throughput, c.ThroughputMbit)
	}
	for _, l := range p.ledgers[row.Key] {
		copied := entry(p.copies, storage, l.Copy)
		copied.Trials++
		copied.Acked, copied.Checked, copied.Found, copied.Losses = copied.Acked+l.Acked, copied.Checked+l.Checked, copied.Found+l.Found, copied.Losses+l.LostCount
	}
	if row.Sentinel {
		watched := Watched{Trial: row.Key, StartedTsNs: row.StartedTsNs, Verdict: verdict, BlackoutMs: row.BlackoutMs, MigrationMs: row.TotalMigrationMs}
		for _, phase := range phases {
			if phase.Phase == dataset.Before {
				watched.IOPS = phase.IOPS
			}
		}
		p.sentinel = append(p.sentinel, watched)
	}
	if verdict != trial.Valid || row.Control != "" {
		return
	}
	migration := storage
	if name := migrationName(row); name != "" {
		migration += ", " + name
	}
	for _, t := range p.traffic[row.Key] {
		if t.Phase != dataset.During {
			continue
		}
		class := entry(p.classes, migration+", "+row.Direction, t.Class)
		if t.Direction == judge.ToB {
			class.toB = append(class.toB, float64(t.Bytes)/1e6)
		} else {
			class.toA = append(class.toA, float64(t.Bytes)/1e6)
		}
	}
}

// finish gives all of it in order.
func (p *proof) finish() (paths []Path, ledgers []Ledger, traffic []Traffic, sentinel []Watched) {
	for _, key := range sortedKeys(p.paths) {
		samples := p.paths[key]
		path := samples.Path
		path.Profile, path.Direction = key[0], key[1]
		path.RTTMs, path.LossPercent, path.ThroughputMbit = spread(samples.rtt), spread(samples.loss), spread(samples.throughput)
		paths = append(paths, path)
	}
	for _, key := range sortedKeys(p.copies) {
		ledger := *p.copies[key]
		ledger.Storage, ledger.Copy = key[0], key[1]
		ledgers = append(ledgers, ledger)
	}
	for _, key := range sortedKeys(p.classes) {
		samples := p.classes[key]
		traffic = append(traffic, Traffic{Storage: key[0], Class: key[1], ToBMB: spread(samples.toB), ToAMB: spread(samples.toA)})
	}
	return paths, ledgers, traffic, p.sentinel
}

func sortedKeys[V any](all map[[2]string]*V) [][2]string {
	keys := make([][2]string, 0, len(all))
	for key := range all {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return keys
}
