package page

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"heliotrope/analysis/summary"
)

// addHow says how the campaign was run: by which program, on which machines, and with which
// commands it can be run again.
func (v *view) addHow(c Campaign, o Options) error {
	facts := summary.Table{Title: "The campaign", Header: []string{"what", "value"}}
	add := func(what, value string) {
		if value != "" {
			facts.Rows = append(facts.Rows, []string{what, value})
		}
	}
	add("name", c.Summary.Campaign)
	add("kind of testbed", c.Summary.TestbedKind)
	add("campaign file, SHA-256", strings.Join(c.Summary.Specs, ", "))
	add("identity", c.Identity.ID)
	add("plan, SHA-256", c.Identity.PlanSHA256)
	if !c.Identity.Created.IsZero() {
		add("begun", c.Identity.Created.UTC().Format(time.RFC3339))
	}
	first, last := int64(0), int64(0)
	for i := range c.Tables.Trials {
		row := &c.Tables.Trials[i]
		if row.StartedTsNs > 0 && (first == 0 || row.StartedTsNs < first) {
			first = row.StartedTsNs
		}
		last = max(last, row.EndedTsNs)
	}
	if first > 0 {
		add("first attempt began", time.Unix(0, first).UTC().Format(time.RFC3339))
		add("last attempt ended", time.Unix(0, last).UTC().Format(time.RFC3339))
	}
	add("trials were run by", "heliotrope "+strings.Join(c.Summary.Binaries, ", "))
	add("this report was made by", "heliotrope "+o.Version)
	add("files in the dataset", fmt.Sprint(len(c.Manifest.Files)))
	v.How = append(v.How, facts)
	machines, err := machinesTable(c)
	if err != nil {
		return err
	}
	if len(machines.Rows) > 0 {
		v.How = append(v.How, machines)
	}
	v.Spec = c.Spec
	v.SpecSHA256 = c.Identity.SpecSHA256
	dir := shellQuoted(o.Dir)
	if c.Spec != "" {
		v.Commands = append(v.Commands, "heliotrope run "+shellQuoted(strings.TrimRight(o.Dir, "/")+"/plan/campaign.yaml")+" --data again")
	}
	v.Commands = append(v.Commands, "heliotrope check "+dir, "heliotrope judge "+dir, "heliotrope report "+dir)
	return nil
}

// shellQuoted quotes a word for a shell, so that people can copy it.
func shellQuoted(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=+:@%") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// machinesTable has the lanes' hosts and versions, and how many attempts ran with each.
func machinesTable(c Campaign) (summary.Table, error) {
	t := summary.Table{Title: "Machines and versions, as the attempts found them", Header: []string{"lane", "what", "value", "attempts"}, Texts: 1}
	type fact struct{ lane, what, value string }
	attempts := map[fact]int{}
	for i := range c.Tables.Trials {
		row := &c.Tables.Trials[i]
		for what, text := range map[string]string{"hosts": row.HostsJSON, "versions": row.VersionsJSON} {
			if text == "" {
				continue
			}
			var value any
			if err := json.Unmarshal([]byte(text), &value); err != nil {
				return t, fmt.Errorf("attempt %s: its %s: %w", row.Key, what, err)
			}
			for name, value := range flat(what, value) {
				attempts[fact{row.Lane, name, value}]++
			}
		}
	}
	facts := slices.SortedFunc(maps.Keys(attempts), func(a, b fact) int {
		return slices.Compare([]string{a.lane, a.what, a.value}, []string{b.lane, b.what, b.value})
	})
	for _, f := range facts {
		t.Rows = append(t.Rows, []string{f.lane, f.what, f.value, fmt.Sprint(attempts[f])})
	}
	return t, nil
}

// flat gives the values in a JSON text with their paths.
func flat(name string, value any) func(yield func(string, string) bool) {
	return func(yield func(string, string) bool) { walk(name, value, yield) }
}

func walk(name string, value any, yield func(string, string) bool) bool {
	switch of := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(of)) {
			if !walk(name+"."+key, of[key], yield) {
				return false
			}
		}
	case []any:
		for i, one := range of {
			if !walk(fmt.Sprintf("%s.%d", name, i+1), one, yield) {
				return false
			}
		}
	case nil:
	default:
		if text := fmt.Sprint(of); text != "" {
			return yield(name, text)
		}
	}
	return true
}
