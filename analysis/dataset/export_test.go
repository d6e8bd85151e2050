package dataset

import "path/filepath"

// TrialsOf reads table trials, which is for people: the program reads table attempts.
func TrialsOf(folder string) ([]Trial, error) {
	return All(readParquet(Trials, filepath.Join(folder, trialsFile)))
}

// Due says whether rows should be merged: see Record.Due.
var Due = due

// EachColumn does something with each column of so many rows.
var EachColumn = eachColumn
