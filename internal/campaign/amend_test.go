package campaign

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// begun returns the plan of a file, some trials of which are closed.
func begun(t *testing.T, text string, closed ...int) Begun {
	t.Helper()
	spec := parsed(t, text)
	return Begun{Spec: spec, Trials: spec.Plan(), Stop: spec.Stop,
		Closed: func(sequence int) bool { return slices.Contains(closed, sequence) }}
}

// drbdLAN is a cell of good; stopping is good with a stop rule.
const drbdLAN = "xen-drbd-c-lan-database"

var stopping = strings.Replace(good, "repetitions: 2", "stop: {metric: blackout_ms, relative_ci_percent: 10, min: 3, max: 12}", 1)

// TestRepeat: the additional trials come after all others in new blocks, with the seeds and
// directions that they would have had in a longer plan.
func TestRepeat(t *testing.T) {
	balanced := good + "directions: balanced\n"
	b := begun(t, balanced)
	amendment, said, err := b.Repeat(drbdLAN, 3)
	require.NoError(t, err)
	assert.Equal(t, "3 trials more: numbers 9 to 11, blocks 3 to 5", said)
	longer := map[string]Trial{}
	for _, trial := range parsed(t, strings.Replace(balanced, "repetitions: 2", "repetitions: 5", 1)).Plan() {
		longer[fmt.Sprint(trial.CellID, trial.Block)] = trial
	}
	require.Len(t, amendment.Trials, 3)
	for i, trial := range amendment.Trials {
		want := longer[fmt.Sprint(drbdLAN, 3+i)]
		want.Sequence = 9 + i
		assert.Equal(t, want, trial)
	}
	assert.Equal(t, begun(t, balanced).Trials, b.Trials, "the plan that there is stays")
	b.Trials = append(b.Trials, amendment.Trials...)
	b.Stop = &Stop{}
	amendment, said, err = b.Repeat(drbdLAN, 1)
	require.NoError(t, err)
	assert.Equal(t, "1 trial more: number 12, block 6, unless the stop rule ends the campaign before", said)
	assert.Equal(t, 6, amendment.Trials[0].Block, "each change has blocks of its own")
}

// TestAdd: added cells are shuffled within blocks of their own.
func TestAdd(t *testing.T) {
	b := begun(t, good)
	amendment, said, err := b.Add("cells", "include:\n- {storage: nfs, wan: transpacific}\n- {storage: iscsi, wan: lan, access: web-server}\n", 2)
	require.NoError(t, err)
	assert.Equal(t, "4 trials more: numbers 9 to 12, blocks 3 to 4", said)
	b.Trials = append(b.Trials, amendment.Trials...)
	seeds, blocks := map[uint64]bool{}, map[int][]string{}
	for i, trial := range b.Trials {
		assert.Equal(t, i+1, trial.Sequence)
		assert.Equal(t, trial.CellID, trial.Cell.ID())
		seeds[trial.Seed] = true
		blocks[trial.Block] = append(blocks[trial.Block], trial.CellID)
	}
	assert.Len(t, seeds, len(b.Trials))
	for _, block := range []int{3, 4} {
		assert.ElementsMatch(t, []string{"xen-nfs-transpacific-database", "xen-iscsi-lan-web-server"}, blocks[block])
	}
	_, _, err = b.Repeat("xen-nfs-transpacific-database", 1)
	assert.NoError(t, err, "what was added is a cell of the plan")
	_, _, err = b.Add("cells", "include: [{storage: nfs, wan: transpacific}]", 1)
	assert.ErrorContains(t, err, "repeats the cell xen-nfs-transpacific-database")
}

// TestAddSpellsLikeThePlan: a WAN profile that shapes like one of the plan's gets that one's
// spelling.
func TestAddSpellsLikeThePlan(t *testing.T) {
	_, err := begun(t, good).AddedCells("cells", "include: [{storage: iscsi, wan: 'rate=100mbit,rtt=60ms'}]")
	assert.ErrorContains(t, err, "repeats the cell xen-iscsi-rtt60.rate100mbit-database")
}

func TestAddInSequence(t *testing.T) {
	amendment, _, err := begun(t, good+"order: sequential\n").Add("cells", "include: [{storage: nfs, wan: lan}, {storage: nfs, wan: continental}]", 2)
	require.NoError(t, err)
	var order []string
	for _, trial := range amendment.Trials {
		order = append(order, fmt.Sprint(trial.Block, " ", trial.Cell.WAN))
	}
	assert.Equal(t, []string{"3 lan", "4 lan", "3 continental", "4 continental"}, order)
}

// TestSkip: of a cell only the open trials are skipped.
func TestSkip(t *testing.T) {
	b := begun(t, good)
	of := b.open(func(trial Trial) bool { return trial.CellID == drbdLAN })
	require.Len(t, of, 2)
	b = begun(t, good, of[0])
	amendment, said, err := b.Skip(0, drbdLAN)
	require.NoError(t, err)
	assert.Equal(t, Amendment{Skip: of[1:]}, amendment)
	assert.Equal(t, "skipped: 1 trial of cell "+drbdLAN, said)
	amendment, said, err = b.Skip(of[1], "")
	require.NoError(t, err)
	assert.Equal(t, Amendment{Skip: of[1:]}, amendment)
	assert.Equal(t, fmt.Sprintf("trial %d is skipped", of[1]), said)
	_, _, err = begun(t, good, of...).Skip(0, drbdLAN)
	assert.EqualError(t, err, "no trial of cell "+drbdLAN+" is left to skip")
}

func TestChangeStop(t *testing.T) {
	b := begun(t, stopping)
	amendment, said, err := b.ChangeStop(&Stop{Metric: "recovery_ms", RelativeCIPercent: 5, Max: 12})
	require.NoError(t, err)
	assert.Equal(t, "the campaign stops when recovery_ms is known to ± 5 %, after 5 to 12 blocks", said)
	assert.Equal(t, Amendment{Rule: &Rule{Stop: &Stop{Metric: "recovery_ms", RelativeCIPercent: 5, Min: 5, Max: 12}}}, amendment)
	amendment, said, err = b.ChangeStop(nil)
	require.NoError(t, err)
	assert.Equal(t, "the campaign stops when all its trials are done", said)
	assert.Equal(t, Amendment{Rule: &Rule{}}, amendment)
	// With a max below the plan's blocks, the trials beyond are skipped, except those that were
	// added.
	added, _, err := b.Repeat(drbdLAN, 1)
	require.NoError(t, err)
	b.Trials = append(b.Trials, added.Trials...)
	amendment, said, err = b.ChangeStop(&Stop{Metric: "recovery_ms", RelativeCIPercent: 5, Max: 10})
	require.NoError(t, err)
	assert.Contains(t, said, "after 5 to 10 blocks; 8 trials of the blocks beyond: skipped")
	for _, sequence := range amendment.Skip {
		assert.Contains(t, []int{11, 12}, b.Trials[sequence-1].Block)
	}
	b = begun(t, stopping, amendment.Skip...)
	_, _, err = b.ChangeStop(&Stop{Metric: "recovery_ms", RelativeCIPercent: 5, Max: 11})
	assert.EqualError(t, err, "stop.max: 11: the plan has 10 blocks")
}

// TestRefusedAmendments: all reasons why a change is impossible are reported at once, in one
// line.
func TestRefusedAmendments(t *testing.T) {
	skip := func(sequence int, cell string) func(Begun) (Amendment, string, error) {
		return func(b Begun) (Amendment, string, error) { return b.Skip(sequence, cell) }
	}
	repeat := func(cell string, times int) func(Begun) (Amendment, string, error) {
		return func(b Begun) (Amendment, string, error) { return b.Repeat(cell, times) }
	}
	stop := func(stop *Stop) func(Begun) (Amendment, string, error) {
		return func(b Begun) (Amendment, string, error) { return b.ChangeStop(stop) }
	}
	large := strings.Replace(good, "repetitions: 2", "repetitions: 24900", 1)
	for name, test := range map[string]struct {
		plan   string
		change func(Begun) (Amendment, string, error)
		want   []string
	}{
		"skip nothing":         {good, skip(0, ""), []string{"name what is to be skipped"}},
		"skip two things":      {good, skip(4, drbdLAN), []string{"name what is to be skipped"}},
		"skip an unknown one":  {good, skip(9, ""), []string{"there is no trial 9: the plan has 1 to 8"}},
		"skip below one":       {good, skip(-1, ""), []string{"there is no trial -1"}},
		"skip what is done":    {good, skip(3, ""), []string{"trial 3 is done already, or skipped"}},
		"skip an unknown cell": {good, skip(0, "xen-nfs"), []string{`the plan has no cell "xen-nfs": want xen-`, " or "}},
		"repeat nothing":       {good, repeat("", 0), []string{"name the cell to repeat, by its ID; 0 times: want 1 to 1000"}},
		"repeat what is not":   {good, repeat("x", -2), []string{`the plan has no cell "x"`, "; -2 times: want 1 to 1000"}},
		"repeat too often":     {good, repeat(drbdLAN, 1001), []string{"1001 times: want 1 to 1000"}},
		"repeat the sentinel's": {good + "sentinel: {every: 4, access: web-server}\n", repeat("xen-iscsi-lan-web-server", 1),
			[]string{"is the sentinel's only"}},
		"more than all":           {large, repeat(drbdLAN, 500), []string{"99600 trials and 500 more are more than 100000"}},
		"no rule where none is":   {good, stop(nil), []string{"there is no stop rule already"}},
		"a rule of another order": {good + "order: sequential\n", stop(&Stop{"io_lost_s", 5, 3, 3}), []string{"order is sequential"}},
		"a bad rule": {stopping, stop(&Stop{"speed", -1, 2, 40}), []string{
			`stop.metric: "speed" is not known`, "; stop.relative_ci_percent: -1: want more than 0", "; stop.min: 2: want 3 to", "; stop.max: 40: the plan has 12 blocks"}},
		"a rule that cannot stop": {stopping, stop(&Stop{"io_lost_s", 5, 3, 5}), []string{"stop.max: 5: an interval of the median wants"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := test.change(begun(t, test.plan, 1, 2, 3))
			require.Error(t, err)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "\n")
		})
	}
	_, _, err := begun(t, good).more(make([]Cell, 11), 1000, nil)
	assert.ErrorContains(t, err, "11 cells, 1000 times, are more than 10000 trials: add fewer at once")
}

const large = "access_specifications: [{name: large, outstanding: 64, verify: content, lines: [{size_bytes: 1048576, share_percent: 100, read_percent: 0, random_percent: 100}]}]\n"

// TestImpossibleCells: each cell has its own message, and all messages of a text come at once.
func TestImpossibleCells(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"empty":            {"", []string{"the file is empty"}},
		"no include":       {"{}", []string{"include: is missing"}},
		"no cells":         {"include: []", []string{"include: is empty"}},
		"another setting":  {"exclude: []", []string{"exclude: unknown setting (known: include)"}},
		"no factor":        {"include: [{}]", []string{"include[0]: is empty"}},
		"too few factors":  {"include: [{wan: lan}]", []string{"include[0].storage: is missing: the matrix has 2 levels of it"}},
		"unknown levels":   {"include: [{storage: tape, wan: lan}, {storage: nfs, wan: moon}]", []string{"cells:1:", `include[0].storage: "tape" is not known`, "include[1].wan"}},
		"an unknown load":  {"include: [{storage: nfs, wan: lan, access: mine}]", []string{`include[0].access: "mine" is neither well-known`}},
		"one that is":      {"include: [{storage: iscsi, wan: lan}]", []string{"include[0]: repeats the cell xen-iscsi-lan-database, of which `repeat` runs more"}},
		"one given twice":  {"include: [{storage: nfs, wan: lan}, {storage: nfs, wan: lan}]", []string{"include[1]: repeats the cell"}},
		"no such machine":  {"include: [{hypervisor: kvm, storage: nfs, wan: lan}]", []string{"include[0].hypervisor: kvm is none of this campaign's, xen"}},
		"what Xen has not": {"include: [{storage: mirror, wan: lan}, {storage: nfs, wan: lan, auto_converge: true}]", []string{"include[0].storage: mirror is not for xen", "include[1].auto_converge"}},
		"too little room":  {"include: [{storage: nfs, wan: lan, guest_memory_mib: 112, access: large}]", []string{"include[0].guest_memory_mib", "more than half of the guest's 112 MiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := begun(t, good+large)
			cells, err := b.AddedCells("cells", test.text)
			require.Error(t, err)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
			assert.Empty(t, cells)
		})
	}
}
