package strict

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Name string `yaml:"name"`
	Size int    `yaml:"size,omitempty"`
}

type both struct {
	inner `yaml:",inline"`
	Share float64 `yaml:"share"`
}

type sample struct {
	Text   string        `yaml:"text"`
	Number int           `yaml:"number"`
	Truth  bool          `yaml:"truth"`
	Wait   time.Duration `yaml:"wait"`
	Host   netip.Addr    `yaml:"host"`
	List   []int         `yaml:"list"`
	Inner  inner         `yaml:"inner"`
	Many   []inner       `yaml:"many"`
	Both   *both         `yaml:"both"`

	Names map[string]string `yaml:"names"`
}

func TestDecode(t *testing.T) {
	got := sample{Number: 7, Wait: time.Minute, List: []int{1}, Inner: inner{Size: 9}}
	d := Decode("x.yaml", []byte("text: a\ntruth: true\nwait: 1h30m\nhost: 192.0.2.1\nlist: [2, -3]\ninner: {name: b}\nmany:\n- name: c\n- {name: d, size: 4}\nboth: {share: 0.5, name: e}\nnames: {f: g, h-1: \"2\"}\n"), &got)
	want := sample{Text: "a", Number: 7, Truth: true, Wait: 90 * time.Minute, Host: netip.MustParseAddr("192.0.2.1"),
		List: []int{2, -3}, Inner: inner{"b", 9}, Many: []inner{{"c", 0}, {"d", 4}}, Both: &both{inner{"e", 0}, 0.5},
		Names: map[string]string{"f": "g", "h-1": "2"}}
	if err := d.Err(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for setting, want := range map[string]bool{"": true, "text": true, "number": false, "list[1]": true, "inner.size": false, "many[1].size": true, "both.name": true, "both.size": false,
		"names": true, "names.f": true, "names.g": false} {
		if d.Given(setting) != want || !d.Clean(setting) {
			t.Errorf("%q: given %v, clean %v, want %v, true", setting, d.Given(setting), d.Clean(setting), want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"wait: 30":                     `1:7: wait: "30" has no unit: write it as 30s, 500ms or 1h30m`,
		"wait: 0":                      `1:7: wait: "0" has no unit: write it as 30s, 500ms or 1h30m`,
		"wait: 1.5":                    `1:7: wait: "1.5" has no unit: write it as 30s, 500ms or 1h30m`,
		"wait: -5s":                    `1:7: wait: "-5s" is negative`,
		"wait: soon":                   `1:7: wait: "soon" is not a duration such as 30s, 500ms or 1h30m`,
		"wait: 99999999h":              `1:7: wait: "99999999h" is not a duration such as 30s, 500ms or 1h30m`,
		"wait: [30s]":                  `1:7: wait: want a duration such as 30s, 500ms or 1h30m, not a list`,
		"wait: {a: 30s}":               `1:7: wait: want a duration such as 30s, 500ms or 1h30m, not a mapping`,
		"wait: true":                   `1:7: wait: want a duration such as 30s, 500ms or 1h30m, not true or false: write "true" in quotes`,
		"wait:":                        `1:6: wait: has no value`,
		"number: 0x10":                 `1:9: number: "0x10" is not a whole number`,
		"number: 010":                  `1:9: number: "010" is not a whole number`,
		"number: 1_000":                `1:9: number: "1_000" is not a whole number`,
		"number: 1.5":                  `1:9: number: "1.5" is not a whole number`,
		"number: 99999999999999999999": `1:9: number: "99999999999999999999" is not a whole number`,
		`number: "1"`:                  `1:9: number: "1" is not a whole number`,
		"truth: yes please":            `1:8: truth: "yes please" is not true or false`,
		"list: [1, a]":                 `1:11: list[1]: "a" is not a whole number`,
		"many: [{name: 1}]":            `1:15: many[0].name: want text, not a number: write "1" in quotes`,
		"many: [{nam: a}]":             `1:9: many[0].nam: unknown setting (known: name, size)`,
		"text: a\ntext: b":             `2:1: text: is given twice`,
		"text: 2020-01-01":             `1:7: text: want text, not a date: write "2020-01-01" in quotes`,
		"text: a\n<<: {text: b}":       `2:1: "<<": unknown setting (known: text, number, truth, wait, host, list, inner, many, both, names)`,
		"both: {weight: 1}":            `1:8: both.weight: unknown setting (known: name, size, share)`,
		"both: [share]":                `1:7: both: want a mapping of settings`,
		"names: [a]":                   `1:8: names: want a mapping of names`,
		"names: {a: 1}":                `1:12: names.a: want text, not a number: write "1" in quotes`,
		"names: {a: b, a: c}":          `1:15: names.a: is given twice`,
		"names: {a.b: c}":              `1:9: names."a.b": is no name: want 1 to 64 of a-z, A-Z, 0-9, _ and -`,
		"both:":                        `1:6: both: has no value`,
		"both: {share: [1]}":           `1:15: both.share: want a number, not a list`,
		"both: {share: .inf}":          `1:15: both.share: ".inf" is not a number such as 2 or 0.5`,
		"both: {share: 1e3}":           `1:15: both.share: "1e3" is not a number such as 2 or 0.5`,
		"both: {share: 5%}":            `1:15: both.share: "5%" is not a number such as 2 or 0.5`,
		`both: {share: "5"}`:           `1:15: both.share: "5" is not a number such as 2 or 0.5`,
		"both: {name: a, name: b}":     `1:17: both.name: is given twice`,
	} {
		err := Decode("x.yaml", []byte(text), new(sample)).Err()
		var invalid *Error
		if !errors.As(err, &invalid) || err.Error() != "x.yaml:"+want {
			t.Errorf("%q:\ngot  %v\nwant x.yaml:%s", text, err, want)
		}
	}
}

func TestReports(t *testing.T) {
	d := Decode("x.yaml", []byte("text: a\ninner:\n  size: 3\nmany:\n- name: c\nnumber: x\n"), new(sample))
	d.Check("wait", false, "is not given, and so not checked")
	if !d.Need("text") || d.Need("inner.name") || d.Need("number") {
		t.Error("a setting is needed wrongly")
	}
	d.Check("inner.size", false, "%d is odd", 3)
	d.Report("many[0].size", "is for nobody")
	d.Report("many[5].size", "is nowhere")
	d.Report("wait", "is too short")
	for setting, want := range map[string]bool{"text": true, "inner": false, "inner.size": false, "many": false, "many[0]": false, "man": true, "number": false} {
		if d.Clean(setting) != want {
			t.Errorf("%s: clean is %v", setting, !want)
		}
	}
	want := `x.yaml:1:1: wait: is too short
x.yaml:3:3: inner.name: is missing
x.yaml:3:9: inner.size: 3 is odd
x.yaml:5:1: many[5].size: is nowhere
x.yaml:5:3: many[0].size: is for nobody
x.yaml:6:9: number: "x" is not a whole number`
	if got := d.Err(); got == nil || strings.TrimSpace(got.Error()) != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
}
