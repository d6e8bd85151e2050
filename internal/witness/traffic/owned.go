package traffic

import (
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// flagOwner is NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h: the table belongs to the socket
// that made it, and is removed with it.
const flagOwner = 2

// openOwned makes a table that belongs to the connection. Package nftables makes tables without
// flags only, so this message is made here.
func openOwned(table *nftables.Table) (*nftables.Conn, error) {

	return nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(socket *netlink.Conn) error {
		err := makeOwned(socket, table)
		if err != nil {
			err = errors.Join(err, socket.Close())
		}
		return err
	}))
}

// makeOwned sends a batch with the message NFT_MSG_NEWTABLE, and reads the kernel's answer.
func makeOwned(socket *netlink.Conn, table *nftables.Table) error {
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(table.Name), 0)},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(flagOwner)},
	})
	if err != nil {
		return err
	}
	// struct nfgenmsg: family, version, resource.
	edge := append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, binaryutil.BigEndian.PutUint16(unix.NFNL_SUBSYS_NFTABLES)...)
	head := []byte{byte(table.Family), unix.NFNETLINK_V0, 0, 0}
	if _, err := socket.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: edge},
		{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl}, Data: append(head, attributes...)},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: edge},
	}); err != nil {
		return err
	}
	_, err = socket.Receive() // Receive returns the kernel's error, if there is one
	return err
}
