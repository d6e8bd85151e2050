package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// cached makes a complete image of tiny files in a cache.
func cached(t *testing.T, c Cache, recipe Recipe) {
	t.Helper()
	dir := c.imageDir(recipe)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := manifest{SHA256: map[string]string{}}
	for _, name := range recipe.files() {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		sum, err := hashFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m.SHA256[name] = sum
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOpenVerifiesEveryFile(t *testing.T) {
	recipe := xenRecipe()
	for _, damaged := range append([]string{manifestFile}, recipe.files()...) {
		t.Run(damaged, func(t *testing.T) {
			c := Cache{Dir: t.TempDir()}
			if _, err := c.Open(recipe); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("empty cache: %v", err)
			}
			cached(t, c, recipe)
			if _, err := c.Open(recipe); err != nil {
				t.Fatalf("whole image: %v", err)
			}
			if err := os.WriteFile(filepath.Join(c.imageDir(recipe), damaged), []byte("{damage"), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Open(recipe); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("damaged image: %v", err)
			}
			if err := os.Remove(filepath.Join(c.imageDir(recipe), damaged)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Open(recipe); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("incomplete image: %v", err)
			}
		})
	}
}

func TestHashFollowsTheRecipe(t *testing.T) {
	recipe := xenRecipe()
	other := xenRecipe()
	other.Packages = append(other.Packages, "one-more")
	if recipe.Hash() != xenRecipe().Hash() {
		t.Error("the same recipe has two hashes")
	}
	if recipe.Hash() == other.Hash() {
		t.Error("another recipe has the same hash")
	}
}

// fakeTool puts a program before the real ones in PATH.
func fakeTool(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	fakeTool(t, "fakeroot", "echo 'E: the archive does not answer' >&2; exit 100")
	c := Cache{Dir: t.TempDir()}
	recipe := xenRecipe()
	// Also what a killed build left.
	if err := os.MkdirAll(c.imageDir(recipe)+partialSuffix+"/tree", 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := c.Ensure(context.Background(), recipe, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "the archive does not answer") {
		t.Fatalf("error: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(c.Dir, "*"+recipe.Hash()+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestDamagedImageIsBuiltAgain(t *testing.T) {
	fakeTool(t, "fakeroot", "exit 1")
	c := Cache{Dir: t.TempDir()}
	recipe := xenRecipe()
	cached(t, c, recipe)
	if err := os.WriteFile(filepath.Join(c.imageDir(recipe), RootFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var told []string
	if _, err := c.Ensure(context.Background(), recipe, func(text string) { told = append(told, text) }); err == nil {
		t.Fatal("a damaged image was accepted")
	}
	if !strings.Contains(strings.Join(told, "\n"), RootFile) {
		t.Errorf("nobody was told what is damaged: %q", told)
	}
}

func TestNoSpaceIsOneClearLine(t *testing.T) {
	err := checkSpace(t.TempDir(), 1<<62, "set XDG_CACHE_HOME to a larger disk")
	if err == nil || !strings.Contains(err.Error(), "MiB needed") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error: %v", err)
	}
}

// bzImage makes a kernel image around a payload.
func bzImage(payload []byte) []byte {
	image := make([]byte, 2*512)
	image[setupSectorsOffset] = 1
	copy(image[headerMagicOffset:], "HdrS")
	binary.LittleEndian.PutUint32(image[payloadOffsetOffset:], 16)
	binary.LittleEndian.PutUint32(image[payloadLengthOffset:], uint32(len(payload)))
	image = append(image, make([]byte, 16)...)
	return append(append(image, payload...), "trailing"...)
}

func TestExtractKernel(t *testing.T) {
	elf := "\x7fELF and the rest of a kernel"
	for _, tool := range [][]string{{"xz", "-c"}, {"lz4", "-l", "-c"}} {
		t.Run(tool[0], func(t *testing.T) {
			cmd := exec.Command(tool[0], tool[1:]...)
			cmd.Stdin = strings.NewReader(elf)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s, which `make deps` installs: %v", tool[0], err)
			}
			source := filepath.Join(t.TempDir(), "vmlinuz")
			payload := binary.LittleEndian.AppendUint32(packed, uint32(len(elf)))
			if err := os.WriteFile(source, bzImage(payload), 0o644); err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(t.TempDir(), "vmlinux")
			if err := extractKernel(context.Background(), source, target); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(target); string(got) != elf {
				t.Errorf("unpacked %q", got)
			}
		})
	}
}

func TestExtractKernelRefuses(t *testing.T) {
	for name, content := range map[string][]byte{
		"not a kernel":        []byte("MZ"),
		"unknown payload":     bzImage([]byte("\x28\xb5\x2f\xfd and more")),
		"payload past an end": bzImage([]byte("0123456789"))[:1050],
		"empty":               nil,
	} {
		t.Run(name, func(t *testing.T) {
			source := filepath.Join(t.TempDir(), "vmlinuz")
			if err := os.WriteFile(source, content, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := extractKernel(context.Background(), source, source+".out"); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestModuleClosure(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte("kernel/fs/built-in.ko\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	index := &moduleIndex{dir: dir,
		path: map[string]string{"top_most": "a/top-most.ko", "middle": "a/middle.ko", "base": "a/base.ko"},
		deps: map[string][]string{"a/top-most.ko": {"a/middle.ko", "a/base.ko"}, "a/middle.ko": {"a/base.ko"}}}
	order, err := index.closure([]string{"top-most", "middle", "built_in"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a/base.ko", "a/middle.ko", "a/top-most.ko"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if _, err := index.closure([]string{"nowhere", "elsewhere"}); err == nil ||
		!strings.Contains(err.Error(), "nowhere, elsewhere") {
		t.Errorf("missing modules: %v", err)
	}
}

func TestArchiveIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "initrd")
	err := withArchive(path, func(a *archive) error {
		return errors.Join(a.bytes("etc/deep/file", []byte("content"), 0o600), a.link("bin/sh", "/bin/busybox"), a.dir("etc"))
	})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	reader := cpio.NewReader(bytes.NewReader(content))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
	if want := []string{"etc", "etc/deep", "etc/deep/file", "bin", "bin/sh"}; !slices.Equal(names, want) {
		t.Errorf("names %v, want %v", names, want)
	}
}

func xenRecipe() Recipe {
	recipe, _ := RecipeOf(Xen)
	return recipe
}
