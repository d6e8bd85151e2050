package testbed

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/problem"
)

// TestStartFiles looks at files with the shells that hosts have, and at what is no file.
func TestStartFiles(t *testing.T) {
	dir := t.TempDir()
	bzImage := append(bytes.Repeat([]byte{'M'}, 514), "HdrS and more"...)
	large := append(append([]byte("070701"), bytes.Repeat([]byte{0}, 1<<20)...), "end"...)
	files := map[string][]byte{"kernel": []byte("\x7fELF\x02\x01"), "bz": bzImage, "archive": large, "empty": nil, "with space": []byte("a")}
	var args []string
	for _, name := range []string{"kernel", "bz", "absent", "archive", "empty", "with space"} {
		if content, is := files[name]; is {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		}
		args = append(args, filepath.Join(dir, name))
	}
	for _, shell := range [][]string{{"dash"}, {"busybox", "sh"}} {
		text, err := exec.CommandContext(t.Context(), shell[0], append(append(shell[1:], "-c", lookAtFiles, "sh"), args...)...).Output()
		require.NoError(t, err, shell)
		found := parseStartFiles("host-a", string(text)+"\nsomething else\n")
		require.Len(t, found, 5, "%s: %s", shell, text)
		require.Equal(t, startFile{host: "host-a", path: args[0], bytes: "6", ends: found[0].ends, first: magicELF + "0201", setup: "-"}, found[0])
		require.Equal(t, magicSetup, found[1].setup)
		require.Equal(t, []string{"1048585", "303730373031", "00000000"}, []string{found[2].bytes, found[2].first, found[2].setup})
		require.Equal(t, []string{"0", "-"}, []string{found[3].bytes, found[3].first})
		require.Equal(t, args[5], found[4].path)
		require.Len(t, found[2].ends, 64)
		require.NotEqual(t, found[3].ends, found[4].ends)
	}
}

func TestJudgeStartFiles(t *testing.T) {
	kernel := startFile{host: "host-a", path: "/k", bytes: "9", ends: "aa", first: magicELF + "0201", setup: "-"}
	ramdisk := startFile{host: "host-a", path: "/r", bytes: "8", ends: "bb", first: "303730373031", setup: "00000000"}
	on := func(host string, file startFile, change func(*startFile)) startFile {
		file.host = host
		change(&file)
		return file
	}
	same := func(*startFile) {}
	for name, of := range map[string]struct {
		a, b []startFile
		want []string
	}{
		"well":        {[]startFile{kernel, ramdisk}, []startFile{on("host-b", kernel, same), on("host-b", ramdisk, same)}, nil},
		"not there":   {[]startFile{kernel}, nil, nil},
		"a bzImage":   {[]startFile{on("host-a", kernel, func(f *startFile) { f.first, f.setup = "4d5aea070000", magicSetup })}, nil, nil},
		"compressed":  {nil, []startFile{on("host-b", ramdisk, func(f *startFile) { f.first = "28b52ffd0488" })}, nil},
		"no kernel":   {[]startFile{on("host-a", kernel, func(f *startFile) { f.first = "303730373031" })}, nil, []string{"host-a: /k: it is no kernel: neither an ELF file nor a bzImage: put the guest's kernel there"}},
		"no ramdisk":  {nil, []startFile{on("host-b", ramdisk, func(f *startFile) { f.first = "-" })}, []string{"host-b: /r: it is no initramfs: neither a cpio archive nor a compressed one: put the guest's initramfs there"}},
		"other keys":  {[]startFile{ramdisk}, []startFile{on("host-b", ramdisk, func(f *startFile) { f.ends = "cc" })}, []string{"host-b: /r: it is another file than on host-a (8 and 8 bytes): the guest would not be the same at both sites: copy one and the same file to both hosts"}},
		"other bytes": {[]startFile{kernel}, []startFile{on("host-b", kernel, func(f *startFile) { f.bytes = "10" })}, []string{"host-b: /k: it is another file than on host-a (10 and 9 bytes): the guest would not be the same at both sites: copy one and the same file to both hosts"}},
	} {
		var got []string
		for _, p := range judgeStartFiles("/k", "/r", of.a, of.b) {
			got = append(got, p.Error())
			require.Equal(t, problem.Bad("", "", "", "").Class, p.Class, name)
		}
		require.Equal(t, of.want, got, name)
	}
}

// TestCheckLooksAtGuestFiles: what is on the hosts is told with all else. Here both sites'
// hosts are this machine.
func TestCheckLooksAtGuestFiles(t *testing.T) {
	tb, _ := served(t, "kvm")
	dir := t.TempDir()
	tb.Inventory.Guest.Kernel, tb.Inventory.Guest.Ramdisk = filepath.Join(dir, "kernel"), filepath.Join(dir, "absent")
	require.NoError(t, os.WriteFile(tb.Inventory.Guest.Kernel, []byte("text"), 0o600))
	must(t, tb.Reach(t.Context()))
	var found []string
	for _, p := range tb.Check(t.Context(), Uses{NoWAN: true, Busy: true}).Problems {
		if p.Tried == tb.Inventory.Guest.Kernel {
			found = append(found, p.Host)
		}
		require.NotEqual(t, tb.Inventory.Guest.Ramdisk, p.Tried, p.Error())
	}
	require.Equal(t, []string{"host-a", "host-b"}, found)
}
