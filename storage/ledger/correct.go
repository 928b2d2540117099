package ledger

// Correct finds the one bit by which a page differs from a page with the sum, and inverts it in place. ok is false, and the page
// unchanged, if there is no such bit.
//
// A CRC is linear: what a flipped bit changes in the sum depends only on its distance from the end, and for no two places in a page is it
// the same (CRC-32C tells all errors of three bits in up to 2^31 bits from none: P. Koopman, 32-Bit Cyclic Redundancy Codes for
// Internet Applications, 2002). Of damage of more bits, a share of 8 x length / 2^32 looks like one bit of another page: check
// what comes out.
func Correct(page []byte, sum uint32) (bit int64, ok bool) {
	diff := Sum(page) ^ sum
	if diff == 0 {
		return 0, false
	}
	var changes [8]uint32 // of the sum, by an inverted bit in the byte looked at
	for j := range changes {
		changes[j] = castagnoli[1<<j]
	}
	for i := len(page) - 1; i >= 0; i-- {
		for j, change := range changes {
			if change == diff {
				page[i] ^= 1 << j
				return int64(i)*8 + int64(j), true
			}
			changes[j] = castagnoli[byte(change)] ^ change>>8
		}
	}
	return 0, false
}
