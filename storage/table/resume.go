package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// What Resume did.
const (
	ResumeNothing  = ""          // there was nothing to do
	ResumeFinished = "finished"  // an interrupted swap had put the new file in place: it is closed
	ResumeUndone   = "undone"    // an interrupted swap had not: the old file is in place
	ResumeForeign  = "abandoned" // a third file has the table's name: it was left alone, and the old one is in quarantine
	ResumeCleaned  = "cleaned"   // temporary files were left over
)

// Resume settles what a process that died left behind of its work on the table at path: an interrupted swap is finished or undone,
// temporary files are removed. It can itself be interrupted at any point and called again. To be called before the first work on a table.
//
// ErrLocked: somebody is at work, so that nothing is left over. ErrIntent: nothing was touched. ErrInUse: what has to be put
// back cannot be, since somebody has the table open.
func Resume(ctx context.Context, path string) (action string, err error) {
	real, err := realPath(path)
	if err != nil {
		return "", fmt.Errorf("resume %s: %w", path, err)
	}
	if _, err := os.Lstat(StateDir(real)); isGone(err) {
		return ResumeNothing, nil
	}
	held, err := Lock(ctx, real, Owner{Function: "resume"})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	return held.Resume(ctx)
}

// Resume is for those who have the lock.
func (h *Held) Resume(ctx context.Context) (action string, err error) {
	action, err = resume(ctx, disk{}, h.path)
	if err != nil {
		return action, fmt.Errorf("resume %s: %w", h.path, err)
	}
	return action, nil
}

// Unfinished returns the paths of the tables in a folder for which there is something to Resume. It reads the state folder
// once; Resume reads it for each table.
func Unfinished(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, StateFolder))
	if err != nil && !isGone(err) {
		return nil, fmt.Errorf("look for interrupted work: %w", err)
	}
	var paths []string
	for _, entry := range entries {
		if m := workName.FindStringSubmatch(entry.Name()); m != nil {
			paths = append(paths, filepath.Join(dir, m[1]))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// workName are the names of intents and temporary files.
var workName = regexp.MustCompile(`^(.+?)(?:\.intent|` + temporaryPattern + `)$`)

func resume(ctx context.Context, d disk, real string) (string, error) {
	in, err := readIntent(real)
	if err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	action := ResumeNothing
	if in != nil {
		s := &swapper{d: d, path: real, in: *in}
		if action, err = s.settle(); err != nil {
			return "", err
		}
	}
	cleaned, err := clean(d, real)
	if cleaned && action == ResumeNothing {
		action = ResumeCleaned
	}
	return action, err
}

// settle finishes or undoes a swap, as far as it came, and removes the intent last.
func (s *swapper) settle() (string, error) {
	action, err := s.decide()
	if err != nil {
		return "", err
	}
	return action, s.end()
}

func (s *swapper) decide() (string, error) {
	now, err := inode(s.path)
	if err != nil {
		return "", err
	}
	switch {
	case now == s.in.NewInode:
		return ResumeFinished, s.finish()
	case now == s.in.OldInode: // both 0: there was none, and there is none
		return ResumeUndone, s.undo()
	case now != 0:
		return ResumeForeign, nil
	}
	kept, err := inode(s.kept())
	if err == nil && kept != s.in.OldInode {
		err = fmt.Errorf("neither the table nor its quarantine has the old file: %w", fs.ErrNotExist)
	}
	if err == nil {
		err = s.d.link(s.kept(), s.path)
	}
	if err != nil {
		return "", err
	}
	return ResumeUndone, s.undo()
}

// inode returns 0 if there is no such file.
func inode(path string) (uint64, error) {
	id, err := identify(path)
	if isGone(err) {
		return 0, nil
	}
	return id.Ino, err
}

func (s *swapper) finish() error {
	if err := s.d.syncDir(s.dir()); err != nil {
		return err
	}
	left, err := inode(s.newFile())
	if err != nil || left != s.in.NewInode {
		return err
	}
	return s.d.remove(s.newFile())
}

// undo gives back what went aside, and empties the quarantine.
func (s *swapper) undo() error {
	for _, ending := range []string{"-wal", "-journal"} {
		if err := s.giveBack(s.kept()+ending, s.path+ending); err != nil {
			return err
		}
	}
	if err := s.d.syncDir(s.dir()); err != nil {
		return err
	}
	if !s.keeps() {
		return nil
	}
	if err := s.d.remove(s.kept()); err != nil {
		return err
	}
	err := s.d.remove(s.quarantine())
	if errors.Is(err, fs.ErrExist) { // not empty: it keeps what could not be given back
		return nil
	}
	return err
}

func (s *swapper) giveBack(kept, to string) error {
	was, err := inode(kept)
	if was == 0 || err != nil {
		return err
	}
	now, err := inode(to)
	if err != nil {
		return err
	}
	if now == 0 {
		if err := s.giveBackUnseen(kept, to); err != nil {
			return err
		}
		now = was
	}
	if now != was {
		return nil // somebody has begun a new one: the old one stays in quarantine
	}
	return s.d.remove(kept)
}

// giveBackUnseen needs the table alone: under an open connection no WAL may appear.
func (s *swapper) giveBackUnseen(kept, to string) error {
	if s.in.OldInode == 0 {
		return s.d.link(kept, to)
	}
	alone, err := s.proveSoon()
	if err != nil {
		return err
	}
	return errors.Join(s.d.link(kept, to), alone.release())
}

// resumeWait is how long Resume waits for others to close a table of which it has a WAL to give back.
const resumeWait = 2 * time.Second

func (s *swapper) proveSoon() (*sole, error) {
	waiting, cancel := context.WithTimeout(context.Background(), resumeWait)
	defer cancel()
	for {
		alone, err := prove(s.d, s.path, true, "")
		if !errors.Is(err, ErrInUse) || pause(waiting, lockPoll) != nil {
			return alone, err
		}
	}
}

// clean removes temporary files of the table, and empty folders in its quarantine. The table's lock is held: nobody is at work.
func clean(d disk, real string) (cleaned bool, err error) {
	entries, err := os.ReadDir(StateDir(real))
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() && isTemporary(entry.Name(), filepath.Base(real)) {
			if err := d.remove(filepath.Join(StateDir(real), entry.Name())); err != nil {
				return cleaned, err
			}
			cleaned = true
		}
	}
	kept, err := os.ReadDir(QuarantineDir(real))
	if err != nil && !isGone(err) {
		return cleaned, err
	}
	for _, entry := range kept {
		if _, _, ok := parseQuarantineName(entry.Name()); ok && entry.IsDir() {
			err := d.remove(filepath.Join(QuarantineDir(real), entry.Name()))
			if err != nil && !errors.Is(err, fs.ErrExist) { // it is not empty
				return cleaned, err
			}
		}
	}
	return cleaned, nil
}
