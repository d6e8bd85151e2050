package node

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestParseMounts: the last mount comes first, and a path that only looks like one of ours is left out.
func TestParseMounts(t *testing.T) {
	const text = "/dev/vda / ext4 rw 0 0\n" +
		"a /var/lib/heliotrope/lab tmpfs rw 0 0\n" +
		"b /var/lib/heliotrope/lab/nfs/mnt nfs4 rw 0 0\n" +
		"c /var/lib/heliotrope/lab-2/nfs/mnt nfs4 rw 0 0\n" +
		"d /var/lib/heliotrope/lab/../../../../etc nfs4 rw 0 0\nhalf\n"
	assert.Equal(t, []Mount{{"b", "/var/lib/heliotrope/lab/nfs/mnt", "nfs4"}, {"a", "/var/lib/heliotrope/lab", "tmpfs"}}, parseMounts(text, "/var/lib/heliotrope/lab"))
	assert.Empty(t, parseMounts("", "/var/lib/heliotrope/lab"))
}
