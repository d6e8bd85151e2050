package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
)

// Files of a campaign's folder that say what it is, and what it was begun with.
const (
	identityFile = "identity.json"
	planFolder   = "plan" // campaign.yaml, plan.json, settings.json, files/, inventory-LANE.yaml
	specFile     = "campaign.yaml"
	planFile     = "plan.json"
	settingsFile = "settings.json"
	filesFolder  = "files" // in it, Iometer's files that the campaign file names
)

// identityFormat is the version of identity.json's format.
const identityFormat = 1

// Identity says which campaign a folder is of. It is made once, and never changed.
type Identity struct {
	Format      int       `json:"format"`
	ID          string    `json:"id"` // a UUID
	Campaign    string    `json:"campaign"`
	TestbedKind string    `json:"testbed_kind"` // of all its rows
	Created     time.Time `json:"created"`
	SpecSHA256  string    `json:"spec_sha256"` // hex
	PlanSHA256  string    `json:"plan_sha256"` // of plan/plan.json, hex
	Program     string    `json:"program"`     // version of the one that made it
}

// Settings are what a campaign's trials take from its file beside their cells, and
// when they are enough: all defaults are filled in.
type Settings struct {
	Order       string               `json:"order"`          // of the trials
	Stop        *campaign.Stop       `json:"stop,omitempty"` // nil: all trials are run
	Phases      campaign.Phases      `json:"phases"`
	SteadyState campaign.SteadyState `json:"steady_state"`
	Recovery    campaign.Recovery    `json:"recovery"`
	Disk        campaign.DiskSpec    `json:"disk"`
	Limits      campaign.Limits      `json:"limits"`
}

// Frozen is what a campaign was begun with: a program with other defaults goes on as
// it began.
type Frozen struct {
	Spec     []byte // the campaign file
	Files    map[string][]byte
	Trials   []campaign.Trial
	Settings Settings
	// Inventories are those of the lanes, by their names, without what leads to secrets.
	Inventories map[string][]byte
}

// plainFile says whether a name is that of a file in whatever folder it is put in.
func plainFile(name string) bool {
	return filepath.IsLocal(name) && name == filepath.Base(name) && name != "."
}

// write writes the folder of what is frozen, and says what SHA-256 the plan has.
func (f Frozen) write(folder string) (planSHA256 string, err error) {
	plan, err := json.MarshalIndent(f.Trials, "", " ")
	if err != nil {
		return "", err
	}
	settings, err := json.MarshalIndent(f.Settings, "", "  ")
	if err != nil {
		return "", err
	}
	contents := map[string][]byte{specFile: f.Spec, planFile: append(plan, '\n'), settingsFile: append(settings, '\n')}
	for name, text := range f.Files {
		if !plainFile(name) {
			return "", fault.New(fault.BadInput, "%q is no name of a file beside the campaign's", name)
		}
		contents[filepath.Join(filesFolder, name)] = text
	}
	for lane, text := range f.Inventories {
		if !plainFile(lane) {
			return "", fault.New(fault.BadInput, "%q is no name of a lane", lane)
		}
		contents["inventory-"+lane+".yaml"] = text
	}
	for name, text := range contents {
		path := filepath.Join(folder, name)
		if err := makeFolder(filepath.Dir(path)); err != nil {
			return "", err
		}
		if err := replaceContent(path, text); err != nil {
			return "", err
		}
		if err := syncFolder(filepath.Dir(path)); err != nil {
			return "", err
		}
	}
	return hexSum(contents[planFile]), nil
}

// Create makes a campaign's folder, with what the campaign is begun with, and opens it.
// Where the folder is of this campaign already, it is opened as it is: what it was
// begun with stays. The folder of another campaign, or one without an identity that
// holds rows, is fault.BadInput. The identity's Format, ID, Created and PlanSHA256 are
// filled in. It waits as Open does.
func Create(ctx context.Context, folder string, identity Identity, frozen Frozen) (*Record, error) {
	if _, err := os.Lstat(filepath.Join(folder, identityFile)); errors.Is(err, fs.ErrNotExist) {
		if err := create(folder, identity, frozen); err != nil {
			return nil, fmt.Errorf("make the campaign's folder %s: %w", folder, err)
		}
	}
	r, err := Open(ctx, folder, "")
	if err != nil {
		return nil, err
	}
	of := r.identity
	if of.Campaign != identity.Campaign || of.SpecSHA256 != identity.SpecSHA256 || of.TestbedKind != identity.TestbedKind {
		return nil, fault.New(fault.BadInput, "%s is the folder of campaign %s (file %.12s, %s), begun %s, and not of %s (file %.12s, %s): give this campaign another name, or another data folder",
			folder, of.Campaign, of.SpecSHA256, of.TestbedKind, of.Created.Format(time.RFC3339), identity.Campaign, identity.SpecSHA256, identity.TestbedKind)
	}
	return r, nil
}

func create(folder string, identity Identity, frozen Frozen) error {
	for _, name := range []string{attemptsFile, trialsFile, segmentFolder, manifestFile} {
		if _, err := os.Lstat(filepath.Join(folder, name)); err == nil {
			return fault.New(fault.BadInput, "it has %s but no %s: move it away, or give this campaign another name", name, identityFile)
		}
	}
	for _, made := range []string{folder, filepath.Join(folder, segmentFolder), filepath.Join(folder, controlFolder)} {
		if err := makeFolder(made); err != nil {
			return err
		}
	}
	if err := checkLocks(folder); err != nil {
		return err
	}
	var err error
	if identity.PlanSHA256, err = frozen.write(filepath.Join(folder, planFolder)); err != nil {
		return err
	}
	identity.Format, identity.ID, identity.Created = identityFormat, uuid.NewString(), time.Now().UTC()
	text, err := json.MarshalIndent(identity, "", "  ")
	if err != nil {
		return err
	}
	// Last, and whole, and once: with it the folder is a campaign's.
	path := filepath.Join(folder, identityFile)
	whole := path + "." + identity.ID
	if err := replaceContent(whole, append(text, '\n')); err != nil {
		return err
	}
	err = os.Link(whole, path)
	if errors.Is(err, fs.ErrExist) { // somebody was faster, and Create looks whether he made the same
		err = nil
	}
	return errors.Join(err, os.Remove(whole), syncFolder(folder))
}

// ReadIdentity reads a campaign's identity. fs.ErrNotExist says that the folder has
// none: it is from before there were any, or not there.
func ReadIdentity(folder string) (Identity, error) {
	path := filepath.Join(folder, identityFile)
	var identity Identity
	if err := readJSON(path, &identity); err != nil {
		return Identity{}, err
	}
	if identity.Format != identityFormat {
		return Identity{}, fault.New(fault.BadInput, "%s has format %d, this program knows %d: use the program that wrote it", path, identity.Format, identityFormat)
	}
	return identity, nil
}

// readJSON reads a file of the dataset. One that is damaged is fault.BadInput: trying
// again does not mend it.
func readJSON(path string, value any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fault.As(fault.BadInput, &DamagedError{Path: path, Problem: err})
	}
	return nil
}

// checkLocks refuses a folder in which a lock of one machine does not hold on another.
func checkLocks(folder string) error {
	name, err := sharedFileSystem(folder)
	if err != nil {
		return err
	}
	if name != "" {
		return fault.New(fault.BadInput, "%s is on a file system of several machines (%s), where its lock does not keep a second writer out: put the data on a disk of this machine", folder, name)
	}
	return nil
}

// sharedFileSystem is SharedFileSystem; a test has another one.
var sharedFileSystem = SharedFileSystem
