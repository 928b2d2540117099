package ledger

// pageSet is a set of page numbers.
type pageSet struct {
	words []uint64
	count int
}

func (s *pageSet) has(page uint32) bool {
	i := int(page / 64)
	return i < len(s.words) && s.words[i]&(1<<(page%64)) != 0
}

func (s *pageSet) add(page uint32) {
	i := int(page / 64)
	if i >= len(s.words) {
		s.words = append(s.words, make([]uint64, i+1-len(s.words))...)
	}
	if s.words[i]&(1<<(page%64)) == 0 {
		s.words[i] |= 1 << (page % 64)
		s.count++
	}
}

func (s *pageSet) remove(page uint32) {
	if s.has(page) {
		s.words[page/64] &^= 1 << (page % 64)
		s.count--
	}
}

// addRanges ignores what lies beyond pages, so that hostile input costs no memory.
func (s *pageSet) addRanges(ranges []pageRange, pages int) {
	for _, r := range ranges {
		for p := uint64(max(r.first, 1)); p <= min(uint64(r.last), uint64(pages)); p++ {
			s.add(uint32(p))
		}
	}
}

// ranges lists the set's members as runs. If there are more than limit, runs that lie close together are joined: pages
// between them lose their proof, which errs on the safe side.
func (s *pageSet) ranges(limit int) []pageRange {
	for gap := uint32(1); ; gap *= 2 {
		if out := s.runs(gap); len(out) <= limit {
			return out
		}
	}
}

func (s *pageSet) runs(gap uint32) []pageRange {
	var out []pageRange
	for i, word := range s.words {
		for bit := uint32(0); word != 0; bit, word = bit+1, word>>1 {
			if word&1 == 0 {
				continue
			}
			page := uint32(i)*64 + bit
			if n := len(out); n > 0 && page-out[n-1].last <= gap {
				out[n-1].last = page
			} else {
				out = append(out, pageRange{page, page})
			}
		}
	}
	return out
}
