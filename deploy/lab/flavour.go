package lab

import (
	"cmp"
	"slices"
	"strings"

	"heliotrope/deploy/lab/image"
)

// flavour is what a testbed's hypervisor decides.
type flavour struct {
	// boot is how QEMU boots a site's host: its kernel arguments, with words
	// more for the host's kernel.
	boot func(img image.Image, words ...string) []string
	// banner is what a booting host's console must soon show, if anything is
	// certain. It ends a trial boot early where nothing comes.
	banner string
	// ready is the command that shows that a host is ready for work.
	ready []string
	// transport of migrations, for the inventory.
	transport string
	// image is the hypervisor whose recipe the nodes boot; "" is the flavour's own.
	image string
	// vcenter says that the hosts are managed by the lab's vCenter: nobody drives
	// them himself.
	vcenter bool
}

// VSphere is the flavour of KVM's hosts behind the lab's vCenter. No ESXi host is
// in it.
const VSphere = "vsphere"

var listDomains = []string{"virsh", "-q", "-c", "qemu:///system", "list"}

// flavours by the hypervisor's name.
var flavours = map[string]flavour{
	image.Xen: {boot: xenArgs, banner: "Xen", ready: []string{"xl", "list"}, transport: "tcp"},
	image.KVM: {boot: linuxArgs, ready: listDomains},
	VSphere:   {boot: linuxArgs, ready: listDomains, image: image.KVM, vcenter: true},
}

// Hypervisors lists what a testbed's hosts can run, or be taken for.
func Hypervisors() []string { return []string{image.Xen, image.KVM, VSphere} }

func (o Options) flavour() flavour { return flavours[o.Hypervisor] }

// recipe is what the testbed's nodes boot.
func (o Options) recipe() image.Recipe {
	recipe, _ := image.RecipeOf(cmp.Or(o.flavour().image, o.Hypervisor))
	recipe.Mirror = o.Mirror
	return recipe
}

func (o Options) knownHypervisor() bool { return slices.Contains(Hypervisors(), o.Hypervisor) }

// probe is the command that shows that a node is ready for work.
func (f flavour) probe(name string) []string {
	if name == Store {
		return []string{"test", "-d", "/sys/kernel/config"}
	}
	return f.ready
}

// anyOf is a list of words as one reads it in a sentence.
func anyOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
