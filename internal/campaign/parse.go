package campaign

import (
	"fmt"
	"time"

	"heliotrope/internal/ledger"
	"heliotrope/internal/strict"
)

// Parse checks a campaign file and fills in the defaults. A *strict.Error lists all problems;
// file is the file's name in them. read returns the Iometer files that the campaign names, by
// their names there; if it is nil, they are refused. Parse looks at no inventory that the file
// names, and at no host.
func Parse(file string, data []byte, read func(name string) ([]byte, error)) (*Spec, error) {
	return parse(file, data, sources{read, fromIometer})
}

// FromTexts returns a read for Parse that takes files from texts, by the names in the campaign
// file.
func FromTexts(texts map[string][]byte) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		text, ok := texts[name]
		if !ok {
			return nil, fmt.Errorf("%s: its text is not at hand", name)
		}
		return text, nil
	}
}

func parse(file string, data []byte, from sources) (*Spec, error) {
	spec := defaults()
	document := strict.Decode(file, data, spec)
	if document.Given("") {
		spec.resolve(document, from)
		spec.complete(document)
		checker{document, spec}.campaign()
	}
	if err := document.Err(); err != nil {
		return nil, err
	}
	return spec, nil
}

// ledgerMargin is how long before and after a migration the ledger's records must be kept.
const ledgerMargin = time.Minute

// ledgerTime is how long no slot of the ledger may be overwritten: what the guest wrote around
// its stall must be there when the ledger is read back.
func (s *Spec) ledgerTime() time.Duration { return s.Limits.Migration + ledgerMargin + s.Phases.After }

// ledgerMiB is the size of a ledger that keeps its records for ledgerTime.
func (s *Spec) ledgerMiB() int {
	slots := (s.ledgerTime() + ledger.Interval - 1) / ledger.Interval
	return int((slots*ledger.RecordBytes + 1<<20 - 1) >> 20)
}

// window is how long a load must have run before it can be called steady.
func (s SteadyState) window() time.Duration { return time.Duration(s.Window) * s.Round }

// LaneCount returns how many trials run at the same time: one on each testbed.
func (s *Spec) LaneCount() int {
	switch s.Testbed {
	case TestbedHosts:
		return len(s.Inventories)
	case TestbedSimulated:
		return s.Lanes
	}
	return 1
}
