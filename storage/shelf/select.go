package shelf

import (
	"errors"
	"fmt"
	"path"
)

// Select is the tables that the patterns name, each once, by name. A pattern is a name or a glob ("app-*", "*"); none at
// all means every table. A pattern that finds nothing is an *UnknownError, unless it is "*".
func (s *Shelf) Select(patterns []string) ([]Table, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	chosen := make([]bool, len(s.tables))
	var errs []error
	for _, pattern := range patterns {
		errs = append(errs, s.choose(pattern, chosen))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	tables := []Table{}
	for i, t := range s.tables {
		if chosen[i] || len(patterns) == 0 {
			tables = append(tables, t)
		}
	}
	return tables, nil
}

func (s *Shelf) choose(pattern string, chosen []bool) error {
	if !hasMeta(pattern) {
		i, ok := s.index(pattern)
		if !ok {
			return s.unknown(pattern)
		}
		chosen[i] = true
		return nil
	}
	any := pattern == "*"
	for i, t := range s.tables {
		fits, err := path.Match(pattern, t.Name)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
		chosen[i] = chosen[i] || fits
		any = any || fits
	}
	if !any {
		return &UnknownError{Name: pattern}
	}
	return nil
}
