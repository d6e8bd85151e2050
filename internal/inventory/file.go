package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"go.yaml.in/yaml/v3"

	"heliotrope/internal/strict"
)

// Load reads and checks an inventory file. When the file has problems, the
// error is a *strict.Error with all of them.
func Load(path string) (*Inventory, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	return Parse(data, path)
}

// Parse reads and checks an inventory. Problems refer to it by the name.
// Relative paths of key files start at the name's folder.
func Parse(data []byte, name string) (*Inventory, error) {
	inventory := &Inventory{Mode: Workers}
	document := strict.Decode(name, data, inventory)
	inventory.complete(document)
	folder, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("inventory %s: %w", name, err)
	}
	if document.Given("") {
		checker{document}.aliases(inventory, folder)
		checker{document}.inventory(inventory)
	}
	if err := document.Err(); err != nil {
		return nil, err
	}
	inventory.absolutePaths(folder)
	return inventory, nil
}

// absolutePaths makes the paths of files on the controller absolute.
func (i *Inventory) absolutePaths(folder string) {
	i.SSHConfig = absoluteFile(i.SSHConfig, folder)
	for n := range i.Machines {
		machine := &i.Machines[n]
		machine.SSH.absolutePaths(folder)
		machine.SSH.PasswordFrom = absolutePassword(machine.SSH.PasswordFrom, folder)
		if managed := machine.VCenter; managed != nil && managed.Import != nil {
			managed.Import.absolutePaths(folder)
		}
	}
	for n := range i.Bastions {
		i.Bastions[n].absolutePaths(folder)
	}
	i.Guest.SSH.absolutePaths(folder)
	i.Guest.SSH.PasswordFrom = absolutePassword(i.Guest.SSH.PasswordFrom, folder)
	for n := range i.VCenters {
		i.VCenters[n].absolutePaths(folder)
	}
	if operations := i.Guest.Operations; operations != nil {
		operations.PasswordFrom = absolutePassword(operations.PasswordFrom, folder)
	}
}

// complete fills in values that a file may leave out.
func (i *Inventory) complete(document *strict.Document) {
	for n := range i.Machines {
		machine, at := &i.Machines[n], fmt.Sprintf("machines[%d]", n)
		if !document.Given(at + ".can") {
			machine.Can = slices.Clone(Capabilities)
		}
		if !document.Given(at + ".mode") {
			machine.Mode = i.Mode
		}
	}
	if !document.Given("guest.mode") {
		i.Guest.Mode = i.Mode
	}
}

// header is the beginning of a file that Save writes.
const header = "# One testbed of Heliotrope: its machines, the two sites and the WAN between them,\n" +
	"# and the measured guest. Private keys are named by path, never held here.\n"

// Save writes the inventory to path. A reader finds either the old file or the
// complete new one. Save refuses an inventory that Load would refuse; the line
// numbers of that error refer to the file that was not written.
func (i *Inventory) Save(path string) error {
	var data bytes.Buffer
	data.WriteString(header)
	encoder := yaml.NewEncoder(&data)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(i), encoder.Close()); err != nil {
		return fmt.Errorf("inventory %s: %w", path, err)
	}
	if _, err := Parse(data.Bytes(), path); err != nil {
		return err
	}
	if err := renameio.WriteFile(path, data.Bytes(), 0o644); err != nil {
		return fmt.Errorf("inventory %s: %w", path, err)
	}
	return nil
}
