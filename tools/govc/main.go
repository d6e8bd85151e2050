// Command govc is govmomi's own client of a vCenter, built from the commands in govmomi's
// package cli in the version that our programs use. It lets tests use the lab's vCenter
// with a client that is not ours. The Go module proxy does not serve the module govc
// itself. This command is a module of its own so that the main module has only what the
// programs need.
package main

import (
	"os"

	"github.com/vmware/govmomi/cli"
	_ "github.com/vmware/govmomi/cli/about"
	_ "github.com/vmware/govmomi/cli/events"
	_ "github.com/vmware/govmomi/cli/object"
	_ "github.com/vmware/govmomi/cli/task"
	_ "github.com/vmware/govmomi/cli/vm"
)

func main() { os.Exit(cli.Run(os.Args[1:])) }
