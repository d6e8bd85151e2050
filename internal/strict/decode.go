package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decode fills the struct that target points to from the only document in data.
func (d *Document) decode(data []byte, target any) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root, more yaml.Node
	if err := decoder.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			d.report(position{1, 1}, "", "the file is empty")
			return
		}
		d.syntax(err)
		return
	}
	switch err := decoder.Decode(&more); {
	case err == nil:
		d.report(nodePosition(&more), "", "the file holds more than one document")
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	d.value(root.Content[0], "", reflect.ValueOf(target).Elem())
}

var syntaxLine = regexp.MustCompile(`^line (\d+): `)

// syntax reports an error of the YAML parser, which gives the line only in its text and no
// column.
func (d *Document) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	at := position{1, 1}
	if match := syntaxLine.FindStringSubmatch(text); match != nil {
		at.line, _ = strconv.Atoi(match[1])
		text = text[len(match[0]):]
	}
	d.report(at, "", "not YAML: %s", text)
}

func nodePosition(node *yaml.Node) position { return position{node.Line, node.Column} }

func (d *Document) value(node *yaml.Node, path string, target reflect.Value) {
	at := nodePosition(node)
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		d.report(at, path, "anchors and aliases are not understood here")
	case node.Tag == "!!null":
		d.report(at, path, "has no value")
	case target.Type() == reflect.TypeFor[time.Duration]():
		d.duration(node, path, target)
	case target.Type() == reflect.TypeFor[netip.Addr]():
		decodeText(d, node, path, target, netip.ParseAddr, "an IP address")
	case target.Type() == reflect.TypeFor[netip.Prefix]():
		decodeText(d, node, path, target, netip.ParsePrefix, "an IP address with the length of its network, such as 198.18.0.9/24")
	case target.Kind() == reflect.Pointer:
		target.Set(reflect.New(target.Type().Elem()))
		d.value(node, path, target.Elem())
	case target.Kind() == reflect.Struct:
		d.mapping(node, path, target)
	case target.Kind() == reflect.Slice:
		d.list(node, path, target)
	case target.Kind() == reflect.Map:
		d.named(node, path, target)
	case target.Kind() == reflect.String:
		if d.scalar(node, path, "text", "!!str") {
			d.at[path] = at
			target.SetString(node.Value)
		}
	case target.Kind() == reflect.Bool:
		decodeScalar(d, node, path, "!!bool", "true or false", target.SetBool)
	case target.Kind() == reflect.Int:
		decodeScalar(d, node, path, "!!int", "a whole number", target.SetInt)
	case target.Kind() == reflect.Float64:
		d.number(node, path, target)
	default:
		panic("no decoding for " + target.Type().String())
	}
}

// scalar reports whether a node is a value of the wanted type, and records a problem when it is
// not.
func (d *Document) scalar(node *yaml.Node, path, want, tag string) bool {
	at := nodePosition(node)
	switch {
	case node.Kind == yaml.MappingNode:
		d.report(at, path, "want %s, not a mapping", want)
	case node.Kind == yaml.SequenceNode:
		d.report(at, path, "want %s, not a list", want)
	case node.Tag != tag && tag == "!!str":
		d.report(at, path, "want %s, not %s: write %q in quotes", want, kindOf(node.Tag), node.Value)
	case node.Tag != tag:
		d.report(at, path, "%q is not %s", node.Value, want)
	default:
		return true
	}
	return false
}

// decodeScalar decodes a value of the wanted type as YAML does, except that a whole number must
// be written in plain digits.
func decodeScalar[T any](d *Document, node *yaml.Node, path, tag, want string, set func(T)) {
	if !d.scalar(node, path, want, tag) {
		return
	}
	var value T
	if err := node.Decode(&value); err != nil || tag == "!!int" && !decimal.MatchString(node.Value) {
		d.report(nodePosition(node), path, "%q is not %s", node.Value, want)
		return
	}
	d.at[path] = nodePosition(node)
	set(value)
}

var (
	decimal  = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)$`)
	fraction = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?$`)
)

// number decodes a number in plain digits, with or without a fraction: 2, 0.5.
func (d *Document) number(node *yaml.Node, path string, target reflect.Value) {
	if node.Kind != yaml.ScalarNode {
		d.scalar(node, path, "a number", "!!float")
		return
	}
	value, err := strconv.ParseFloat(node.Value, 64)
	if node.Tag == "!!str" || !fraction.MatchString(node.Value) || err != nil {
		d.report(nodePosition(node), path, "%q is not a number such as 2 or 0.5", node.Value)
		return
	}
	d.at[path] = nodePosition(node)
	target.SetFloat(value)
}

func kindOf(tag string) string {
	switch tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	}
	return tag
}

// duration decodes a length of time with its unit.
func (d *Document) duration(node *yaml.Node, path string, target reflect.Value) {
	at, want := nodePosition(node), "a duration such as 30s, 500ms or 1h30m"
	if node.Kind == yaml.ScalarNode && (node.Tag == "!!int" || node.Tag == "!!float") {
		d.report(at, path, "%q has no unit: write it as 30s, 500ms or 1h30m", node.Value)
		return
	}
	if !d.scalar(node, path, want, "!!str") {
		return
	}
	value, err := time.ParseDuration(node.Value)
	switch {
	case err != nil:
		d.report(at, path, "%q is not %s", node.Value, want)
	case value < 0:
		d.report(at, path, "%q is negative", node.Value)
	default:
		d.at[path] = at
		target.SetInt(int64(value))
	}
}

// decodeText decodes a value that has a text format of its own. YAML would take some addresses
// for numbers, so any plain value is accepted.
func decodeText[T any](d *Document, node *yaml.Node, path string, target reflect.Value, parse func(string) (T, error), want string) {
	at := nodePosition(node)
	if node.Kind != yaml.ScalarNode {
		d.scalar(node, path, want, "")
		return
	}
	value, err := parse(node.Value)
	if err != nil {
		d.report(at, path, "%q is not %s", node.Value, want)
		return
	}
	d.at[path] = at
	target.Set(reflect.ValueOf(value))
}

func (d *Document) list(node *yaml.Node, path string, target reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		d.report(nodePosition(node), path, "want a list")
		return
	}
	d.at[path] = nodePosition(node)
	target.Set(reflect.MakeSlice(target.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		d.value(item, fmt.Sprintf("%s[%d]", path, i), target.Index(i))
	}
}

func (d *Document) mapping(node *yaml.Node, path string, target reflect.Value) {
	if node.Kind != yaml.MappingNode {
		d.report(nodePosition(node), path, "want a mapping of settings")
		return
	}
	d.at[path] = nodePosition(node)
	fields, known := settings(target)
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field, ok := fields[key.Value]
		switch {
		case !ok:
			d.report(nodePosition(key), join(path, plain(key.Value)), "unknown setting (known: %s)", strings.Join(known, ", "))
		case seen[key.Value]:
			d.report(nodePosition(key), join(path, key.Value), "is given twice")
		default:
			d.value(value, join(path, key.Value), field)
		}
		seen[key.Value] = true
	}
}

// named decodes a mapping whose keys are names chosen by the user.
func (d *Document) named(node *yaml.Node, path string, target reflect.Value) {
	if node.Kind != yaml.MappingNode {
		d.report(nodePosition(node), path, "want a mapping of names")
		return
	}
	d.at[path] = nodePosition(node)
	target.Set(reflect.MakeMap(target.Type()))
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], reflect.New(target.Type().Elem()).Elem()
		name := reflect.ValueOf(key.Value).Convert(target.Type().Key())
		switch at := join(path, plain(key.Value)); {
		case !plainKey.MatchString(key.Value):
			d.report(nodePosition(key), at, "is no name: want 1 to 64 of a-z, A-Z, 0-9, _ and -")
		case target.MapIndex(name).IsValid():
			d.report(nodePosition(key), at, "is given twice")
		default:
			d.value(node.Content[i+1], at, value)
			target.SetMapIndex(name, value)
		}
	}
}

// settings returns the fields of a struct by their YAML names, and those names in the order of
// the struct. The settings of an inlined struct belong to the outer one, and a field with the
// name - is left out.
func settings(target reflect.Value) (fields map[string]reflect.Value, names []string) {
	fields = map[string]reflect.Value{}
	for i := range target.NumField() {
		name, option, _ := strings.Cut(target.Type().Field(i).Tag.Get("yaml"), ",")
		if option == "inline" {
			inlined, more := settings(target.Field(i))
			maps.Copy(fields, inlined)
			names = append(names, more...)
			continue
		}
		if name == "-" {
			continue
		}
		fields[name] = target.Field(i)
		names = append(names, name)
	}
	return fields, names
}

var plainKey = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// plain returns a key in a form that fits into a path and a line.
func plain(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	return strconv.Quote(key)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
