package node

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

const stateFile = "state.json"

// Process is a process, or a thread of the kernel, of a host. No other one of the same boot has the
// same ID and the same start.
type Process struct {
	ID    string `json:"id"`
	Ticks string `json:"ticks"` // when it was started, in clock ticks after the boot (proc_pid_stat(5))
}

// Processes finds those of the processes with these IDs that run. A process that has ended, and
// whose parent has not asked for its exit status yet, does not run.
func (n *Node) Processes(ctx context.Context, ids ...string) ([]Process, error) {
	var found []Process
	for _, id := range ids {
		stat, err := n.ReadIfThere(ctx, path.Join("/proc", id, "stat"))
		if err != nil {
			return nil, err
		}
		// The second field is a name in parentheses, which may hold anything. The first of the
		// others is the state, and the 20th is the start.
		fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
		if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		found = append(found, Process{ID: id, Ticks: fields[19]})
	}
	return found, nil
}

// State is what we changed on a host and a teardown must undo, but could not
// recognise by its name, such as a daemon that we started. It is saved before
// the change, in the folder of its kind of storage.
type State struct {
	// Boot is the ID of the boot to which the state belongs; after a reboot the
	// state means nothing.
	Boot string `json:"boot"`
	// Started has the processes of the daemons that we started, by the daemons' names. A
	// daemon that was about to be started has none yet: the start may have been cut off.
	Started map[string][]Process `json:"started,omitempty"`
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
	if state.Started == nil {
		state.Started = map[string][]Process{}
	}
	if state.Mounted == nil {
		state.Mounted = map[string]bool{}
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
