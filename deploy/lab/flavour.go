package lab

import (
	"cmp"
	"slices"
	"strings"

	"heliotrope/deploy/lab/image"
)

// flavour is everything that depends on a testbed's hypervisor.
type flavour struct {
	// boot returns QEMU's arguments that boot a site's host; words are added to the arguments of
	// the host's kernel.
	boot func(img image.Image, words ...string) []string
	// banner is a text that the console of a booting host must show soon; "" when no text is
	// certain. It lets a trial boot that shows nothing end early.
	banner string
	// ready is the command that succeeds when a host is ready for work.
	ready []string
	// transport is the transport of migrations, for the inventory.
	transport string
	// image is the hypervisor whose recipe the nodes boot; "": the flavour's own.
	image string
	// vcenter says that the lab's vCenter manages the hosts: nothing else drives them.
	vcenter bool
}

// VSphere is the flavour with KVM's hosts behind the lab's vCenter. It has no ESXi host.
const VSphere = "vsphere"

var listDomains = []string{"virsh", "-q", "-c", "qemu:///system", "list"}

// flavours by the hypervisor's name.
var flavours = map[string]flavour{
	image.Xen: {boot: xenArgs, banner: "Xen", ready: []string{"xl", "list"}, transport: "tcp"},
	image.KVM: {boot: linuxArgs, ready: listDomains},
	VSphere:   {boot: linuxArgs, ready: listDomains, image: image.KVM, vcenter: true},
}

// Hypervisors lists what a testbed's hosts can run, or can present themselves as.
func Hypervisors() []string { return []string{image.Xen, image.KVM, VSphere} }

func (o Options) flavour() flavour { return flavours[o.Hypervisor] }

// recipe returns the recipe of the image that the testbed's nodes boot.
func (o Options) recipe() image.Recipe {
	recipe, _ := image.RecipeOf(cmp.Or(o.flavour().image, o.Hypervisor))
	recipe.Mirror = o.Mirror
	return recipe
}

func (o Options) knownHypervisor() bool { return slices.Contains(Hypervisors(), o.Hypervisor) }

// probe returns the command that succeeds when a node is ready for work.
func (f flavour) probe(name string) []string {
	if name == Store {
		return []string{"test", "-d", "/sys/kernel/config"}
	}
	return f.ready
}

// anyOf returns a list of words as it is written in a sentence.
func anyOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
