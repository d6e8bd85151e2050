package campaign

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"

	"heliotrope/internal/load/spec"
)

var update = flag.Bool("update", false, "write the files that tests compare with")

// compare compares a text with a committed file, or writes the file with -update.
func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the code makes; `go test ./internal/campaign -update` writes it. Made:\n%s", path, got)
	}
}

// TestSchema makes the schema from the types and their comments.
func TestSchema(t *testing.T) {
	reflector := jsonschema.Reflector{
		FieldNameTag: "yaml", ExpandedStruct: true,
		Mapper: func(of reflect.Type) *jsonschema.Schema {
			if of != reflect.TypeFor[time.Duration]() {
				return nil
			}
			return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
		},
	}
	for _, folder := range []string{".", "../load/spec"} {
		if err := reflector.AddGoComments("heliotrope/internal/campaign", folder, jsonschema.WithFullComment()); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range reflector.CommentMap {
		reflector.CommentMap[name] = strings.Join(strings.Fields(text), " ")
	}
	schema := reflector.Reflect(&Spec{})
	schema.ID = ""
	schema.Title = "Heliotrope campaign"
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "campaign.schema.json", string(text)+"\n")
}

// TestSchemaSaysWhatIsChecked compares the names in the schema's tags with those that the checks
// know.
func TestSchemaSaysWhatIsChecked(t *testing.T) {
	type property struct {
		Enum        []any
		Description string
		Items       *property
		Properties  map[string]property
	}
	var schema struct {
		property
		Defs map[string]property `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema), &schema); err != nil {
		t.Fatal(err)
	}
	matrix := schema.Defs["Matrix"].Properties
	for name, test := range map[string]struct {
		got  []any
		want []string
	}{
		"testbed":       {schema.Properties["testbed"].Enum, testbeds},
		"order":         {schema.Properties["order"].Enum, orders},
		"hypervisor":    {matrix["hypervisor"].Items.Enum, hypervisors},
		"storage":       {matrix["storage"].Items.Enum, storages},
		"drbd_protocol": {matrix["drbd_protocol"].Items.Enum, protocols},
		"mirror_copy":   {matrix["mirror_copy"].Items.Enum, copies},
		"migration":     {matrix["migration"].Items.Enum, migrations},
		"match storage": {schema.Defs["Match"].Properties["storage"].Enum, storages},
		"directions":    {schema.Properties["directions"].Enum, directions},
		"control":       {schema.Defs["Control"].Properties["control"].Enum, controls},
		"stop metric":   {schema.Defs["Stop"].Properties["metric"].Enum, metrics},
		// Types that are inlined in Go are inlined in the schema.
		"precondition":     {schema.Defs["DiskSpec"].Properties["precondition"].Enum, preconditions},
		"engine":           {schema.Defs["Access"].Properties["engine"].Enum, []string{spec.EngineOwn, spec.EngineFio}},
		"on_error":         {schema.Defs["Access"].Properties["on_error"].Enum, []string{spec.ErrorGoesOn, spec.ErrorStops}},
		"verify":           {schema.Defs["Access"].Properties["verify"].Enum, []string{spec.VerifyContent, spec.VerifyConsistent}},
		"control storage":  {schema.Defs["Control"].Properties["storage"].Enum, storages},
		"sentinel storage": {schema.Defs["Sentinel"].Properties["storage"].Enum, storages},
	} {
		var got []string
		for _, value := range test.got {
			got = append(got, value.(string))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: the schema has %v, the checks %v", name, got, test.want)
		}
	}
	for _, known := range spec.Standard() {
		if plainName(known.Name) && !strings.Contains(matrix["access"].Description, known.Name) {
			t.Errorf("the schema does not mention %s", known.Name)
		}
	}
	everything := []map[string]property{schema.Properties}
	for _, definition := range schema.Defs {
		everything = append(everything, definition.Properties)
	}
	for _, properties := range everything {
		for name, property := range properties {
			if property.Description == "" {
				t.Errorf("the schema does not explain %s", name)
			}
		}
	}
}
