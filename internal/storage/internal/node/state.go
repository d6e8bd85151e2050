package node

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
)

const stateFile = "state.json"

// State is what we changed on a host and a teardown must undo, but could not
// recognise by its name, such as a daemon that we started. It is saved before
// the change, in the folder of its kind of storage.
type State struct {
	// Boot is the ID of the boot to which the state belongs; after a reboot the
	// state means nothing.
	Boot string `json:"boot"`
	// Started names the daemons that we started.
	Started map[string]bool `json:"started,omitempty"`
	// Mounted names the file systems that we mounted.
	Mounted map[string]bool `json:"mounted,omitempty"`
	// Before holds the former values of settings.
	Before map[string]string `json:"before,omitempty"`
}

// LoadState reads the state; it is empty on a host that has none.
func (n *Node) LoadState(ctx context.Context, kind string) (*State, error) {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return nil, err
	}
	file := path.Join(dir, stateFile)
	text, err := n.ReadIfThere(ctx, file)
	if err != nil {
		return nil, err
	}
	boot, err := n.Read(ctx, "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	state := &State{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), state); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", n.Name(), file, err)
		}
	}
	if state.Boot != boot {
		state = &State{Boot: boot}
	}
	for _, field := range []*map[string]bool{&state.Started, &state.Mounted} {
		if *field == nil {
			*field = map[string]bool{}
		}
	}
	if state.Before == nil {
		state.Before = map[string]string{}
	}
	return state, nil
}

// SaveState writes the state.
func (n *Node) SaveState(ctx context.Context, kind string, state *State) error {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return err
	}
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := n.Mkdir(ctx, dir); err != nil {
		return err
	}
	return n.Replace(ctx, path.Join(dir, stateFile), string(text)+"\n")
}
