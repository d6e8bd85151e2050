package image

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"heliotrope/internal/fault"
)

// fakePackages has fakeroot copy a tree in place of mmdebstrap's: one with a kernel, its
// modules built in, this machine's `true` for each of the guest's programs, and its stub for EFI.
func fakePackages(t *testing.T) {
	t.Helper()
	tree := t.TempDir()
	put := func(path string, content []byte) {
		path = filepath.Join(tree, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o755))
	}
	packed, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '\177ELF and more' | xz -c --check=crc32`).Output()
	require.NoError(t, err)
	put("boot/vmlinuz-6.1.0-1-cloud-amd64", bzImage(binary.LittleEndian.AppendUint32(packed, 13)))
	var builtin strings.Builder
	for _, lists := range []map[string][]string{guestModules, vsphereModules} {
		for _, modules := range lists {
			for _, name := range modules {
				builtin.WriteString("kernel/" + name + ".ko\n")
			}
		}
	}
	for _, name := range []string{"modules.builtin", "modules.order", "modules.builtin.modinfo"} {
		put("lib/modules/6.1.0-1-cloud-amd64/"+name, nil)
	}
	put("lib/modules/6.1.0-1-cloud-amd64/modules.builtin", []byte(builtin.String()))
	for target, source := range map[string]string{"bin/busybox": "/bin/true", "usr/bin/fio": "/bin/true", "usr/sbin/dropbear": "/bin/true",
		"lib/x86_64-linux-gnu/libc.so.6": "/lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2": "/lib64/ld-linux-x86-64.so.2", efiStub: "/" + efiStub} {
		content, err := os.ReadFile(source)
		require.NoError(t, err)
		put(target, content)
	}
	t.Setenv("FAKE_TREE", tree)
	// fakeroot mmdebstrap MODE VARIANT INCLUDE FORMAT SUITE TREE [MIRROR]
	fakeTool(t, "fakeroot", `cp -a "$FAKE_TREE" "$7"`)
}

// authorizedKey is the line of a new key.
func authorizedKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// unpacked are the files of archives that follow one another.
func unpacked(t *testing.T, content []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	for rest := bytes.NewReader(content); rest.Len() > 0; {
		reader := cpio.NewReader(rest)
		for {
			header, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			text, err := io.ReadAll(reader)
			require.NoError(t, err)
			files[header.Name] = string(text)
		}
		for rest.Len() > 0 { // what pads the one before
			if padding, _ := rest.ReadByte(); padding != 0 {
				require.NoError(t, rest.UnreadByte())
				break
			}
		}
	}
	return files
}

// TestBuildGuest: a guest is a kernel, an initramfs with the keys, and what tells them;
// nothing else is left.
func TestBuildGuest(t *testing.T) {
	fakePackages(t)
	parent, key := t.TempDir(), authorizedKey(t)
	dir := filepath.Join(parent, "guest")
	var told []string
	built, err := BuildGuest(t.Context(), GuestRequest{Dir: dir, AuthorizedKeys: []string{key}, Progress: func(text string) { told = append(told, text) }})
	require.NoError(t, err)
	require.Equal(t, "6.1.0-1-cloud-amd64", built.Kernel)
	require.Len(t, built.AuthorizedKeys, 1)
	require.Equal(t, "guest 1/5: download and extract Debian's packages", told[0])
	require.Len(t, told, 5)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	require.Equal(t, []string{GuestSumsFile, GuestInitrdFile, GuestKernelFile, GuestManifestFile}, names)
	beside, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Len(t, beside, 1)
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", GuestSumsFile)
	check.Dir = dir
	out, err := check.CombinedOutput()
	require.NoError(t, err, string(out))

	info, err := os.Stat(filepath.Join(dir, GuestInitrdFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds a private key")
	initrd, err := os.ReadFile(filepath.Join(dir, GuestInitrdFile))
	require.NoError(t, err)
	files := unpacked(t, initrd)
	require.Equal(t, key+"\n", files["root/.ssh/authorized_keys"])
	require.Contains(t, files["init"], "heliotrope.ip=")
	require.Contains(t, files, "usr/bin/fio")
	hostKey := []byte(files["etc/dropbear/dropbear_ed25519_host_key"])
	private := ed25519.PrivateKey(hostKey[len(hostKey)-ed25519.PrivateKeySize:])
	public, err := ssh.NewPublicKey(private.Public())
	require.NoError(t, err)
	require.Equal(t, built.HostKey, ssh.FingerprintSHA256(public))

	again, err := BuildGuest(t.Context(), GuestRequest{Dir: dir + "-2", AuthorizedKeys: []string{key}, Progress: func(string) {}})
	require.NoError(t, err)
	require.NotEqual(t, built.HostKey, again.HostKey)
}

// TestBuildGuestWritesOverNothing: whatever is there stays as it is, and no package is
// fetched.
func TestBuildGuestWritesOverNothing(t *testing.T) {
	fakeTool(t, "fakeroot", "echo fetched >&2; exit 1")
	parent := t.TempDir()
	file, folder, link := filepath.Join(parent, "file"), filepath.Join(parent, "folder"), filepath.Join(parent, "link")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
	require.NoError(t, os.Mkdir(folder, 0o700))
	require.NoError(t, os.Symlink("nowhere", link))
	for _, dir := range []string{file, folder, link, filepath.Join(parent, "absent", "guest"), filepath.Join(file, "guest")} {
		_, err := BuildGuest(t.Context(), GuestRequest{Dir: dir, Progress: func(string) {}})
		require.Equal(t, fault.BadInput, fault.Of(err), "%s: %v", dir, err)
		require.NotContains(t, err.Error(), "fetched", dir)
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "mine", string(content))
}

// TestBuildGuestLeavesNothingHalf: of a build that fails or is cut off nothing is left.
func TestBuildGuestLeavesNothingHalf(t *testing.T) {
	for name, of := range map[string]struct {
		script string
		cut    bool
		want   string
	}{
		"no packages": {`mkdir -p "$7/boot"; echo "E: the archive does not answer" >&2; exit 100`, false, "the archive does not answer"},
		"no kernel":   {`mkdir -p "$7/boot"`, false, "expected one kernel"},
		"cut off":     {`mkdir -p "$7/boot"; echo > "$BEGAN"; exec sleep 600`, true, "download and extract"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeTool(t, "fakeroot", of.script)
			parent, began := t.TempDir(), filepath.Join(t.TempDir(), "began")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if of.cut {
				t.Setenv("BEGAN", began)
				require.NoError(t, unix.Mkfifo(began, 0o600))
				go func() {
					_, _ = os.ReadFile(began) // returns when the build has begun
					cancel()
				}()
			}
			_, err := BuildGuest(ctx, GuestRequest{Dir: filepath.Join(parent, "guest"), Progress: func(string) {}})
			require.ErrorContains(t, err, of.want)
			require.Equal(t, of.cut, errors.Is(err, context.Canceled), "%v", err)
			left, err := os.ReadDir(parent)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// TestGuestTools: what is called is what is told to be installed.
func TestGuestTools(t *testing.T) {
	for _, ova := range []bool{false, true} {
		require.NotContains(t, GuestTools(ova), "mke2fs")
		require.Contains(t, GuestTools(ova), "mmdebstrap")
		require.Equal(t, ova, GuestTools(ova)["qemu-img"] == "qemu-utils")
		require.Equal(t, !ova, GuestTools(ova)["lz4"] == "lz4")
	}
	t.Setenv("PATH", t.TempDir())
	require.Subset(t, MissingTools(GuestTools(true)), []string{"binutils", "dosfstools", "fdisk", "mmdebstrap", "mtools", "qemu-utils"})
	require.Contains(t, Tools, "mke2fs", "the nodes' image has a file system")
	require.True(t, slices.Contains(common(Recipe{}).Packages, "dropbear-bin"))
	for _, name := range guestRecipe.Packages {
		require.Contains(t, common(Recipe{}).Packages, name, "the guest of the emulated testbed has it too")
	}
}
