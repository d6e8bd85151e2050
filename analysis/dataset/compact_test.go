package dataset_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
)

// attempt writes all of an attempt.
func attempt(t *testing.T, folder string, sequence, number int) (dataset.Trial, []dataset.Phase) {
	t.Helper()
	row, phases := someTrial(sequence, number)
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, Provenance: provenance(),
		IO: dataset.Rows(someIO(100 * sequence)), Counters: dataset.Rows(someCounters(20)), Events: dataset.Rows(someEvents(sequence)),
		Heartbeats: dataset.Rows(someHeartbeats(30)), Clocks: dataset.Rows(someClocks(4)), Domains: dataset.Rows(someDomains(5))})
	if err != nil {
		t.Fatal(err)
	}
	row.SetFiles(written)
	note(t, folder, row, phases)
	return row, phases
}

func note(t *testing.T, folder string, row dataset.Trial, phases []dataset.Phase) {
	t.Helper()
	noteAll(t, folder, dataset.Attempt{Trial: row, Phases: phases})
}

func noteAll(t *testing.T, folder string, attempt dataset.Attempt) {
	t.Helper()
	if err := dataset.WriteAttempt(folder, attempt); err != nil {
		t.Fatal(err)
	}
}

// compact compacts a campaign and expects problems with these files only.
func compact(t *testing.T, folder string, problems ...string) dataset.Compacted {
	t.Helper()
	compacted, err := dataset.CompactCampaign(folder, provenance())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, compacted.Problems, problems...)
	return compacted
}

func expect(t *testing.T, problems []dataset.Problem, paths ...string) {
	t.Helper()
	got := []string{}
	for _, problem := range problems {
		got = append(got, problem.Path)
	}
	slices.Sort(got)
	slices.Sort(paths)
	if !slices.Equal(got, paths) {
		t.Errorf("problems are %q, want some with %q", problems, paths)
	}
}

func check(t *testing.T, folder string, paths ...string) {
	t.Helper()
	problems, err := dataset.Check(folder)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, problems, paths...)
}

// rows reads the campaign's tables.
func rows(t *testing.T, folder string) ([]dataset.Trial, []dataset.Phase) {
	t.Helper()
	trials, err := dataset.ReadAttempts(folder)
	if err != nil {
		t.Fatal(err)
	}
	phases, err := dataset.ReadPhases(folder)
	if err != nil {
		t.Fatal(err)
	}
	return trials, phases
}

func keys(trials []dataset.Trial, counted bool) string {
	var keys []string
	for _, row := range trials {
		if row.Counted || !counted {
			keys = append(keys, row.Key)
		}
	}
	return strings.Join(keys, " ")
}

func TestCampaign(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	compact(t, folder) // nothing yet: valid files without rows
	check(t, folder)

	wantTrials, wantPhases := []dataset.Trial{}, []dataset.Phase{}
	for _, a := range [][2]int{{1, 1}, {2, 1}, {2, 2}, {3, 1}} {
		row, phases := attempt(t, folder, a[0], a[1])
		if row.Counted = a != [2]int{2, 1}; !row.Counted {
			row.Verdict = "invalid"
			note(t, folder, row, phases)
		}
		wantTrials, wantPhases = append(wantTrials, row), append(wantPhases, phases...)
		if a[0] != 2 { // the two attempts of trial 2 come at the same time
			compact(t, folder)
		}
	}
	check(t, folder)
	trials, phases := rows(t, folder)
	if !reflect.DeepEqual(trials, wantTrials) {
		t.Errorf("trials are\n%+v\nwant\n%+v", trials, wantTrials)
	}
	if !reflect.DeepEqual(phases, wantPhases) {
		t.Errorf("phases are\n%+v\nwant\n%+v", phases, wantPhases)
	}
	if got := keys(trials, true); got != "0001.1 0002.2 0003.1" {
		t.Errorf("counted are %s", got)
	}
	manifest, err := dataset.ReadManifest(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Files) != 9+7*4 || manifest.TestbedKind != "simulated" || !maps.Equal(manifest.Provenance, provenance()) {
		t.Errorf("manifest is %+v", manifest)
	}
	if left := list(t, filepath.Join(folder, "segments")); len(left) > 0 {
		t.Errorf("segments left: %q", left)
	}
}

// Noting an attempt again replaces its first version, whether that was compacted or not.
func TestAttemptIsReplaced(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	row, phases := attempt(t, folder, 1, 1)
	for i, compactedBefore := range []bool{false, true} {
		if compactedBefore {
			compact(t, folder)
		}
		row.Reason = strings.Repeat("again ", i+1)
		note(t, folder, row, phases[:1+i])
		compact(t, folder)
		trials, read := rows(t, folder)
		if len(trials) != 1 || trials[0].Reason != row.Reason || len(read) != 1+i {
			t.Errorf("trials are %+v, phases are %+v", trials, read)
		}
	}
	// It is noted again without phases, and its files are written again.
	attempt(t, folder, 1, 1)
	note(t, folder, row, nil)
	compact(t, folder)
	if _, read := rows(t, folder); len(read) != 0 {
		t.Errorf("phases are %+v", read)
	}
	check(t, folder)
}

// Compaction is interrupted after each of its steps and repeated: every state that a crash
// can leave is made of old and new files.
func TestCompactCampaignAfterACrash(t *testing.T) {
	data := t.TempDir()
	folder := dataset.CampaignFolder(data, "test")
	attempt(t, folder, 1, 1)
	compact(t, folder)
	attempt(t, folder, 1, 2)
	attempt(t, folder, 2, 1)
	before := tree(t, folder)
	compact(t, folder)
	after := tree(t, folder)

	steps := []string{"attempts.parquet", "trials.parquet", "phases.parquet", "witnesses.parquet", "certificates.parquet", "traffic.parquet", "ledger.parquet",
		"teardowns.parquet", "campaign_events.parquet",
		"manifest.json"}
	var segments []string
	for name := range before {
		if strings.HasPrefix(name, "segments/") {
			segments = append(segments, name)
		}
	}
	if len(segments) != 2*6 {
		t.Fatalf("segments are %q", segments)
	}
	for done := 0; done <= len(steps); done++ {
		for deleted := 0; deleted <= len(segments); deleted++ {
			if deleted > 0 && done < len(steps) {
				continue
			}
			for _, torn := range []bool{false, true} {
				state := maps.Clone(before)
				for _, name := range steps[:done] {
					state[name] = after[name]
				}
				for _, name := range segments[:deleted] {
					delete(state, name)
				}
				if torn && done < len(steps) {
					state[steps[done]+".tmp"] = after[steps[done]][:10]
				}
				again := dataset.CampaignFolder(t.TempDir(), "test")
				plant(t, again, state)
				compact(t, again)
				if got := tree(t, again); !maps.EqualFunc(got, after, slices.Equal) {
					t.Errorf("%d steps, %d segments deleted, torn %v: the files differ: %q, want %q", done, deleted, torn,
						slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(after)))
				}
				check(t, again)
			}
		}
	}
}

// A crash between an attempt's two segments leaves only its phases: they wait.
func TestPhasesWithoutTheirAttempt(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	row, phases := attempt(t, folder, 1, 1)
	name := filepath.Join(folder, "segments", "trial-0001.1.arrows")
	content := load(t, name)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	compact(t, folder)
	if trials, read := rows(t, folder); len(trials) != 0 || len(read) != 0 {
		t.Errorf("trials are %+v, phases are %+v", trials, read)
	}
	var waiting []string
	for _, table := range []string{"phases", "witnesses", "certificates", "traffic", "ledger"} {
		waiting = append(waiting, "segments/"+table+"-0001.1.arrows")
	}
	for _, table := range []string{"io", "counters", "events", "heartbeats", "clocks", "domains", "histograms"} {
		waiting = append(waiting, row.Folder+"/"+table+".parquet")
	}
	check(t, folder, waiting...)
	store(t, name, content)
	compact(t, folder)
	if trials, read := rows(t, folder); len(trials) != 1 || len(read) != len(phases) {
		t.Errorf("trials are %+v, phases are %+v", trials, read)
	}
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	for _, damagedFile := range []string{"segments/trial-0002.1.arrows", "segments/phases-0002.1.arrows",
		"attempts.parquet", "phases.parquet", "manifest.json", "storage=drbd/rtt_ms=40/attempt=0002.1/io.parquet",
		"segments/ledger-0002.1.arrows", "witnesses.parquet", "storage=drbd/rtt_ms=40/attempt=0002.1/domains.parquet"} {
		for _, damage := range []string{"cut", "emptied"} {
			t.Run(damagedFile+" "+damage, func(t *testing.T) {
				folder := dataset.CampaignFolder(t.TempDir(), "test")
				attempt(t, folder, 1, 1)
				compact(t, folder)
				attempt(t, folder, 2, 1)
				name := filepath.Join(folder, filepath.FromSlash(damagedFile))
				content := load(t, name)[:len(load(t, name))*2/3]
				if damage == "emptied" {
					content = nil
				}
				store(t, name, content)
				compacted := compact(t, folder, damagedFile+".damaged")
				if kept := load(t, name+".damaged"); !slices.Equal(kept, content) {
					t.Error("the damaged file is not kept as it was")
				}
				want := 2
				if damagedFile == "attempts.parquet" || strings.HasPrefix(damagedFile, "segments/trial") {
					want = 1
				}
				if trials, _ := rows(t, folder); len(trials) != want || compacted.Trials != want {
					t.Errorf("%d trials are left, want %d", len(trials), want)
				}
				problems, err := dataset.Check(folder)
				if err != nil || !slices.ContainsFunc(problems, func(p dataset.Problem) bool { return p.Path == damagedFile+".damaged" }) {
					t.Errorf("check says %v, %v", problems, err)
				}
			})
		}
	}
}

func TestCompactFindsWhatRowsAndFilesDisagreeOn(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	row, phases := attempt(t, folder, 1, 1)
	row.IORows = ptr(*row.IORows + 1)
	note(t, folder, row, phases)
	missing, _ := attempt(t, folder, 2, 1)
	if err := os.Remove(filepath.Join(folder, missing.Folder, "events.parquet")); err != nil {
		t.Fatal(err)
	}
	compact(t, folder, row.Folder+"/io.parquet", missing.Folder+"/events.parquet")
	check(t, folder, row.Folder+"/io.parquet", missing.Folder+"/events.parquet")
}

func TestKindsAreNeverMixed(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	row, phases := someTrial(1, 1)
	row.TestbedKind, row.Folder = "emulated", ""
	note(t, folder, row, phases)
	if _, err := dataset.CompactCampaign(folder, provenance()); err == nil || !strings.Contains(err.Error(), "emulated") {
		t.Errorf("an emulated trial gets into a simulated campaign: %v", err)
	}
}

func TestWriteAttemptRefuses(t *testing.T) {
	row, phases := someTrial(1, 1)
	for _, key := range []string{"", "../x", "0001.2"} { // the last is not the phases'
		bad := row
		bad.Key = key
		if err := dataset.WriteAttempt(t.TempDir(), dataset.Attempt{Trial: bad, Phases: phases}); err == nil {
			t.Errorf("key %q is accepted", key)
		}
	}
	for name, bad := range map[string]dataset.Attempt{
		"witness": {Trial: row, Witnesses: []dataset.Witness{{Trial: "0002.1"}}}, "certificate": {Trial: row, Certificates: []dataset.Certificate{{}}},
		"traffic": {Trial: row, Traffic: []dataset.Traffic{{}}}, "ledger": {Trial: row, Ledger: []dataset.Ledger{{Trial: "0001.2"}}},
	} {
		if err := dataset.WriteAttempt(t.TempDir(), bad); err == nil {
			t.Errorf("another attempt's row of table %s is accepted", name)
		}
	}
}

func TestCheck(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	check(t, folder, "manifest.json")
	row, _ := attempt(t, folder, 1, 1)
	compact(t, folder)
	whole := tree(t, folder)
	check(t, folder)
	for name := range whole {
		if strings.HasSuffix(name, ".parquet") {
			flipped := slices.Clone(whole[name])
			flipped[len(flipped)/2] ^= 1
			store(t, filepath.Join(folder, name), flipped)
			problems, err := dataset.Check(folder)
			if err != nil || len(problems) == 0 || problems[0].Path != name {
				t.Errorf("%s is changed: %v, %v", name, problems, err)
			}
			store(t, filepath.Join(folder, name), whole[name])
		}
	}
	// A file of another trial in the place of ours is complete, but wrong.
	store(t, filepath.Join(folder, row.Folder, "events.parquet"), whole[row.Folder+"/counters.parquet"])
	problems, err := dataset.Check(folder)
	if err != nil || len(problems) < 3 {
		t.Errorf("another table's file: %v, %v", problems, err)
	}
	store(t, filepath.Join(folder, row.Folder, "events.parquet"), whole[row.Folder+"/events.parquet"])
	store(t, filepath.Join(folder, "more.parquet"), nil)
	store(t, filepath.Join(folder, row.Folder, "io.parquet.tmp"), nil)
	check(t, folder, "more.parquet", row.Folder+"/io.parquet.tmp")
	store(t, filepath.Join(folder, "manifest.json"), []byte("{"))
	check(t, folder, "manifest.json")
}

// tree is all files of a folder.
func tree(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(folder, func(path string, found fs.DirEntry, err error) error {
		if err != nil || found.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		files[name] = load(t, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func plant(t *testing.T, folder string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		store(t, filepath.Join(folder, name), content)
	}
}
