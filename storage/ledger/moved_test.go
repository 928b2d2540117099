package ledger

import "testing"

// What a page may be once a checkpoint has come so far. Pages 1 to 3 are settled with the sums 1, 2 and 3.
func TestMoved(t *testing.T) {
	staged := []Frame{
		{Page: 2, Sum: 4}, {Page: 4, Sum: 5, Pages: 4}, // frames 1 and 2: the table grows by page 4
		{Page: 2, Sum: 6}, {Page: 3, Sum: 7, Pages: 4}, // 3 and 4
	}
	for _, tc := range []struct {
		name        string
		moved, seen uint32
		unstaged    []Frame
		then        []Frame // staged afterwards
		want        map[uint32][]uint32
		pages       uint32
	}{
		{"nothing", 0, 4, nil, nil, map[uint32][]uint32{2: {2, 4, 6}, 3: {3, 7}, 4: {1, 2, 3, 4, 5, 6, 7, 8, 9}}, 3},
		{"a part", 2, 4, nil, nil, map[uint32][]uint32{1: {1}, 2: {2, 4, 6}, 3: {3, 7}, 4: {5}}, 4},
		{"a part, before there was more", 2, 2, nil, nil, map[uint32][]uint32{2: {4, 6}, 3: {3, 7}, 4: {5}}, 4},
		{"all", 4, 4, nil, nil, map[uint32][]uint32{1: {1}, 2: {6}, 3: {7}, 4: {5}}, 4},
		{"all, and a newer version was there", 4, 5, []Frame{{Page: 3, Sum: 8, Pages: 4}}, nil, map[uint32][]uint32{2: {6}, 3: {3, 7}, 4: {5}}, 4},
		{"all, and a newer version came later", 4, 4, nil, []Frame{{Page: 3, Sum: 8, Pages: 4}}, map[uint32][]uint32{2: {6}, 3: {7, 8}, 4: {5}}, 4},
		{"all, and the newer version is not known", 4, 5, nil, nil, map[uint32][]uint32{2: {2, 4, 6}, 3: {3, 7}}, 3},
		{"all, but a page was cut off", 4, 5, []Frame{{Page: 1, Sum: 8, Pages: 3}}, nil, map[uint32][]uint32{2: {6}, 3: {7}, 4: {1, 2, 3, 4, 5, 6, 7, 8, 9}}, 3},
		{"all, and a page is cut off", 4, 4, nil, []Frame{{Page: 1, Sum: 8, Pages: 3}}, map[uint32][]uint32{2: {6}, 3: {7}, 4: {1, 2, 3, 4, 5, 6, 7, 8, 9}}, 3},
		{"all, and a page is cut off and comes back", 4, 4, nil, []Frame{{Page: 1, Sum: 8, Pages: 2}, {Page: 3, Sum: 9, Pages: 4}},
			map[uint32][]uint32{2: {6}, 3: {1, 2, 3, 4, 5, 6, 7, 8, 9}, 4: {1, 2, 3, 4, 5, 6, 7, 8, 9}}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := create(t, Options{Sums: Sums{1, 2, 3}})
			must(t, l.Stage(genA, 1, staged))
			l.Moved(genB, 4, 4, nil) // of another life of the WAL: it says nothing of this one
			l.Moved(genA, tc.moved, tc.seen, tc.unstaged)
			if len(tc.then) > 0 {
				must(t, l.Stage(genA, 5, tc.then))
			}
			frozen := l.Freeze()
			for page, want := range tc.want {
				wantAccepted(t, l, page, want...)
				for _, sum := range want {
					if !frozen(page, sum) {
						t.Errorf("page %d: %d is not accepted any more", page, sum)
					}
				}
			}
			if n := l.Pages(); n != tc.pages {
				t.Errorf("%d pages, want %d", n, tc.pages)
			}
			// It is not written down: whoever comes after a crash accepts what may be there.
			wantAccepted(t, reopen(t, path), 2, 2, 4, 6)
			must(t, l.Settle(noGrowth))
			wantAccepted(t, l, 2, 6)
		})
	}
}

// Checkpoints come a part of the way each.
func TestMovedInParts(t *testing.T) {
	l, _ := create(t, Options{Sums: Sums{1, 2}})
	must(t, l.Stage(genA, 1, []Frame{{Page: 1, Sum: 3}, {Page: 2, Sum: 4}, {Page: 3, Sum: 5, Pages: 3}, {Page: 2, Sum: 6, Pages: 3}}))
	l.Moved(genA, 3, 4, nil) // page 2 was passed over
	wantAccepted(t, l, 1, 3)
	wantAccepted(t, l, 2, 2, 4, 6)
	wantAccepted(t, l, 3, 5)
	l.Moved(genA, 4, 4, nil)
	wantAccepted(t, l, 2, 6)
	must(t, l.Stage(genA, 5, []Frame{{Page: 1, Sum: 7}, {Page: 3, Sum: 8, Pages: 3}}))
	for page, moving := range map[uint32]bool{1: true, 2: false, 3: true} {
		if l.InFlight(page) != moving {
			t.Errorf("page %d is in flight: %v", page, !moving)
		}
	}
	l.Moved(genA, 6, 6, nil)
	wantAccepted(t, l, 1, 7)
	wantAccepted(t, l, 2, 6)
	wantAccepted(t, l, 3, 8)
	must(t, l.Distrust([]uint32{3}))
	wantAccepted(t, l, 3, distrusted)
	must(t, l.Settle(noGrowth))
	must(t, l.Stage(genB, 1, []Frame{{Page: 1, Sum: 9, Pages: 3}}))
	wantAccepted(t, l, 1, 7, 9)
	l.Moved(genB, 1, 1, nil)
	wantAccepted(t, l, 1, 9)
}
