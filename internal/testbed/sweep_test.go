package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLookTellsWhoseThingsAre: things with the label are ours, whatever else is there,
// including testbeds whose labels begin alike and other folders of ours. A real shell
// looks, at a machine made of files.
func TestLookTellsWhoseThingsAre(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	}
	for _, folder := range []string{"br0", "eth2", "hlt-lab", "hlt-lab-2"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "net", folder), 0o755))
	}
	require.NoError(t, os.Symlink("../br0", filepath.Join(root, "net", "eth2", "master")))
	data := filepath.Join(root, "data")
	write("sbin/tc", `#!/bin/sh
echo "qdisc netem 169a: dev hlt-lab root refcnt 2 limit 1000"
echo "qdisc netem 169b: dev hlt-lab-2 root refcnt 2 limit 1000"
echo "qdisc fq 8001: dev eth0 root refcnt 2 limit 10000p"
echo "qdisc noqueue 0: dev eth2 root refcnt 2"
`)
	write("sbin/losetup", "#!/bin/sh\necho /dev/loop0 "+data+"/lab/nfs/d.img\necho /dev/loop1 /srv/theirs.img\necho /dev/loop2 "+data+"/lab-2/d.img\n")
	write("mounts", "store:/x "+data+"/lab/nfs/mnt nfs4 rw 0 0\nstore:/y "+data+"/lab-2/nfs/mnt nfs4 rw 0 0\n/dev/sda1 / ext4 rw 0 0\n")
	write("printk", "4 4 1 7\n")
	for _, file := range []string{"data/lab/.heliotrope", "data/lab/nfs/d.img", "data/lab.programs/notes.txt", "data/lab.run/worker/pid", "data/lab.programs/heliotrope-witness", "data/lab-2/nfs/d.img",
		"data/theirs.img", "run/wan-lab/lease", "run/wan-lab-2/lease", "run/owner"} {
		write(file, "")
	}
	text := strings.NewReplacer("/sbin/", root+"/sbin/", "/sys/class/net", root+"/net", "/proc/mounts", root+"/mounts",
		"/proc/sys/kernel/printk", root+"/printk", "/run/heliotrope", root+"/run").Replace(look)
	output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "look", "lab", data, "hlt-lab", "eth2").Output()
	require.NoError(t, err)
	unmarked, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "look", "lab-2", data, "hlt-lab-2", "").Output()
	require.NoError(t, err)
	assert.NotRegexp(t, "(?m)^ours .*"+data+"/lab-2/", string(unmarked), "a folder that is not marked is somebody else's")
	assert.Contains(t, string(unmarked), "other mount: store:/y "+data+"/lab-2/nfs/mnt")
	assert.Contains(t, string(unmarked), "other loop: /dev/loop2 "+data+"/lab-2/d.img")
	var ours, settings []string
	for line := range strings.Lines(strings.ReplaceAll(string(output), root, "")) {
		whose, thing, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch whose {
		case "ours":
			ours = append(ours, thing)
		case "setting":
			settings = append(settings, thing)
		default:
			assert.Equal(t, "other", whose)
		}
	}
	slices.Sort(ours)
	assert.Equal(t, []string{
		"file /data/lab.programs/heliotrope-witness",
		"file /data/lab.run/worker",
		"file /data/lab.run/worker/pid",
		"file /data/lab/.heliotrope",
		"file /data/lab/nfs",
		"file /data/lab/nfs/d.img",
		"file /run/wan-lab/lease",
		"interface hlt-lab master",
		"loop: /dev/loop0 /data/lab/nfs/d.img",
		"mount: store:/x /data/lab/nfs/mnt nfs4",
		"qdisc: qdisc netem 169a: dev hlt-lab root limit 1000",
	}, ours)
	assert.Equal(t, []string{"qdisc: qdisc noqueue 0: dev eth2 root", "kernel log level 4 4 1 7"}, settings)
	for _, other := range []string{"other qdisc: qdisc fq 8001: dev eth0", "other qdisc: qdisc netem 169b: dev hlt-lab-2", "other interface hlt-lab-2 master",
		"other loop: /dev/loop1 /srv/theirs.img", "other interface eth2 master br0"} {
		assert.Contains(t, string(output), other)
	}
}

// TestSettingsCount: settings that only a trial changes are compared, but are nothing
// to be removed.
func TestSettingsCount(t *testing.T) {
	before := Snapshot{"store": {Settings: []string{"kernel log level 4"}}}
	after := Snapshot{"store": {Settings: []string{"kernel log level 7"}}}
	assert.Equal(t, []string{"store: - kernel log level 4", "store: + kernel log level 7"}, before.Diff(after))
	assert.Equal(t, before.Diff(after), before.Leftovers(after))
	assert.Empty(t, before.DiffOthers(after))
}
