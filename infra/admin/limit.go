package admin

import (
	"net/netip"
	"sync"
	"time"
)

const (
	freeFailures = 5               // that nobody is made to wait for
	failureCost  = 6 * time.Second // one more failure is forgiven after so long
	maxPeers     = 10_000          // that are remembered
)

// failures counts wrong tokens by the address of the peer, and by nothing that a client can write into its request.
type failures struct {
	mu    sync.Mutex
	peers map[netip.Prefix]time.Time // until when the failures so far weigh
}

func newFailures() *failures { return &failures{peers: map[netip.Prefix]time.Time{}} }

// wait is for how long a peer has to wait before it may try again; 0: not at all.
func (f *failures) wait(peer netip.Prefix, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	until, known := f.peers[peer]
	if !known {
		return 0
	}
	return max(0, until.Sub(now)-(freeFailures-1)*failureCost)
}

// add counts a failure.
func (f *failures) add(peer netip.Prefix, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.peers) >= maxPeers {
		f.forget(now)
	}
	until := f.peers[peer]
	if until.Before(now) {
		until = now
	}
	// However often somebody tries: it is over soon after the last time.
	f.peers[peer] = minTime(until.Add(failureCost), now.Add(2*freeFailures*failureCost))
}

// forget makes room: those whose failures no longer weigh, and if that is not enough, everybody.
func (f *failures) forget(now time.Time) {
	for peer, until := range f.peers {
		if until.Before(now) {
			delete(f.peers, peer)
		}
	}
	if len(f.peers) >= maxPeers {
		clear(f.peers)
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// peerOf is the network of a peer: its address, or the /64 that whoever has one IPv6 address has.
func peerOf(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // not TCP: all of those together
	}
	bits := 32
	if a := at.Addr().Unmap(); a.Is6() {
		bits = 64
	}
	p, err := at.Addr().Unmap().WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
