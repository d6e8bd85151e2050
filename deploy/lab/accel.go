package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/poll"
)

// Accel is how QEMU executes a node's instructions.
type Accel string

// The ways to run a node. AccelAuto decides by a trial boot.
const (
	AccelAuto Accel = "auto"
	AccelKVM  Accel = "kvm"
	AccelTCG  Accel = "tcg"
)

// Limits of the trial boot. With working KVM a hypervisor prints its banner within a second, and
// its control domain or kernel is up within a few more.
const (
	trialBannerLimit = 4 * time.Second
	trialLimit       = 20 * time.Second
)

// cpu returns the processor model of a node. Under TCG, `max` crashes a Xen 4.17 control domain,
// and EPYC and Opteron_G5 hang; qemu64 with nested paging and the instructions that make ssh fast
// works. Under KVM it is the model of this machine.
func (a Accel) cpu() string {
	if a == AccelKVM {
		return "host"
	}
	return "qemu64,+svm,+npt,+aes,+pclmulqdq,+ssse3,+sse4.1,+sse4.2,+popcnt"
}

// heartbeatMs returns how often the guest's witness can send without taking much of the guest's
// I/O. Under emulation, waking the guest and sending a datagram costs the single processor of its
// host about as much as half an I/O (docs/instruments.md).
func (a Accel) heartbeatMs() int {
	if a == AccelKVM {
		return 10
	}
	return 100
}

func (a Accel) args() []string {
	if a == AccelKVM {
		return []string{"-accel", "kvm", "-cpu", a.cpu()}
	}
	return []string{"-accel", "tcg,thread=multi,tb-size=256", "-cpu", a.cpu()}
}

// decideAccel finds out by a trial boot of limited length whether KVM works here for a hypervisor
// that runs its own guests; otherwise it returns AccelTCG. The existence of /dev/kvm alone proves
// nothing.
func (l *Lab) decideAccel(ctx context.Context, img image.Image, progress func(string)) Accel {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		progress("acceleration: tcg, because KVM cannot be used (" + err.Error() + ")")
		return AccelTCG
	}
	_ = kvm.Close()
	if !nestedKVM() {
		progress("acceleration: tcg, because KVM here runs no guest of a guest (no module with nested=1)")
		return AccelTCG
	}
	if err := l.trialBoot(ctx, img); err != nil {
		progress("acceleration: tcg, because a trial boot under KVM failed: " + err.Error())
		return AccelTCG
	}
	progress("acceleration: kvm, proved by a trial boot")
	return AccelKVM
}

// nestedKVM reports whether a KVM module offers virtualisation to its guests.
func nestedKVM() bool {
	for _, module := range []string{"kvm_amd", "kvm_intel"} {
		value, err := os.ReadFile(filepath.Join("/sys/module", module, "parameters/nested"))
		if err == nil && strings.ContainsAny(string(value), "1Y") {
			return true
		}
	}
	return false
}

// trialBoot boots a host under KVM, without a disk. The initrd's init prints on the console
// whether guests could run there.
func (l *Lab) trialBoot(ctx context.Context, img image.Image) error {
	trial := node{lab: l, name: "trial"}
	if err := os.MkdirAll(trial.dir(), 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(trial.dir()) //nolint:errcheck // nothing of it is needed
	args := machineArgs(trial, l.Options, AccelKVM)
	args = append(args, l.Options.flavour().boot(img, "heliotrope.trial")...)
	ended, err := trial.start(args)
	if err != nil {
		return err
	}
	defer func() { _ = trial.stop(context.WithoutCancel(ctx)) }()

	banner, started := l.Options.flavour().banner, time.Now()
	return poll.Until(ctx, 50*time.Millisecond, func(context.Context) (bool, error) {
		text := trial.consoleTail(1000)
		switch took := time.Since(started); {
		case strings.Contains(text, "heliotrope: trial hvm"):
			return true, nil
		case strings.Contains(text, "heliotrope: trial"):
			return false, errors.New("the host came up without hardware virtualisation")
		case took > trialBannerLimit && !strings.Contains(text, banner):
			return false, fmt.Errorf("nothing on the console for %s", trialBannerLimit)
		case took > trialLimit:
			return false, fmt.Errorf("the host did not come up in %s", trialLimit)
		}
		return false, over(ended)
	})
}
