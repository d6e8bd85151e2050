// Package beat is the communication over UDP between the witness in the guest and those on the
// sites' hosts. The guest sends numbered heartbeats to site A, which include the state of its
// load's I/Os in flight. A host asks the guest for its time, and tells it with the question
// whether the guest runs at that host's site. How often, and on which port, is in package witness
// (config.go).
//
// It promises that a heartbeat carries the number of a ledger's record only after the disk has
// acknowledged that record; that a heartbeat is sent on time or late, and a missed one is never
// made up for: after a stall the numbers continue without a gap, at the normal pace; that times
// of arrival are the kernel's, if the kernel provides them; and that datagrams of another attempt
// are dropped and counted.
//
// Dangerous: a token is no secret and nothing is encrypted, so this is for the test network only.
// Heartbeats are recorded as they arrive: twice, late, or in another order. A guest's clock may
// be set during an exchange; one reading of a clock proves little.
package beat
