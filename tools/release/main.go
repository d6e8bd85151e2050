// Command release writes the software bill of materials of a release: the programs with their SHA-256, and the Go modules
// that each was built from, as the linker wrote them into the program. The format is CycloneDX 1.6 in JSON
// (https://cyclonedx.org/docs/1.6/json/). The same programs give the same bytes: the date is that of SOURCE_DATE_EPOCH, and
// there is no serial number.
//
// It is a module of its own, together with nfpm, so that the main module has only what the programs need.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if err := write(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// write writes the bill of materials for its arguments: a version, and the files of
// programs.
func write(out io.Writer, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: release VERSION PROGRAM…")
	}
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	bom, err := billOf(args[0], args[1:])
	if err != nil {
		return err
	}
	bom.Metadata.Timestamp = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// billOf is the bill of materials of programs.
func billOf(version string, files []string) (*cdx.BOM, error) {
	const product = "heliotrope"
	var programs, modules []cdx.Component
	contents := map[string][]string{} // what a reference depends on
	for _, file := range files {
		program, err := programOf(version, file)
		if err != nil {
			return nil, err
		}
		info, err := buildinfo.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		programs = append(programs, program)
		contents[product] = append(contents[product], program.BOMRef)
		for _, module := range append(info.Deps, goItself(info.GoVersion)) {
			component := moduleOf(module)
			if !slices.ContainsFunc(modules, func(known cdx.Component) bool { return known.BOMRef == component.BOMRef }) {
				modules = append(modules, component)
			}
			contents[program.BOMRef] = append(contents[program.BOMRef], component.BOMRef)
		}
	}
	slices.SortFunc(modules, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	components := append(programs, modules...)
	var dependencies []cdx.Dependency
	for _, ref := range append([]string{product}, contents[product]...) {
		dependencies = append(dependencies, cdx.Dependency{Ref: ref, Dependencies: new(contents[ref])})
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{BOMRef: product, Type: cdx.ComponentTypeApplication, Name: product, Version: version,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}}}
	bom.Components, bom.Dependencies = &components, &dependencies
	return bom, nil
}

// programOf describes a program, with the hash of its file.
func programOf(version, file string) (cdx.Component, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return cdx.Component{}, err
	}
	sum := sha256.Sum256(content)
	name := filepath.Base(file)
	return cdx.Component{BOMRef: "program:" + name, Type: cdx.ComponentTypeApplication, Name: name, Version: version,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}}, nil
}

// goItself describes Go's standard library as a module. Vulnerability databases call go1.26.0 version v1.26.0 of
// module std.
func goItself(version string) *debug.Module {
	version, _, _ = strings.Cut(version, " ") // experiments may follow the version
	return &debug.Module{Path: "std", Version: "v" + strings.TrimPrefix(version, "go")}
}

// moduleOf describes a module by its package URL (https://github.com/package-url/purl-spec). Its property go.sum is the
// hash in Go's checksum database. That is not the hash of a single file, so it is not among the component's hashes.
func moduleOf(module *debug.Module) cdx.Component {
	if module.Replace != nil {
		module = module.Replace
	}
	url := "pkg:golang/" + module.Path + "@" + strings.ReplaceAll(module.Version, "+", "%2B")
	component := cdx.Component{BOMRef: url, PackageURL: url, Type: cdx.ComponentTypeLibrary, Name: module.Path, Version: module.Version}
	if module.Sum != "" {
		component.Properties = &[]cdx.Property{{Name: "go.sum", Value: module.Sum}}
	}
	return component
}
