package shelf

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
)

// oneAFile keeps one candidate for each file: that of the most specific source, the first of equals. Two names of one
// inode are a danger, not a choice: SQLite would keep a write-ahead log for each.
func (c *scan) oneAFile(all []candidate) []candidate {
	byPath := map[string]candidate{}
	for _, file := range all {
		if best, ok := byPath[file.path]; !ok || file.kind > best.kind {
			byPath[file.path] = file
		}
	}
	byInode := map[inode][]candidate{}
	var files []candidate
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		file := byPath[path]
		if file.info == nil {
			files = append(files, file)
			continue
		}
		if id, ok := inodeOf(file.info); ok {
			byInode[id] = append(byInode[id], file)
			continue
		}
		files = append(files, file)
	}
	for _, same := range byInode {
		if len(same) > 1 {
			same = c.oneOf(mergeAliases(same), ReasonHardLink, "one file with several names: SQLite would keep a write-ahead log for each",
				"keep one of the names")
		}
		files = append(files, same...)
	}
	slices.SortFunc(files, func(a, b candidate) int { return cmp.Compare(a.path, b.path) })
	return files
}

// mergeAliases drops the paths that differ only by a linked folder on the way.
func mergeAliases(same []candidate) []candidate {
	best := map[string]candidate{}
	for _, file := range same {
		real, err := filepath.EvalSymlinks(file.path)
		if err != nil {
			real = file.path
		}
		if other, ok := best[real]; !ok || file.kind > other.kind {
			best[real] = file
		}
	}
	return slices.SortedFunc(maps.Values(best), func(a, b candidate) int { return cmp.Compare(a.path, b.path) })
}

// oneAName keeps one candidate for each name.
func (c *scan) oneAName(files []candidate) []candidate {
	byName := map[string][]candidate{}
	for _, file := range files {
		byName[file.name] = append(byName[file.name], file)
	}
	var kept []candidate
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		kept = append(kept, c.oneOf(byName[name], ReasonSameName, "the name "+name+" would be that of several files",
			"give each a `name:` of its own in the configuration")...)
	}
	return kept
}

// oneOf lets the one go on that has the best claim, and reports the rest: a name that was given beats one taken from the
// file, and a table that was backed up before beats a newcomer, so that nobody can end its backups by adding a file. Of
// equals none is taken: which is meant is not for us to guess.
func (c *scan) oneOf(rivals []candidate, reason Reason, detail, hint string) []candidate {
	if len(rivals) < 2 {
		return rivals
	}
	slices.SortStableFunc(rivals, func(a, b candidate) int { return b.claim() - a.claim() })
	winners := rivals[:1]
	if rivals[0].claim() == rivals[1].claim() {
		winners = nil
	}
	for i, file := range rivals[len(winners):] {
		var others []string
		for j, other := range rivals {
			if j != i+len(winners) {
				others = append(others, other.path)
			}
		}
		c.problem(Problem{Path: file.path, Reason: reason, Detail: detail, Hint: hint, Others: others})
	}
	return winners
}

func (c candidate) claim() int {
	claim := 0
	if c.explicit {
		claim += 2
	}
	if c.recorded {
		claim++
	}
	return claim
}
