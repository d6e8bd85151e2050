package campaign

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/icf"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/strict"
)

// sources find the specifications that a campaign file names instead of writing them out.
type sources struct {
	// read returns the text of one of Iometer's files, by its name in the campaign file; nil when
	// no files are available.
	read func(name string) ([]byte, error)
	// iometer takes a specification out of such a text, with notes on what is not taken over.
	iometer func(file string, text []byte, name string) (AccessSpec, []string, error)
}

// fromIometer is the iometer of real sources.
func fromIometer(file string, text []byte, name string) (AccessSpec, []string, error) {
	parsed, err := icf.Parse(file, bytes.NewReader(text))
	if err != nil {
		return AccessSpec{}, nil, err
	}
	return parsed.Access(name)
}

// resolve replaces each named workload by its numbers and their origin. Settings that the
// campaign file gives itself are kept. A 0 that is written out is refused here, before it becomes
// indistinguishable from a setting that is left out.
func (s *Spec) resolve(document *strict.Document, from sources) {
	for i := range s.Access {
		access, at := &s.Access[i], fmt.Sprintf("access_specifications[%d]", i)
		for setting, value := range map[string]float64{"outstanding": float64(access.Outstanding), "workers": float64(access.Workers),
			"targets": float64(access.Targets), "rate": access.RateIOPS} {
			document.Check(at+"."+setting, value != 0, "0: want more than 0")
		}
		if access.Source == nil || !document.Clean(at) || !document.Need(at+".workload.spec") {
			continue
		}
		document.Check(at+".lines", false, "is not for a workload, which has its own lines")
		named, notes, err := from.find(access.Source)
		var invalid *strict.Error
		switch {
		case errors.As(err, &invalid):
			for _, problem := range invalid.Problems {
				document.Report(at+".workload.icf", "%s", problem)
			}
		case err != nil:
			document.Report(at+".workload", "%v", err)
		default:
			take(access, named)
			for _, note := range notes {
				s.Notes = append(s.Notes, fmt.Sprintf("access specification %q of %s: %s", access.Source.Name, access.Source.File, note))
			}
		}
	}
}

// find returns a workload from one of Iometer's files, or a well-known one.
func (from sources) find(source *spec.Source) (AccessSpec, []string, error) {
	if source.File == "" {
		for _, known := range spec.Standard() {
			if known.Name == source.Name {
				return known, nil, nil
			}
		}
		return AccessSpec{}, nil, fmt.Errorf("%q is not well-known: want %s, or its file as icf", source.Name, wellKnown)
	}
	if from.read == nil {
		return AccessSpec{}, nil, fmt.Errorf("%s cannot be read from here", source.File)
	}
	text, err := from.read(source.File)
	if err != nil {
		return AccessSpec{}, nil, err
	}
	sum := sha256.Sum256(text)
	source.SHA256 = hex.EncodeToString(sum[:])
	return from.iometer(source.File, text, source.Name)
}

// take fills in from the named workload what the file does not give.
func take(access *AccessSpec, named AccessSpec) {
	access.Name = cmp.Or(access.Name, named.Name)
	access.Lines, access.Pattern, access.FixedSeed = named.Lines, named.Pattern, named.FixedSeed
	access.Outstanding = cmp.Or(access.Outstanding, named.Outstanding)
	access.Workers = cmp.Or(access.Workers, named.Workers)
	access.Targets = cmp.Or(access.Targets, named.Targets)
	access.RateIOPS = cmp.Or(access.RateIOPS, named.RateIOPS)
	access.RampUp = cmp.Or(access.RampUp, named.RampUp)
	access.Engine = cmp.Or(access.Engine, named.Engine)
	access.OnError = cmp.Or(access.OnError, named.OnError)
	access.Verify = cmp.Or(access.Verify, named.Verify)
}

// wellKnown lists the well-known specifications whose names people write by hand.
var wellKnown = func() string {
	var names []string
	for _, known := range spec.Standard() {
		if plainName(known.Name) {
			names = append(names, known.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ") + `, or what Iometer has from the start, such as "4 KiB; 75% Read; 0% random"`
}()

// access returns the well-known access specifications and the file's own, by name and with all
// defaults.
func (s *Spec) access() map[string]AccessSpec {
	byName := map[string]AccessSpec{}
	for _, access := range slices.Concat(spec.Standard(), s.Access) {
		byName[access.Name] = access.Complete()
	}
	return byName
}

// unmappable lists what a specification's engine cannot do.
func unmappable(access AccessSpec) []spec.Problem {
	if access.Complete().Engine != spec.EngineFio || len(access.Lines) == 0 {
		return nil
	}
	return fio.Unmappable(access)
}

// accessSpecs checks the campaign's own access specifications.
func (c checker) accessSpecs() {
	known := (&Spec{}).access()
	first, bySlug := map[string]string{}, map[string]string{}
	for name := range known {
		bySlug[accessSlug(name)] = name
	}
	for i, access := range c.spec.Access {
		at := fmt.Sprintf("access_specifications[%d]", i)
		if !c.accessSpec(at, access) {
			continue
		}
		if _, taken := known[access.Name]; taken {
			c.Report(at+".name", "%q is a well-known one: choose another name", access.Name)
		}
		if other := first[access.Name]; other != "" {
			c.Report(at+".name", "%q is %s's already", access.Name, other)
		}
		first[access.Name] = cmp.Or(first[access.Name], at)
		slug := accessSlug(access.Name)
		if other := cmp.Or(bySlug[slug], access.Name); other != access.Name {
			c.Report(at+".name", "%q is %s in the cells' IDs, as %q is: choose another name", access.Name, slug, other)
		}
		bySlug[slug] = access.Name
	}
}

// accessSpec checks one access specification, and reports whether it has all the settings that it
// needs.
func (c checker) accessSpec(at string, access AccessSpec) bool {
	complete := true
	if access.Source == nil {
		complete = c.Need(at+".name") && c.Need(at+".lines")
	}
	for j := range access.Lines {
		for _, setting := range []string{"size_bytes", "share_percent", "read_percent", "random_percent"} {
			complete = (access.Source != nil || c.Need(fmt.Sprintf("%s.lines[%d].%s", at, j, setting))) && complete
		}
	}
	if !complete || !c.Clean(at) {
		return c.Given(at + ".name")
	}
	problems := access.Problems(0)
	if len(problems) == 0 {
		problems = unmappable(access)
	}
	for _, problem := range problems {
		c.Report(at+"."+problem.Setting, "%s", problem.Message)
	}
	return true
}

// access checks a level of factor access.
func (c checker) access(setting, level string) {
	_, known := c.spec.access()[level]
	c.Check(setting, known, "%q is neither well-known (%s) nor defined under access_specifications", level, wellKnown)
}
