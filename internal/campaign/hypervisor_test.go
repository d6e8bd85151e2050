package campaign

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"heliotrope/internal/strict"
)

// migrating is a file without its matrix, from line 5, and without repetitions.
const migrating = `version: 1
name: unit
seed: 5
testbed: emulated
repetitions: 2
`

// plain is the end of a matrix.
const plain = ", wan: [lan], access: [database]}\n"

// refusedHypervisor has texts that are appended to the file, from line 6, and the problems that
// they cause.
var refusedHypervisor = []struct{ name, text, want string }{
	{"mirror under xen", "matrix: {storage: [iscsi, mirror]" + plain,
		`6:27: matrix.storage[1]: mirror is not for xen: Xen's toolstack moves a domain's memory only: a private disk wants storage: drbd`},
	{"mirror under one of two", "matrix: {hypervisor: [xen, kvm], storage: [mirror, nfs]" + plain,
		`6:44: matrix.storage[0]: mirror is not for xen: Xen's toolstack moves a domain's memory only: a private disk wants storage: drbd; exclude {hypervisor: xen, storage: mirror}`},
	{"post-copy under xen", "matrix: {migration: [precopy, postcopy], storage: [nfs]" + plain,
		`6:31: matrix.migration[1]: postcopy is not for xen: Xen's toolstack knows pre-copy only`},
	{"all that xen has not", "matrix: {hypervisor: [kvm, xen], auto_converge: [true, false], bandwidth_mib_per_s: [0, 8], max_downtime_ms: [300], storage: [nfs]" + plain,
		`6:50: matrix.auto_converge[0]: true is not for xen: Xen's toolstack does not slow a guest down to migrate it; exclude {hypervisor: xen, auto_converge: true}
6:111: matrix.max_downtime_ms[0]: 300 is not for xen: Xen's toolstack plans its stop by rounds and dirty pages, not by time; exclude {hypervisor: xen, max_downtime_ms: 300}`},
	{"an include", "matrix: {storage: [nfs]" + plain + "include: [{storage: mirror}]",
		`7:21: include[0].storage: mirror is not for xen: Xen's toolstack moves a domain's memory only: a private disk wants storage: drbd`},
	{"a control", "matrix: {hypervisor: [kvm], storage: [mirror]" + plain + "controls: [{control: pause, hypervisor: xen}]",
		`7:12: controls[0].storage: mirror is not for xen: Xen's toolstack moves a domain's memory only: a private disk wants storage: drbd`},
	{"local under xen and kvm", "matrix: {hypervisor: [xen, kvm], storage: [nfs, local]" + plain,
		`6:49: matrix.storage[1]: local is not for xen: Xen's toolstack moves a domain's memory only: a private disk wants storage: drbd; exclude {hypervisor: xen, storage: local}
6:49: matrix.storage[1]: local is not for kvm: KVM has no datastores: a private disk wants storage: drbd or mirror; exclude {hypervisor: kvm, storage: local}`},
	{"all that vsphere has not", "matrix: {hypervisor: [kvm], storage: [nfs]" + plain + "include: [{hypervisor: vsphere, storage: drbd, drbd_protocol: C, migration: postcopy, auto_converge: true, bandwidth_mib_per_s: 8, max_downtime_ms: 5}, {hypervisor: vsphere, storage: mirror, mirror_copy: full}]",
		`7:42: include[0].storage: drbd is not for vsphere: an ESXi host runs no storage of ours: a private disk wants storage: local
7:77: include[0].migration: postcopy is not for vsphere: vSphere lets nobody choose post-copy
7:102: include[0].auto_converge: true is not for vsphere: vSphere slows a guest down by itself, and lets nobody choose it
7:129: include[0].bandwidth_mib_per_s: 8 is not for vsphere: vSphere limits no single migration: shape the WAN
7:149: include[0].max_downtime_ms: 5 is not for vsphere: vSphere plans its stop by itself
7:184: include[1].storage: mirror is not for vsphere: an ESXi host runs no storage of ours: a private disk wants storage: local`},
	{"a pause under vsphere", "matrix: {hypervisor: [kvm], storage: [nfs]" + plain + "controls: [{control: pause, hypervisor: vsphere}]",
		`7:22: controls[0].control: pause is not for vsphere: vSphere suspends a guest, which writes its memory to the datastore: that is no pause of a known length`},
	{"the sentinel", "matrix: {storage: [nfs]" + plain + "sentinel: {every: 1, migration: postcopy}",
		`7:33: sentinel.migration: postcopy is not for xen: Xen's toolstack knows pre-copy only`},

	{"no migration", "matrix: {hypervisor: [kvm], migration: [], storage: [nfs]" + plain, `6:40: matrix.migration: is empty: want at least one level`},
	{"migration", "matrix: {hypervisor: [kvm], migration: [hybrid], storage: [nfs]" + plain,
		`6:41: matrix.migration[0]: "hybrid" is not known: want precopy or postcopy`},
	{"a copy", "matrix: {hypervisor: [kvm], mirror_copy: [half], storage: [mirror]" + plain,
		`6:43: matrix.mirror_copy[0]: "half" is not known: want full, synchronous or incremental`},
	{"a copy without mirror", "matrix: {hypervisor: [kvm], mirror_copy: [full], storage: [nfs]" + plain,
		`6:42: matrix.mirror_copy: is for mirror only, which is not in matrix.storage`},
	{"auto-converge in words", "matrix: {hypervisor: [kvm], auto_converge: [maybe], storage: [nfs]" + plain,
		`6:45: matrix.auto_converge[0]: "maybe" is not true or false`},
	{"auto-converge twice", "matrix: {hypervisor: [kvm], auto_converge: [true, true], storage: [nfs]" + plain,
		`6:51: matrix.auto_converge[1]: true is given twice`},
	{"bandwidth", "matrix: {hypervisor: [kvm], bandwidth_mib_per_s: [-1, 1048577, 10mbit], storage: [nfs]" + plain,
		`6:51: matrix.bandwidth_mib_per_s[0]: -1 MiB/s: want 0, which is no limit, to 1048576
6:55: matrix.bandwidth_mib_per_s[1]: 1048577 MiB/s: want 0, which is no limit, to 1048576
6:64: matrix.bandwidth_mib_per_s[2]: "10mbit" is not a whole number`},
	{"downtime", "matrix: {hypervisor: [kvm], max_downtime_ms: [-1, 2000001], storage: [nfs]" + plain,
		`6:47: matrix.max_downtime_ms[0]: -1 ms: want 0, which leaves it to the hypervisor, to 2000000
6:51: matrix.max_downtime_ms[1]: 2000001 ms: want 0, which leaves it to the hypervisor, to 2000000`},
	{"named levels", "matrix: {hypervisor: [kvm], storage: [mirror]" + plain +
		"exclude: [{mirror_copy: half}, {migration: x}, {bandwidth_mib_per_s: -1}, {max_downtime_ms: -1}, {storage: drbd, mirror_copy: full}]",
		`7:25: exclude[0].mirror_copy: "half" is not known: want full, synchronous or incremental
7:44: exclude[1].migration: "x" is not known: want precopy or postcopy
7:70: exclude[2].bandwidth_mib_per_s: -1 MiB/s: want 0, which is no limit, to 1048576
7:93: exclude[3].max_downtime_ms: -1 ms: want 0, which leaves it to the hypervisor, to 2000000
7:127: exclude[4].mirror_copy: is for mirror only, not for drbd`},
	{"an include of several", "matrix: {hypervisor: [kvm], migration: [precopy, postcopy], mirror_copy: [full, incremental], max_downtime_ms: [0, 5], storage: [nfs, mirror]" +
		plain + "include: [{storage: mirror, guest_memory_mib: 128}]",
		`7:11: include[0].mirror_copy: is missing: the matrix has 2 levels of it
7:11: include[0].migration: is missing: the matrix has 2 levels of it
7:11: include[0].max_downtime_ms: is missing: the matrix has 2 levels of it`},
	{"a control without a migration", "matrix: {hypervisor: [kvm], storage: [nfs]" + plain + "controls: [{control: none, migration: postcopy}, {control: pause, auto_converge: false}]",
		`7:39: controls[0].migration: is for a migration, which control none has none of
7:82: controls[1].auto_converge: is for a migration, which control pause has none of`},
}

func TestRefusedHypervisor(t *testing.T) {
	for _, test := range refusedHypervisor {
		t.Run(test.name, func(t *testing.T) {
			spec, err := Parse("x.yaml", []byte(migrating+test.text+"\n"), nil)
			var invalid *strict.Error
			if !errors.As(err, &invalid) || spec != nil {
				t.Fatalf("got %+v, %v", spec, err)
			}
			if got := strings.ReplaceAll("\n"+err.Error(), "\nx.yaml:", "\n"); got != "\n"+test.want {
				t.Errorf("got%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestRefusedOnTheModel holds that the model is not asked for anything that it would run as
// something else.
func TestRefusedOnTheModel(t *testing.T) {
	text := strings.Replace(migrating, "emulated", "simulated", 1) + "matrix: {hypervisor: [xen, kvm], migration: [postcopy], storage: [nfs, mirror]" + plain +
		"exclude: [{hypervisor: xen}]\n"
	const want = `x.yaml:6:46: matrix.migration[0]: postcopy is not for simulated: the model knows pre-copy only
x.yaml:6:72: matrix.storage[1]: mirror is not for simulated: the model has no private disk that is copied`
	if _, err := Parse("x.yaml", []byte(text), nil); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestLimitations holds that the table has each hypervisor, and only demands that exist.
func TestLimitations(t *testing.T) {
	asked := map[string]bool{}
	for _, demand := range demands {
		asked[demand.name] = true
		all := Cell{Hypervisor: VSphere, Storage: demand.name, Control: ControlPause, MigrationOptions: MigrationOptions{PostCopy, true, 1, 1}}
		if !slices.Contains(append([]string{"control"}, factors...), demand.factor) || demand.level(Cell{}) != "" || demand.level(all) == "" {
			t.Errorf("%s: %q of nothing, %q of all", demand.name, demand.level(Cell{}), demand.level(all))
		}
	}
	for _, factor := range migrationFactors {
		if !asked[factor] {
			t.Errorf("%s is never asked for", factor)
		}
	}
	for _, hypervisor := range hypervisors {
		if _, known := limitations[hypervisor]; !known {
			t.Errorf("what %s cannot do is not said", hypervisor)
		}
	}
	for by, limits := range limitations {
		for factor, reason := range limits {
			if !asked[factor] || reason == "" {
				t.Errorf("%s: %s %q", by, factor, reason)
			}
		}
	}
}

func TestMigrationCells(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"mirror, and what it alone has": {"matrix: {hypervisor: [kvm], mirror_copy: [full, synchronous, incremental], storage: [drbd, mirror]" + plain,
			[]string{"kvm-drbd-c-lan-database", "kvm-mirror-lan-database", "kvm-mirror-synchronous-lan-database", "kvm-mirror-incremental-lan-database"}},
		"both, but for what xen has not": {"matrix: {hypervisor: [xen, kvm], storage: [nfs, mirror]" + plain + "exclude: [{hypervisor: xen, storage: mirror}]",
			[]string{"xen-nfs-lan-database", "kvm-nfs-lan-database", "kvm-mirror-lan-database"}},
		"post-copy of a mirror": {"matrix: {hypervisor: [kvm], migration: [postcopy], storage: [mirror]" + plain,
			[]string{"kvm-mirror-lan-database-migrate.postcopy"}},
		"all options": {"matrix: {hypervisor: [kvm], migration: [precopy, postcopy], auto_converge: [false, true], bandwidth_mib_per_s: [0, 8], max_downtime_ms: [0, 300], guest_memory_mib: [160], storage: [nfs]" +
			plain + "exclude: [{migration: precopy, auto_converge: false}, {bandwidth_mib_per_s: 0}, {max_downtime_ms: 0, auto_converge: true}]",
			[]string{"kvm-nfs-lan-database-160m-migrate.autoconverge.bandwidth8.downtime300", "kvm-nfs-lan-database-160m-migrate.postcopy.bandwidth8",
				"kvm-nfs-lan-database-160m-migrate.postcopy.bandwidth8.downtime300", "kvm-nfs-lan-database-160m-migrate.postcopy.autoconverge.bandwidth8.downtime300"}},
		"an include": {"matrix: {hypervisor: [xen, kvm], storage: [nfs]" + plain + "include: [{hypervisor: kvm, migration: postcopy, max_downtime_ms: 50}]",
			[]string{"xen-nfs-lan-database", "kvm-nfs-lan-database", "kvm-nfs-lan-database-migrate.postcopy.downtime50"}},
		"controls, of which one migrates": {"matrix: {hypervisor: [kvm], migration: [postcopy, precopy], storage: [nfs]" + plain +
			"exclude: [{migration: precopy}]\ncontrols: [{control: none}, {control: lan, auto_converge: true}]",
			[]string{"kvm-nfs-lan-database-migrate.postcopy", "kvm-nfs-lan-database-control-none", "kvm-nfs-lan-database-migrate.postcopy.autoconverge-control-lan"}},
	} {
		if got := ids(parsed(t, migrating+test.text+"\n").Cells()); !slices.Equal(got, test.want) {
			t.Errorf("%s: got  %v\nwant %v", name, got, test.want)
		}
	}
}

// TestCellsOfNoOptions holds that cells without options are written as before.
func TestCellsOfNoOptions(t *testing.T) {
	for _, cell := range parsed(t, good).Cells() {
		text, err := json.Marshal(cell)
		if err != nil {
			t.Fatal(err)
		}
		for _, factor := range append([]string{"mirror_copy"}, migrationFactors...) {
			if strings.Contains(string(text), factor) {
				t.Errorf("%s has %s", text, factor)
			}
		}
		if cell.Mode() != PreCopy {
			t.Errorf("%s migrates by %s", cell.ID(), cell.Mode())
		}
	}
}
