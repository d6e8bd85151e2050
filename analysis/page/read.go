package page

import (
	"errors"
	"fmt"
	"io/fs"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
)

// Campaign is what a report is made from, except the I/Os.
type Campaign struct {
	Folder   string
	Manifest dataset.Manifest
	Identity dataset.Identity // zero in a folder that is older than identities
	State    dataset.State
	Spec     string // the campaign file; "" in such a folder
	Tables   summary.Tables
	Summary  summary.Summary
	Answers  answers.Answers
}

// Read reads a campaign's folder, except the I/Os of its trials.
func Read(folder string) (Campaign, error) {
	c := Campaign{Folder: folder}
	var err error
	if c.Manifest, err = dataset.ReadManifest(folder); err != nil {
		return c, err
	}
	if c.Identity, err = dataset.ReadIdentity(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if c.State, err = dataset.ReadState(folder); err != nil {
		return c, err
	}
	if c.Spec, err = dataset.ReadSpec(folder); err != nil {
		return c, err
	}
	if c.Tables, err = summary.ReadTables(folder); err != nil {
		return c, err
	}
	if c.Summary, err = summary.Summarise(c.Manifest.Campaign, c.Manifest.TestbedKind, c.Tables); err != nil {
		return c, err
	}
	c.Summary.State = c.State.Text()
	if summary.IsIngested(c.Manifest.TestbedKind) { // it has nothing to compare
		return c, nil
	}
	c.Answers, err = answers.Of(c.Manifest.Campaign, c.Manifest.TestbedKind, answers.Rows{Trials: c.Tables.Trials, Phases: c.Tables.Phases, Traffic: c.Tables.Traffic})
	if err != nil {
		return c, fmt.Errorf("answer the campaign's questions: %w", err)
	}
	return c, nil
}
