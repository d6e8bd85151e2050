package xen

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/hypervisor"
)

// TestEnding: only domains with our name and our UUID are destroyed. A real shell reads
// the output of xl.
func TestEnding(t *testing.T) {
	uuid := hypervisor.UUID("lab.vm").String()
	const xl = `
xl() {
	case $1 in
	vm-list) cat << END
UUID                                  ID    name
00000000-0000-0000-0000-000000000000  0    Domain-0
$uuid  5    lab.vm
$uuid  6    lab.vm--incoming
$uuid  7    a stranger's
11111111-2222-3333-4444-555555555555  8    lab.vm
END
	;;
	*) echo "$*" ;;
	esac
}
`
	output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "uuid=$2\n"+xl+ending, "sh", "lab", uuid).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "destroy 5\ndestroy 6\n", string(output))
}
