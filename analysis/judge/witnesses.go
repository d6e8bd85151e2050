package judge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/witness"
)

// witness asks all witnesses, and finds what they say together and the bytes on the WAN.
func (s *scene) witness(raw Raw, judged *Judged) error {
	s.row.BlackoutMs, s.row.BlackoutUncertaintyMs, s.row.DisagreementMs = nil, nil, nil
	disks, wan, err := s.counters(raw.Counters)
	if err != nil {
		return fmt.Errorf("its counters: %w", err)
	}
	judged.Traffic = s.traffic(wan)
	judged.Notes = append(judged.Notes, s.compareTraffic(judged.Traffic)...)
	window, ok := s.window()
	if !ok {
		return s.readLoad(raw, judged)
	}
	domains, err := domainsOf(raw)
	if err != nil {
		return err
	}
	heartbeats, err := dataset.All(orNone(raw.Heartbeats))
	if err != nil {
		return fmt.Errorf("its heartbeats: %w", err)
	}
	hypervisor := s.unlessAbsent(dataset.WitnessHypervisor, func() dataset.Witness { return s.hypervisor(domains, window) })
	if hypervisor.StallMs != nil {
		s.stall = &span{*hypervisor.FromTsNs, *hypervisor.ToTsNs}
	}
	s.ofGuest = s.guestClock(hypervisor, s.stood(domains, window), heartbeats, nil)
	s.clocks.setGuest(s.ofGuest)
	if err := s.readLoad(raw, judged); err != nil {
		return err
	}
	s.tellResponses(heartbeats)
	network, note := s.network(heartbeats, window)
	if note != "" {
		judged.Notes = append(judged.Notes, note)
	}
	if note := s.overwritten(raw.Ledger, heartbeats, window); note != "" {
		judged.Notes = append(judged.Notes, note)
	}
	backend := s.unlessAbsent(dataset.WitnessBackend, func() dataset.Witness { return s.backend(disks, window) })
	judged.Witnesses = []dataset.Witness{s.guest(), hypervisor, backend, network}
	judged.Notes = append(judged.Notes, s.absences()...)
	s.agree(judged.Witnesses)
	s.comesBack(judged.Phases, heartbeats, domains, disks)
	return nil
}

// absent is the problem of a witness that the testbed does not have: it gives no number,
// and is not held against the attempt.
const absent = "absent: the testbed has no such witness"

func (s *scene) isAbsent(name string) bool {
	return slices.Contains(strings.Fields(s.row.AbsentWitnesses), name)
}

// unlessAbsent asks a witness, unless the testbed does not have it.
func (s *scene) unlessAbsent(name string, hear func() dataset.Witness) dataset.Witness {
	if s.isAbsent(name) {
		return dataset.Witness{Trial: s.row.Key, Witness: name, Problem: absent}
	}
	return hear()
}

// absences are notes on what is not known because a witness is absent.
func (s *scene) absences() []string {
	var notes []string
	if s.isAbsent(dataset.WitnessHypervisor) {
		notes = append(notes, "hypervisor: absent: blackout, recovery and I/O lost are not known, and the others' stalls are their longest silences from the migration on")
	}
	if s.isAbsent(dataset.WitnessBackend) {
		notes = append(notes, "backend: absent: whether the disk answered while the guest stood still is not known")
	}
	return notes
}

// counters selects the readings that are needed: those of the guest's disk by host, and
// those of the WAN's device.
func (s *scene) counters(batches dataset.Batches[dataset.Counter]) (disks map[string][]dataset.Counter, wan wanCounters, err error) {
	disks = map[string][]dataset.Counter{}
	devices := map[string]map[string][]dataset.Counter{}
	for rows, err := range orNone(batches) {
		if err != nil {
			return nil, nil, err
		}
		for i := range rows {
			c := &rows[i]
			switch {
			case c.Device == witness.GuestDisk && slices.Contains(witness.DiskWork, c.Name):
				disks[c.Host] = append(disks[c.Host], *c)
			case isTraffic(c):
				if devices[c.Host] == nil {
					devices[c.Host] = map[string][]dataset.Counter{}
				}
				devices[c.Host][c.Name] = append(devices[c.Host][c.Name], *c)
			}
		}
	}
	return disks, bridge(devices), nil
}

// guest says for how long no I/O completed: the longest time between two completions that
// overlaps the stall. A pre-copy can starve the guest for longer than that without stopping
// it: LongestGapMs is the longest time, wherever it is.
func (s *scene) guest() dataset.Witness {
	w := dataset.Witness{Trial: s.row.Key, Witness: dataset.WitnessGuest, Samples: s.load.ios()}
	if s.load.order.tooLate > 0 {
		w.Problem = "its log is not in the order of completion"
		return w
	}
	silent := s.load.silences.tell(&w, unheard{nothing: "there is no I/O", before: "no I/O completed before",
		after: "no I/O completed after", silence: "the I/Os have no silence"})
	if w.Problem != "" {
		return w
	}
	uncertainty, known := s.guestUncertainty(silent.span())
	switch {
	case !known && s.ofGuest.Cause == cause.WitnessDied:
		w.Problem = "where the guest's clock stood still is not known"
		return w
	case !known:
		w.Problem = "the guest's clock was never read"
		return w
	}
	say(&w, silent.span(), uncertainty+silent.looking())
	return w
}

// agree computes what the witnesses say together, and notes a problem for each one that
// says nothing.
func (s *scene) agree(witnesses []dataset.Witness) {
	var stalls []float64
	there := 0
	// The others are placed by the stall that the hypervisor's witness saw: its problem
	// comes first.
	order := slices.SortedStableFunc(slices.Values(witnesses), func(a, b dataset.Witness) int {
		return cmp.Compare(byHypervisor(a), byHypervisor(b))
	})
	for _, w := range order {
		if w.Problem == absent {
			continue
		}
		there++
		if w.Problem != "" {
			s.problem(cause.WitnessDied, "the %s says nothing of the stall: %s", w.Witness, w.Problem)
		}
		if w.StallMs != nil {
			stalls = append(stalls, *w.StallMs)
		}
		if w.Witness == dataset.WitnessHypervisor {
			s.row.BlackoutMs, s.row.BlackoutUncertaintyMs = w.StallMs, w.UncertaintyMs
		}
	}
	if len(stalls) == there && there > 1 && s.row.Control != campaign.ControlNone {
		s.row.DisagreementMs = pointer(slices.MaxFunc(stalls, cmp.Compare[float64]) - slices.MinFunc(stalls, cmp.Compare[float64]))
	}
}

func byHypervisor(w dataset.Witness) int {
	if w.Witness == dataset.WitnessHypervisor {
		return 0
	}
	return 1
}
