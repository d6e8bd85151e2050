package simulated

import (
	"slices"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

func TestCountersGrowAndAreInTheDictionary(t *testing.T) {
	type key struct{ device, name string }
	for _, kind := range []string{iscsi, replicated} {
		p := play(t, reference(cell(kind, "continental", 50, 4)), Faults{})
		seen := map[key]bool{}
		for _, host := range Open(lane, p.ref, Faults{}).HostNames() {
			last := map[key]int64{}
			for _, reading := range p.readings(t, host, Faults{}) {
				k := key{reading.Device, reading.Name}
				if before, known := last[k]; reading.Value < 0 || known && grows(t, k.device, k.name) && reading.Value < before {
					t.Fatalf("%s %s: %+v after %d", kind, host, reading, before)
				}
				last[k], seen[k] = reading.Value, true
			}
			total := int64(0)
			for _, name := range []string{"user_ticks", "system_ticks", "idle_ticks"} {
				total += last[key{witness.CPU, name}]
			}
			if elapsed := p.end(t).Sub(p.mark(t, trial.WarmUp)) + bootedBefore; total < int64(hostCPUs*(elapsed-2*time.Second)/tick) {
				t.Errorf("%s %s: %d ticks in %s", kind, host, total, elapsed)
			}
		}
		for _, counter := range dictionary() {
			if !seen[key{counter.Device, counter.Name}] {
				t.Errorf("%s: %s %s is in the dictionary, and not on the hosts", kind, counter.Device, counter.Name)
			}
		}
	}
}

// dictionary returns the part of the data dictionary that the model has: everything except the
// counters of storage systems.
func dictionary() []witness.Counter {
	all := slices.Clone(witness.Counters)
	for _, class := range classesOnWAN {
		all = append(all, witness.ClassCounters(class)...)
	}
	return all
}

// grows looks a counter up in the data dictionary.
func grows(t *testing.T, device, name string) bool {
	t.Helper()
	for _, counter := range dictionary() {
		if counter.Device == device && counter.Name == name {
			return counter.Grows
		}
	}
	t.Fatalf("%s %s is not in the dictionary", device, name)
	return false
}

// last is the last value of a counter.
func last(readings []witness.Reading, device, name string) int64 {
	value := int64(-1)
	for _, reading := range readings {
		if reading.Device == device && reading.Name == name {
			value = reading.Value
		}
	}
	return value
}

func TestCountersAgreeWithTheLog(t *testing.T) {
	for _, kind := range []string{iscsi, nfs, replicated} {
		p := play(t, reference(cell(kind, "continental", 50, 4)), Faults{})
		log := p.log(t, Faults{})
		m, err := modelOf(p.ref, Faults{})
		if err != nil {
			t.Fatal(err)
		}
		var all, crossing int64
		for _, entry := range log {
			all++
			isRemote := entry.at.After(m.schedule.suspended)
			if kind == replicated && entry.Write || kind != replicated && isRemote {
				crossing += int64(entry.SizeBytes)
			}
		}
		a, b, bridge := p.readings(t, lane+"-a", Faults{}), p.readings(t, lane+"-b", Faults{}), p.readings(t, lane+"-store", Faults{})
		counted := last(a, witness.GuestDisk, "reads") + last(a, witness.GuestDisk, "writes") +
			last(b, witness.GuestDisk, "reads") + last(b, witness.GuestDisk, "writes")
		// The last sample may be up to a second before the end.
		if !isNear(float64(counted), float64(all), 0.06) || counted > all {
			t.Errorf("%s: the disks counted %d I/Os, the log has %d", kind, counted, all)
		}
		wire := last(bridge, witness.WAN, "rx_bytes") + last(bridge, witness.WAN, "tx_bytes")
		if data := float64(p.migration.StreamBytes + crossing); !isNear(float64(wire), 1.07*data, 0.06) {
			t.Errorf("%s: %d bytes on the WAN, of %.0f of data", kind, wire, data)
		}
	}
}

// TestClassesAreAllOfTheWAN: in each sample and both directions, the classes sum to the WAN's
// counters.
func TestClassesAreAllOfTheWAN(t *testing.T) {
	for _, kind := range []string{iscsi, nfs, replicated} {
		for _, direction := range []string{campaign.Outbound, campaign.Return} {
			ref := reference(cell(kind, "continental", 50, 4))
			ref.Trial.Direction = direction
			p := play(t, ref, Faults{})
			samples := 0
			var toB, toA, carriedToB, carriedToA, migrated int64
			for _, r := range p.readings(t, lane+"-store", Faults{}) {
				if r.Device != witness.WAN {
					continue
				}
				for _, class := range classesOnWAN {
					switch r.Name {
					case class + witness.ToBBytes:
						carriedToB += r.Value
					case class + witness.ToABytes:
						carriedToA += r.Value
					}
				}
				switch r.Name {
				case "migration" + witness.ToBBytes, "migration" + witness.ToABytes:
					migrated = max(migrated, r.Value)
				case "rx_bytes":
					toA = r.Value
				case "tx_bytes":
					if toB = r.Value; toB != carriedToB || toA != carriedToA {
						t.Fatalf("%s %s: %d and %d bytes on the WAN, the classes have %d and %d", kind, direction, toB, toA, carriedToB, carriedToA)
					}
					samples, carriedToB, carriedToA = samples+1, 0, 0
				}
			}
			if samples < 30 || !isNear(float64(migrated), 1.05*float64(p.migration.StreamBytes), 0.03) {
				t.Errorf("%s %s: %d samples, %d bytes of the migration, of a stream of %d", kind, direction, samples, migrated, p.migration.StreamBytes)
			}
			if (toB > toA) != (direction == campaign.Outbound) && kind == replicated {
				t.Errorf("%s %s: %d bytes to B, %d to A", kind, direction, toB, toA)
			}
		}
	}
}
