package image

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// stubbed are libraries of fio's network and persistent-memory engines. With
// all they load they are 40 MB, which a guest of 100 MiB has no room for, and
// no access specification uses those engines. fio itself stays Debian's.
var stubbed = []string{"libgfapi.so.0", "libnbd.so.0", "libibverbs.so.1", "librdmacm.so.1",
	"librados.so.2", "librbd.so.1", "libpmemblk.so.1", "libpmem.so.1"}

// stubsDir holds the stubs while the image is built.
const stubsDir = "stubs"

// stubLibraries makes, for each stubbed library, a shared object of the same
// name that defines the symbols the program imports, at address 0: the loader
// is content, and an engine that were used would end fio at once. It returns
// the stubs' paths by library name.
func (b *builder) stubLibraries(ctx context.Context, program string) (map[string]string, error) {
	file, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	defer file.Close() //nolint:errcheck // read only
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	stubs := map[string]string{}
	for _, library := range stubbed {
		path := filepath.Join(b.dir, stubsDir, library)
		if err := makeStub(ctx, path, library, symbols); err != nil {
			return nil, fmt.Errorf("make a stub of %s: %w", library, err)
		}
		stubs[library] = path
	}
	return stubs, nil
}

// makeStub links one stub. Symbols carry the versions the program asks for;
// a library without versions is imported by no name, so its stub defines every
// unversioned import.
func makeStub(ctx context.Context, path, library string, symbols []elf.Symbol) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".empty", []byte{0}, 0o644); err != nil {
		return err
	}
	// ld makes a dynamic section only for an object file as its input.
	object := path + ".o"
	if _, err := local(ctx, "ld", "-r", "-o", object, "-b", "binary", path+".empty"); err != nil {
		return err
	}
	args := []string{"ld", "-shared", "-soname", library, "-o", path}
	versions := map[string][]string{}
	for _, symbol := range symbols {
		imported := symbol.Section == elf.SHN_UNDEF && elf.ST_BIND(symbol.Info) == elf.STB_GLOBAL
		if !imported || (symbol.Library != library && symbol.Library != "") {
			continue
		}
		args = append(args, "--defsym", symbol.Name+"=0")
		if symbol.Version != "" {
			versions[symbol.Version] = append(versions[symbol.Version], symbol.Name)
		}
	}
	if len(versions) > 0 {
		var script strings.Builder
		for version, names := range versions {
			fmt.Fprintf(&script, "%s { global: %s; };\n", version, strings.Join(names, "; "))
		}
		if err := os.WriteFile(path+".map", []byte(script.String()), 0o644); err != nil {
			return err
		}
		args = append(args, "--version-script", path+".map")
	}
	_, err := local(ctx, append(args, object)...)
	return err
}
