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

// Files of a campaign's folder that identify it, and that have what it was begun with.
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
	Program     string    `json:"program"`     // version of the program that made the folder
}

// Settings are what a campaign's trials take from its file besides their cells, and the
// rule by which the campaign has enough trials. All defaults are filled in.
type Settings struct {
	Order       string               `json:"order"`          // of the trials
	Stop        *campaign.Stop       `json:"stop,omitempty"` // nil: all trials are run
	Phases      campaign.Phases      `json:"phases"`
	SteadyState campaign.SteadyState `json:"steady_state"`
	Recovery    campaign.Recovery    `json:"recovery"`
	Disk        campaign.DiskSpec    `json:"disk"`
	Limits      campaign.Limits      `json:"limits"`
}

// Frozen is what a campaign was begun with. A program with other defaults still continues
// it with these.
type Frozen struct {
	Spec     []byte // the campaign file
	Files    map[string][]byte
	Trials   []campaign.Trial
	Settings Settings
	// Inventories are the lanes' inventories by lane, without what leads to secrets.
	Inventories map[string][]byte
}

// plainFile says whether a name is one of a file directly in a folder, with no path in it.
func plainFile(name string) bool {
	return filepath.IsLocal(name) && name == filepath.Base(name) && name != "."
}

// write writes the frozen files into a folder, and returns the plan's SHA-256 in hex.
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
		if err := SyncFolder(filepath.Dir(path)); err != nil {
			return "", err
		}
	}
	return hexSum(contents[planFile]), nil
}

// Create makes a campaign's folder, with the files that the campaign is begun with, and
// opens it. A folder that already is of this campaign is opened as it is: what it was begun
// with stays. The error is fault.BadInput when the folder is another campaign's, or has
// rows but no identity. Create fills in the identity's Format, ID, Created and PlanSHA256.
// Like Open it waits while somebody else writes to the folder.
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
	// The identity comes last, whole, and only once: it makes the folder a campaign's.
	path := filepath.Join(folder, identityFile)
	whole := path + "." + identity.ID
	if err := replaceContent(whole, append(text, '\n')); err != nil {
		return err
	}
	err = os.Link(whole, path)
	if errors.Is(err, fs.ErrExist) { // another process was faster; Create checks whether it made the same campaign
		err = nil
	}
	return errors.Join(err, os.Remove(whole), SyncFolder(folder))
}

// ReadIdentity reads a campaign's identity. The error is fs.ErrNotExist when the folder has
// none: it is older than identities, or is not there.
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

// readJSON reads a JSON file of the dataset. A damaged file is fault.BadInput: trying again
// does not mend it.
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

// checkLocks refuses a folder on a file system where a lock does not keep out other
// machines.
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

// sharedFileSystem is SharedFileSystem; tests replace it.
var sharedFileSystem = SharedFileSystem
