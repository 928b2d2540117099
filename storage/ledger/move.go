package ledger

import "fmt"

// Move gives the ledger's file another name, in place of whatever has it, durably. After an error it may have either name.
func (l *Ledger) Move(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.disk.Rename(l.path, path); err != nil {
		return fmt.Errorf("ledger %s: move to %s: %w", l.path, path, err)
	}
	l.path = path
	return nil
}

// Absorb records, durably, that frames are in the main file, and that nothing is staged any more: for a file that nobody has open
// but its maker, and that will be used with another WAL than the one of gen. Errors: ErrGeneration.
func (l *Ledger) Absorb(gen Generation, first uint32, frames []Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := record{kind: kindStage, gen: gen, first: first, frames: frames}
	err := l.admit(r)
	if err == nil {
		err = l.log(r, false)
	}
	if err == nil {
		l.stage(r)
		l.settle()
		err = l.log(record{kind: kindSettle, gen: l.gen, first: l.staged}, true)
	}
	if err != nil {
		return fmt.Errorf("ledger %s: absorb %d frames: %w", l.path, len(frames), err)
	}
	return nil
}
