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
