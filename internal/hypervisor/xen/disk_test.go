package xen

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestConnect runs the script of a disk; files in a folder stand for the host's
// own script, the kernel's files and xenstore.
func TestConnect(t *testing.T) {
	const noted = "/dev/loop1 7:1 17\n"
	for name, c := range map[string]struct {
		verb, note       string
		opened, sequence string // as the kernel tells; "" is not told
		stored           string // physical-device in xenstore
		hostFails        bool
		refused, fails   bool
	}{
		"the same":                {verb: "add", note: noted, opened: "7:1", sequence: "17"},
		"not told yet":            {verb: "add", note: noted, stored: "7:1", sequence: "17"},
		"another number":          {verb: "add", note: noted, opened: "7:0", sequence: "17", refused: true},
		"another, not told yet":   {verb: "add", note: noted, stored: "7:0", sequence: "17", refused: true},
		"another disk since then": {verb: "add", note: noted, opened: "7:1", sequence: "21", refused: true},
		"an old kernel":           {verb: "add", note: "/dev/loop1 7:1 -\n", opened: "7:1"},
		"no sequence any more":    {verb: "add", note: noted, opened: "7:1", refused: true},
		"no note":                 {verb: "add", opened: "7:1", sequence: "17", refused: true},
		"nothing opened":          {verb: "add", note: noted, sequence: "17", refused: true},
		"removed":                 {verb: "remove", note: noted, opened: "7:0", sequence: "21"},
		"the host's own fails":    {verb: "add", note: noted, opened: "7:1", sequence: "17", hostFails: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(file, text string) {
				if text == "" {
					return
				}
				file = filepath.Join(dir, file)
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
				require.NoError(t, os.WriteFile(file, []byte(text), 0o700))
			}
			own := "#!/bin/sh\n"
			if c.hostFails {
				own += "exit 1\n"
			}
			put("block", own)
			put("bin/xenstore-read", "#!/bin/sh\necho '"+c.stored+"'\n")
			put("bin/xenstore-write", "#!/bin/sh\nprintf '%s\\n' \"$@\" > '"+dir+"/written'\n")
			line := func(text string) string {
				if text != "" {
					text += "\n"
				}
				return text
			}
			put("sys/bus/xen-backend/devices/vbd-7-51712/physical_device", line(c.opened))
			put("sys/class/block/loop1/diskseq", line(c.sequence))
			put("lab.guest.block", strings.NewReplacer(hostScript, dir+"/block", `"/sys/`, `"`+dir+"/sys/", "PATH=/usr/sbin", "PATH="+dir+"/bin:/usr/sbin").Replace(connect))
			put("lab.guest.block.device", c.note)
			run := exec.CommandContext(t.Context(), filepath.Join(dir, "lab.guest.block"), c.verb)
			run.Env = append(os.Environ(), "XENBUS_PATH=backend/vbd/7/51712")
			out, err := run.CombinedOutput()
			assert.Equal(t, c.refused || c.fails, err != nil, "%v: %s", err, out)
			written, _ := os.ReadFile(filepath.Join(dir, "written"))
			assert.Equal(t, c.refused, strings.Contains(string(written), refusal), "%s", written)
			if c.refused {
				assert.True(t, strings.HasPrefix(string(written), "backend/vbd/7/51712/hotplug-error\n"), "%s", written)
				assert.True(t, strings.HasSuffix(string(written), "backend/vbd/7/51712/hotplug-status\nerror\n"), "%s", written)
			}
		})
	}
}
