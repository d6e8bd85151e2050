package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fills are the placeholders of documented commands, and what replaces them here, in this order.
var fills = []struct{ pattern, with string }{
	{`/etc/heliotrope/`, "etc/"},
	{` /srv/`, " srv/"},
	{`temporal\.example:7233`, "$$TEMPORAL_ADDRESS"},
	{`serve --address \S+`, "serve --address 127.0.0.1:0 --ui-address 127.0.0.1:0 --state-dir embedded"},
	{`codec-server$`, "codec-server --listen 127.0.0.1:0"},
	{`cancel (NAME|quick)\b`, "cancel night"}, // which runs
	{`pause (NAME|quick)\b`, "pause day"},
	{`import FILE\b`, "import mail.icf"},
	{`compare A B\b`, "compare data data/2"},
	{`\bINVENTORY\b`, "inventories/lab-1.yaml"},
	{`\bFILE\b`, "examples/quick.yaml"},
	{`\bNAME\b`, "quick"},
	{`\bDIR\b`, "data/campaign=quick"},
	{`\bTEXT\b`, `"a reason"`},
}

// way is how to run commands that need something before or after them, stay in the foreground, or end with another exit code
// than 0. The first one whose pattern matches a line counts.
type way struct {
	pattern string
	before  string // a line to run before it, in the same folder
	first   string // what the shell is to do before it, in the same line
	leased  bool   // whether the inventory's hosts are leased to another campaign meanwhile
	ready   string // what it says when it is ready: it then stays in the foreground, until the next such command or heliotrope stop
	code    int    // its exit code, or ofThisMachine
	says    string // a part of what it says
	after   string // a line to run after it
}

// ofThisMachine is exit code 0 or 1: the command fails where this machine is no hypervisor.
const ofThisMachine = -1

// planned is a line that waits until a campaign has planned its trials. Before that it cannot be steered.
func planned(campaign string) string {
	return "until heliotrope status " + campaign + " | grep -q 'of [1-9][0-9]* trials'; do :; done"
}

var ways = []way{
	{pattern: `cancel night`, before: "heliotrope run night.yaml --data data/night --detach"},
	{pattern: `pause day`, before: "heliotrope run day.yaml --data data/day --detach; " + planned("day"), after: "heliotrope cancel day --wait"},
	{pattern: `pause steered --why "the WAN`, before: planned("steered")},
	{pattern: `heliotrope serve --address`, first: "unset TEMPORAL_ADDRESS; ", ready: "the controller is ready"},
	{pattern: `heliotrope serve( +#.*)?$`, before: "heliotrope stop", ready: "the controller is ready"},
	{pattern: `codec-server`, first: "export HELIOTROPE_CODEC_KEYS=etc/codec.keys; ", ready: "payloads are decrypted"},
	{pattern: `judge data --clock-uncertainty-ms 5`, code: exitChanged, says: "3 verdicts changed"}, // the model's clocks are worse
	{pattern: `judge .* --limits strict.yaml`, code: exitChanged},
	{pattern: `repeat .* --times 0`, code: exitBadInput, says: "times: 0: want 1 to 1000"},
	{pattern: `pause steered --lane`, after: `heliotrope pause steered --why "nobody looks at it any more"`},
	{pattern: `lab (status|wan)`, code: exitFailure, says: "heliotrope lab up"},
	{pattern: `doctor .*--json`, leased: true, code: exitFailure, says: "it is leased to campaign night of"},
	{pattern: `heliotrope doctor`, leased: true, code: exitFailure, says: "it is leased to campaign night of"}, // so that they send each other no packets
	{pattern: `heliotrope sweep`, code: ofThisMachine, says: "store"},
}

// elsewhere are the commands that this test does not run, the reason, and what runs them instead: a target of make, a tool or a test,
// or nothing does.
var elsewhere = []struct{ pattern, why, where string }{
	{`^make `, "it builds, tests or measures for minutes to hours; TestDocumentedCommands checks that the target exists", ".ci/run"},
	{`^tools/`, "it needs a testbed, or a machine that does nothing else; TestDocumentedCommands checks that the tool exists", "make test-lab"},
	{`heliotrope lab up($| --(hypervisor|cpus|ipv6))`, "it starts an emulated testbed", "make test-lab"},
	{`heliotrope guest build`, "it downloads Debian's packages", "TestBuildGuest"},
	{`run hosts\.yaml`, "it needs hosts of the reader's own; the lines before it show what it checks first", ""},
	{`^(ip|ssh|scp|ssh-keygen -lf) `, "it is for hosts of the reader's own", ""},
	{`run examples/controls\.yaml`, "its controls need real clocks and hosts", "tools/controls-check"},
	{`sweep [^#]* --yes`, "it would change this machine, which plays the hosts", "TestSweepRemoves"},
	{`^fio `, "its arguments are the reader's own", "TestThreeViewsOfOneJob"},
	{`^(sudo )?(systemctl|apt|loginctl) `, "it changes this machine", ""},
	{`^sudo -u heliotrope |/usr/share/doc/heliotrope/`, "it needs the package installed on this machine", ""},
}

// comment is the comment at the end of a line.
var comment = regexp.MustCompile(`\s#.*$`)

// TestDocumentedCommandsRun runs the commands of README.md and docs/ (not those of deploy/, which change the machine) with a shell, in the order of the documents. Each document
// has a folder of its own with everything that its commands name, and all share one Temporal server. A command that the text
// mentions is run when it is complete with its placeholders filled, for other mentions only name a command, and when it was not run
// before. TestQueried runs the queries in SQL.
func TestDocumentedCommandsRun(t *testing.T) {
	w := newWorld(t)
	files, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	used, ran, seen := map[string]bool{}, 0, map[string]bool{}
	for _, file := range append([]string{"../../README.md"}, files...) {
		folder := ""
		for _, command := range linesOf(t, file) {
			if row := elsewhereOf(command.line); row != "" {
				used[row] = true
				continue
			}
			line := filled(command.line, used)
			bare := strings.TrimPrefix(strings.TrimSpace(comment.ReplaceAllString(line, "")), "bin/")
			if !command.whole && (seen[bare] || !isWhole(command, line)) {
				continue
			}
			seen[bare] = true
			ran++
			if folder == "" {
				folder = w.folder()
			}
			w.run(folder, command.where, line, used)
		}
	}
	for _, row := range fills {
		assert.True(t, used[row.pattern], "no command has %s", row.pattern)
	}
	for _, row := range ways {
		assert.True(t, used[row.pattern], "no command is %s", row.pattern)
	}
	for _, row := range elsewhere {
		assert.True(t, used[row.pattern], "no command is %s", row.pattern)
		assert.NotEmpty(t, row.why)
		if row.where != "" {
			assertThereIs(t, row.where)
		}
	}
	assert.Greater(t, ran, 60, "commands that were run")
}

// assertThereIs fails when there is no target of make, tool or test of that name.
func assertThereIs(t *testing.T, name string) {
	t.Helper()
	root := filepath.Join("..", "..")
	if target, is := strings.CutPrefix(name, "make "); is {
		text, err := os.ReadFile(filepath.Join(root, "Makefile"))
		require.NoError(t, err)
		assert.Regexp(t, `(?m)^`+target+`:`, string(text))
		return
	}
	if strings.HasPrefix(name, "Test") {
		assert.True(t, testsIn(t, root)[name], "there is no test %s", name)
		return
	}
	assert.FileExists(t, filepath.Join(root, name))
}

// run runs one line, in the way that there is for it.
func (w *world) run(folder, where, line string, used map[string]bool) {
	w.t.Helper()
	began := time.Now()
	defer func() { w.t.Logf("%s: %s: %s", where, line, time.Since(began).Round(time.Millisecond)) }()
	at := slices.IndexFunc(ways, func(one way) bool { return regexp.MustCompile(one.pattern).MatchString(line) })
	if at < 0 {
		w.shell(folder, 0, line)
		return
	}
	one := ways[at]
	used[one.pattern] = true
	if one.before != "" {
		w.shell(folder, 0, one.before)
	}
	if one.ready != "" {
		w.start(folder, one.first+"exec "+line, one.ready)
		return
	}
	if one.leased {
		defer w.lease(folder)()
	}
	assert.Contains(w.t, w.shell(folder, one.code, one.first+line), one.says, where)
	if one.after != "" {
		w.shell(folder, 0, one.after)
	}
}

// elsewhereOf is the pattern of the row in elsewhere for a line; "" when this test runs the line.
func elsewhereOf(line string) string {
	for _, row := range elsewhere {
		if regexp.MustCompile(row.pattern).MatchString(line) {
			return row.pattern
		}
	}
	return ""
}

// filled is a line with its placeholders replaced.
func filled(line string, used map[string]bool) string {
	for _, fill := range fills {
		if pattern := regexp.MustCompile(fill.pattern); pattern.MatchString(line) {
			used[fill.pattern] = true
			line = pattern.ReplaceAllString(line, fill.with)
		}
	}
	return line
}

// isWhole says whether a mention, filled as line, is a complete command: one with all arguments and all values of flags.
func isWhole(mention documented, line string) bool {
	if !mention.heliotropes() || strings.ContainsAny(line, "[]…") {
		return false
	}
	whole := split(mention.where, line, true)
	return len(whole) == 1 && understood(whole[0]) == nil
}
