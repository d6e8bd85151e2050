package dataset_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"heliotrope/analysis/dataset"
)

// allParts reads the campaign's tables besides trials as one attempt.
func allParts(t *testing.T, folder string) dataset.Attempt {
	t.Helper()
	var all dataset.Attempt
	var errs [5]error
	all.Phases, errs[0] = dataset.ReadPhases(folder)
	all.Witnesses, errs[1] = dataset.ReadWitnesses(folder)
	all.Certificates, errs[2] = dataset.ReadCertificates(folder)
	all.Traffic, errs[3] = dataset.ReadTraffic(folder)
	all.Ledger, errs[4] = dataset.ReadLedger(folder)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Everything that is noted of attempts is read back, in the order of the plan, however
// often it is compacted; an attempt that is noted again replaces its rows.
func TestPartsRoundTrip(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	var want dataset.Attempt
	for _, a := range [][2]int{{3, 1}, {1, 2}, {2, 1}, {1, 1}} {
		one := someAttempt(a[0], a[1])
		one.Trial.Folder = ""
		noteAll(t, folder, one)
		if a[0] != 2 {
			compact(t, folder)
		}
	}
	for _, a := range [][2]int{{1, 1}, {1, 2}, {2, 1}, {3, 1}} {
		one := someAttempt(a[0], a[1])
		want.Phases = append(want.Phases, one.Phases...)
		want.Witnesses = append(want.Witnesses, one.Witnesses...)
		want.Certificates = append(want.Certificates, one.Certificates...)
		want.Traffic = append(want.Traffic, one.Traffic...)
		want.Ledger = append(want.Ledger, one.Ledger...)
	}
	if got := allParts(t, folder); !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v\nwant\n%+v", got, want)
	}
	check(t, folder)

	again := someAttempt(2, 1)
	again.Trial.Folder, again.Ledger, again.Traffic = "", nil, nil
	noteAll(t, folder, again)
	compact(t, folder)
	of := func(trial string) bool { return trial == again.Trial.Key }
	want.Ledger = slices.DeleteFunc(want.Ledger, func(r dataset.Ledger) bool { return of(r.Trial) })
	want.Traffic = slices.DeleteFunc(want.Traffic, func(r dataset.Traffic) bool { return of(r.Trial) })
	if got := allParts(t, folder); !reflect.DeepEqual(got, want) {
		t.Errorf("noted again, read\n%+v\nwant\n%+v", got, want)
	}
}

// The manifest has the hashes of the evidence, and Check finds changes of it.
func TestEvidence(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	row, phases := attempt(t, folder, 1, 1)
	row.Evidence = row.Folder + "/evidence"
	plant(t, folder, map[string][]byte{
		row.Evidence + "/host-a/console.log": []byte("panic"), row.Evidence + "/qdisc.tmp": []byte("netem"), row.Evidence + "/x.parquet": nil,
	})
	note(t, folder, row, phases)
	compact(t, folder)
	check(t, folder)
	compact(t, folder)
	check(t, folder)
	manifest, err := dataset.ReadManifest(folder)
	if err != nil || len(manifest.Evidence) != 3 || len(manifest.Files) != 9+7 {
		t.Fatalf("%+v, %v", manifest, err)
	}
	// SHA-256 of "panic".
	if first := manifest.Evidence[0]; first.Path != row.Evidence+"/host-a/console.log" || first.Bytes != 5 || first.Table != "" ||
		first.SHA256 != "79631cb1b7b63b6e84aba908f774286c1bb4642be880ee3de73c12abd53f0c1b" {
		t.Errorf("%+v", first)
	}
	name := filepath.Join(folder, row.Evidence, "host-a", "console.log")
	store(t, name, []byte("Panic"))
	check(t, folder, row.Evidence+"/host-a/console.log")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	check(t, folder, row.Evidence+"/host-a/console.log")

	// Missing evidence is a problem, and is reported.
	gone, phases := attempt(t, folder, 2, 1)
	gone.Evidence = gone.Folder + "/evidence"
	note(t, folder, gone, phases)
	compact(t, folder, gone.Evidence)
	store(t, name, []byte("panic"))
	check(t, folder, gone.Evidence)
}
