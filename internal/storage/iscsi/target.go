package iscsi

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"path"
	"strings"
	"time"

	"heliotrope/internal/limits"
	"heliotrope/internal/storage"
)

// LIO's folders in configfs.
const (
	lio       = "/sys/kernel/config/target"
	lioCore   = lio + "/core"
	lioFabric = lio + "/iscsi"
)

// portalPort is the port registered for iSCSI targets.
const portalPort = 3260

// imageSuffix ends the names of the backing files.
const imageSuffix = ".img"

// burstBytes is how much data a write may send unasked (FirstBurstLength), and the
// largest piece that the target takes at once. With LIO's own values (InitialR2T=Yes,
// pieces of 8 KiB) a write of more than 8 KiB would wait for one more round trip of the
// WAN.
const burstBytes = 256 << 10

// portalAttributes are set on the portal group, in this order.
var portalAttributes = []struct{ name, value string }{
	{"attrib/authentication", "0"},     // none: the test network is isolated
	{"attrib/generate_node_acls", "0"}, // only the initiators that we list
	{"attrib/login_timeout", "30"},     // seconds
	{"param/InitialR2T", "No"},
	{"param/ImmediateData", "Yes"},
	{"param/FirstBurstLength", fmt.Sprint(burstBytes)},
	{"param/MaxRecvDataSegmentLength", fmt.Sprint(burstBytes)},
	{"param/HeaderDigest", "None"},
	{"param/DataDigest", "None"},
}

// mostLIOTimeout is LIO's own limit for its times (NA_DATAOUT_TIMEOUT_MAX and
// NA_NOPIN_RESPONSE_TIMEOUT_MAX of drivers/target/iscsi/iscsi_target_core.h).
const mostLIOTimeout = time.Minute

// initiatorAttributes are set for each initiator. The times are in seconds. LIO drops a
// connection on which the data of a write took longer than dataout_timeout. The default
// of 3 s is too little for a slow WAN with deep queues; the maximum is a minute. LIO
// pings an initiator that is quiet every nopin_timeout; the pings are turned off (0)
// when the answer may take longer than LIO can wait.
func initiatorAttributes(path limits.Path) []setting {
	const usual = 30 * time.Second
	every, response := "15", wholeSeconds(path, usual)
	if path.AtLeast(usual) > mostLIOTimeout {
		every, response = "0", fmt.Sprint(mostLIOTimeout.Seconds())
	}
	return []setting{
		{"attrib/dataout_timeout", "60"},
		{"attrib/nopin_timeout", every},
		{"attrib/nopin_response_timeout", response},
		{"cmdsn_depth", "128"},
	}
}

// portal is the address and port at which the target listens, an IPv6 address in brackets: as LIO
// names the folder of a portal (lio_target_call_addnptotpg in
// drivers/target/iscsi/iscsi_target_configfs.c), and as iscsiadm(8) takes it.
func (s *System) portal() string { return netip.AddrPortFrom(s.store.Address, portalPort).String() }

func (s *System) backstoreName(disk string) string { return s.label + "." + disk }

// backstore is the folder of a disk's backstore. LIO requires that each is in an HBA
// with a number; ours is derived from the disk's name, so that it can be found again.
func (s *System) backstore(disk string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(s.backstoreName(disk)))
	return fmt.Sprintf("%s/fileio_%d/%s", lioCore, sum.Sum32()>>1, s.backstoreName(disk))
}

// imageFile is a disk's backing file on the storage server.
func (s *System) imageFile(ctx context.Context, disk string) (string, error) {
	dir, err := s.store.Dir(ctx, kind)
	return path.Join(dir, disk+imageSuffix), err
}

// makeBackstore makes the backing file and LIO's device over it.
func (s *System) makeBackstore(ctx context.Context, spec storage.Spec) error {
	file, err := s.imageFile(ctx, spec.Name)
	if err != nil {
		return err
	}
	folder := s.backstore(spec.Name)
	if err := s.store.FilledImage(ctx, kind, file, spec.SizeBytes, spec); err != nil {
		return err
	}
	enabled, err := s.store.ReadIfThere(ctx, folder+"/enable")
	if err != nil {
		return err
	}
	if enabled == "1" {
		return s.ensureSerial(ctx, spec.Name, folder)
	}
	if err := s.newSerial(ctx, spec.Name); err != nil {
		return err
	}
	if err := s.store.Modprobe(ctx, targetModules...); err != nil {
		return err
	}
	if err := s.store.Mkdir(ctx, folder); err != nil {
		return fmt.Errorf("%w (is configfs mounted on /sys/kernel/config?)", err)
	}
	// Without fd_buffered_io=1 LIO opens the file with O_DSYNC, and the disk has no
	// write cache.
	if err := s.store.Write(ctx, folder+"/control", fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d", file, spec.SizeBytes)); err != nil {
		return err
	}
	if err := s.store.Write(ctx, folder+"/enable", "1"); err != nil {
		return err
	}
	return s.ensureSerial(ctx, spec.Name, folder)
}

// ensureSerial gives LIO's device the disk's serial number. LIO refuses that for a
// device that is exported already.
func (s *System) ensureSerial(ctx context.Context, disk, folder string) error {
	const attribute = "wwn/vpd_unit_serial"
	want, err := s.serial(ctx, disk)
	if err != nil {
		return err
	}
	if want == "" {
		return fmt.Errorf("%s: nothing tells the serial number of %s: tear the testbed's disks down first", s.store.Name(), folder)
	}
	has, err := s.store.ReadIfThere(ctx, path.Join(folder, attribute))
	if err != nil || strings.HasSuffix(has, want) {
		return err
	}
	return s.store.Write(ctx, path.Join(folder, attribute), want)
}

// makeTarget exports the backstore to the two initiators. Enabling the portal group
// comes last, so an enabled group is complete.
func (s *System) makeTarget(ctx context.Context, spec storage.Spec) error {
	disk := spec.Name
	group := path.Join(lioFabric, s.iqn(disk), "tpgt_1")
	enabled, err := s.store.ReadIfThere(ctx, group+"/enable")
	if err != nil {
		return err
	}
	if enabled == "1" {
		return nil
	}
	if err := s.store.Mkdir(ctx, group+"/lun/lun_0"); err != nil {
		return err
	}
	for _, attribute := range portalAttributes {
		if err := s.store.Write(ctx, path.Join(group, attribute.name), attribute.value); err != nil {
			return err
		}
	}
	if err := s.store.Link(ctx, s.backstore(disk), group+"/lun/lun_0/disk"); err != nil {
		return err
	}
	portal := path.Join(group, "np", s.portal())
	if err := s.store.Mkdir(ctx, portal); err != nil {
		return fmt.Errorf("%w (is %s an address of %s, and port %d free there?)", err, s.store.Address, s.store.Name(), portalPort)
	}
	for site := range s.sites {
		if err := s.allow(ctx, group, s.initiatorName(site), spec.Path); err != nil {
			return err
		}
	}
	return s.store.Write(ctx, group+"/enable", "1")
}

func (s *System) allow(ctx context.Context, group, initiator string, of limits.Path) error {
	acl := path.Join(group, "acls", initiator)
	if err := s.store.Mkdir(ctx, acl+"/lun_0"); err != nil {
		return err
	}
	for _, attribute := range initiatorAttributes(of) {
		if err := s.store.Write(ctx, path.Join(acl, attribute.name), attribute.value); err != nil {
			return err
		}
	}
	return s.store.Link(ctx, group+"/lun/lun_0", acl+"/lun_0/disk")
}

// removeTargets removes everything of the label from the storage server.
func (s *System) removeTargets(ctx context.Context) error {
	if !s.store.HasShell() {
		return nil
	}
	targets, err := s.store.Names(ctx, lioFabric, s.prefix())
	errs := []error{err}
	for _, target := range targets {
		errs = append(errs, s.removeTarget(ctx, path.Join(lioFabric, target)))
	}
	errs = append(errs, s.removeBackstores(ctx))
	if err := errors.Join(errs...); err != nil {
		return err // the file stays while something may use it
	}
	return s.store.RemoveDir(ctx, kind)
}

// removeBackstores removes LIO's devices of the label, and the HBAs that they were in. A
// device of ours has the label in its name, and is in the HBA that follows from its name.
// When a run was cut off before it made the device of an HBA, that HBA is found by the
// backing file, which is made earlier.
func (s *System) removeBackstores(ctx context.Context) error {
	dir, err := s.store.Dir(ctx, kind)
	if err != nil {
		return err
	}
	images, err := s.store.Names(ctx, dir, "")
	if err != nil {
		return err
	}
	ours := map[string]bool{}
	for _, image := range images {
		if !strings.HasSuffix(image, imageSuffix) {
			continue
		}
		ours[path.Dir(s.backstore(strings.TrimSuffix(image, imageSuffix)))] = true
	}
	adapters, err := s.store.Names(ctx, lioCore, "fileio_")
	errs := []error{err}
	for _, adapter := range adapters {
		adapter = path.Join(lioCore, adapter)
		entries, err := s.store.List(ctx, adapter)
		errs = append(errs, err)
		found, others := ours[adapter], false
		for _, entry := range entries {
			disk, labelled := strings.CutPrefix(entry.Name(), s.backstoreName(""))
			switch device := path.Join(adapter, entry.Name()); {
			case !entry.IsDir():
			case labelled && device == s.backstore(disk):
				found = true
				errs = append(errs, s.store.Remove(ctx, device))
			default:
				others = true
			}
		}
		if found && !others {
			errs = append(errs, s.store.Remove(ctx, adapter))
		}
	}
	return errors.Join(errs...)
}

// removeTarget removes one target from the inside out: configfs removes only what
// nothing else points to.
func (s *System) removeTarget(ctx context.Context, target string) error {
	group := target + "/tpgt_1"
	enabled, err := s.store.ReadIfThere(ctx, group+"/enable")
	if err != nil {
		return err
	}
	if enabled == "1" {
		if err := s.store.Write(ctx, group+"/enable", "0"); err != nil {
			return err
		}
	}
	acls, err := s.store.Names(ctx, group+"/acls", "")
	errs := []error{err}
	for _, acl := range acls {
		acl = path.Join(group, "acls", acl)
		errs = append(errs, s.removeUnits(ctx, acl), s.store.Remove(ctx, acl))
	}
	portals, err := s.store.Names(ctx, group+"/np", "")
	errs = append(errs, err)
	for _, portal := range portals {
		errs = append(errs, s.store.Remove(ctx, path.Join(group, "np", portal)))
	}
	errs = append(errs, s.removeUnits(ctx, group+"/lun"))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := s.store.Remove(ctx, group); err != nil {
		return err
	}
	return s.store.Remove(ctx, target)
}

// removeUnits removes the folders lun_* in folder and the links in them.
func (s *System) removeUnits(ctx context.Context, folder string) error {
	units, err := s.store.Names(ctx, folder, "lun_")
	errs := []error{err}
	for _, unit := range units {
		unit = path.Join(folder, unit)
		entries, err := s.store.List(ctx, unit)
		errs = append(errs, err)
		for _, entry := range entries {
			if entry.Mode()&fs.ModeSymlink != 0 {
				errs = append(errs, s.store.Remove(ctx, path.Join(unit, entry.Name())))
			}
		}
		errs = append(errs, s.store.Remove(ctx, unit))
	}
	return errors.Join(errs...)
}
