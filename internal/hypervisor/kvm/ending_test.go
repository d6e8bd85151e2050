package kvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/hypervisor"
)

// TestEnding: only a QEMU with our name and our UUID is ended. A real shell reads
// processes made of files.
func TestEnding(t *testing.T) {
	root, uuid := t.TempDir(), hypervisor.UUID("lab.vm").String()
	for pid, process := range map[string]struct{ program, name, uuid string }{
		"11": {"/usr/bin/qemu-system-x86_64", "guest=lab.vm,debug-threads=on", uuid},
		"12": {"/usr/bin/qemu-system-x86_64", "guest=other,debug-threads=on", uuid},
		"13": {"/usr/bin/qemu-system-x86_64", "guest=lab.vm,debug-threads=on", hypervisor.UUID("other").String()},
		"14": {"/usr/bin/qemu-system-x86_64", "guest=lab-2.vm", hypervisor.UUID("lab-2.vm").String()},
		"15": {"/usr/bin/vim", "guest=lab.vm", uuid},
	} {
		folder := filepath.Join(root, pid)
		require.NoError(t, os.MkdirAll(folder, 0o755))
		require.NoError(t, os.Symlink(process.program, filepath.Join(folder, "exe")))
		line := strings.Join([]string{process.program, "-name", process.name, "-uuid", process.uuid, ""}, "\x00")
		require.NoError(t, os.WriteFile(filepath.Join(folder, "cmdline"), []byte(line), 0o644))
	}
	text := "kill() { echo \"kill $*\"; }\n" + strings.ReplaceAll(ending, "/proc", root)
	output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "sh", "lab", uuid).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "kill -TERM 11\n", string(output))
}
