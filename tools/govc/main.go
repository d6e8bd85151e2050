// Command govc is govmomi's own client of a vCenter, the commands of its package
// cli, in the version that the programs use: a client that is not ours for the lab's
// vCenter. The module govc itself is not served by the Go module proxy. It has a
// module of its own so that the main one keeps only what the programs need.
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
