package campaign

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

const referenceHead = `# The campaign file, key by key

<!-- Written by ` + "`go test ./internal/campaign -run TestReference -update`" + ` from the types in internal/campaign and
internal/load/spec: edit those. -->

What the keys mean together, and which defaults follow from what, is in [campaigns.md](campaigns.md). ` + "`heliotrope validate FILE`" + `
tells all problems of a file at once, with their lines. An editor that reads the schema
(` + "`internal/campaign/campaign.schema.json`" + `) completes and explains the keys.

A length of time is a number with its unit, such as ` + "`90s` or `1h30m`" + `. A key in **bold** must be there.
`

// reference writes a table of keys for the file and for each type in it, in the order in which
// they first occur.
type reference struct {
	strings.Builder
	definitions jsonschema.Definitions
	met         []string
}

// TestReference: docs/campaign-reference.md agrees with the schema.
func TestReference(t *testing.T) {
	var schema jsonschema.Schema
	if err := json.Unmarshal([]byte(Schema), &schema); err != nil {
		t.Fatal(err)
	}
	r := &reference{definitions: schema.Definitions}
	r.WriteString(referenceHead)
	r.table(&schema)
	for i := 0; i < len(r.met); i++ {
		definition := r.definitions[r.met[i]]
		fmt.Fprintf(r, "\n## %s\n\n%s\n", r.met[i], definition.Description)
		r.table(definition)
	}
	if len(r.met) != len(r.definitions) {
		t.Errorf("of %d things the reference has %v", len(r.definitions), r.met)
	}
	compare(t, "../../docs/campaign-reference.md", r.String())
}

func (r *reference) table(of *jsonschema.Schema) {
	r.WriteString("\n| key | value | meaning |\n| --- | --- | --- |\n")
	for pair := of.Properties.Oldest(); pair != nil; pair = pair.Next() {
		key := "`" + pair.Key + "`"
		if slices.Contains(of.Required, pair.Key) {
			key = "**" + key + "**"
		}
		fmt.Fprintf(r, "| %s | %s | %s |\n", key, r.value(pair.Value), strings.ReplaceAll(pair.Value.Description, "|", `\|`))
	}
}

// value describes the values that a key may have.
func (r *reference) value(of *jsonschema.Schema) string {
	if name, is := strings.CutPrefix(of.Ref, "#/$defs/"); is {
		if !slices.Contains(r.met, name) {
			r.met = append(r.met, name)
		}
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	switch {
	case len(of.Enum) > 0:
		var names []string
		for _, value := range of.Enum {
			names = append(names, fmt.Sprintf("`%v`", value))
		}
		return strings.Join(names, ", ")
	case of.Type == "array":
		return "list of " + r.value(of.Items) + bounds(number(of.MinItems), number(of.MaxItems))
	case strings.Contains(of.Pattern, "(ns|"):
		return "length of time"
	case of.Pattern != "":
		return "text that matches `" + of.Pattern + "`"
	case of.Type == "string":
		return "text" + bounds(number(of.MinLength), number(of.MaxLength))
	case of.ExclusiveMinimum != "":
		return of.Type + " above " + of.ExclusiveMinimum.String() + bounds("", of.Maximum.String())
	}
	return of.Type + bounds(of.Minimum.String(), of.Maximum.String())
}

// number returns a number as text, or "" when there is none.
func number(of *uint64) string {
	if of == nil {
		return ""
	}
	return fmt.Sprint(*of)
}

func bounds(least, most string) string {
	switch {
	case least != "" && most != "":
		return ", " + least + " to " + most
	case cmp.Or(least, most) == "":
		return ""
	case least != "":
		return ", at least " + least
	}
	return ", at most " + most
}
