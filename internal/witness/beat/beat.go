// Package beat is what the witnesses in the guest and on the sites' hosts tell
// each other over UDP: numbered heartbeats from the guest to site A, with what
// is in flight of its load, and the guest's time for whoever asks, who says
// whether the guest runs at that site.
//
// It promises that a heartbeat carries the number of a ledger's record only
// after the disk has acknowledged that record; that it is sent on time or late,
// but never made up for: after a stall the numbers go on without a hole, at the
// normal pace; that times of arrival are the kernel's, where it gives them; and
// that datagrams of another attempt are dropped and counted.
//
// Dangerous: a token is no secret and nothing is encrypted: this is for the
// test network. Heartbeats are written down as they come: twice, late, or in
// another order. A guest's clock may be set while an exchange is under way; one
// reading of a clock proves little.
package beat
