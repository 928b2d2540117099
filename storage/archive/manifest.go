package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"tablekeeper/storage/ledger"
)

// StateDegraded marks the backup of a table that was recovered empty. Such a
// backup never supersedes another.
const StateDegraded = "degraded"

// A schema of this length is far beyond any real one; the cap keeps a hostile
// object from filling the memory.
const maxManifest = 32 << 20

// Manifest says what a backup holds. Sizes are in bytes.
type Manifest struct {
	Format  int       `json:"format"`
	Table   string    `json:"table"`
	Created time.Time `json:"created"` // when the snapshot was taken, by the clock; the key's time may be later

	PageSize  int   `json:"page_size"`
	PageCount int64 `json:"page_count"`
	FreePages int64 `json:"free_pages"` // of PageCount, written as zeros
	Size      int64 `json:"size"`       // of the SQLite file: PageSize x PageCount

	SHA256     string `json:"sha256"`      // of the SQLite file as written, hex
	SumsSHA256 string `json:"sums_sha256"` // of the page sums as written, hex

	Rows   map[string]int64 `json:"rows"`   // of each SQL table
	Schema []string         `json:"schema"` // CREATE statements

	SQLiteVersion string `json:"sqlite_version"`
	ToolVersion   string `json:"tool_version"`
	JournalMode   string `json:"journal_mode"`
	Encoding      string `json:"encoding"`
	AutoVacuum    string `json:"auto_vacuum,omitempty"` // none, full, incremental; "": not known
	UserVersion   int64  `json:"user_version"`
	ApplicationID int64  `json:"application_id"`

	State string `json:"state,omitempty"` // "" or StateDegraded
}

// Degraded says whether the table was in that state when the backup was taken.
func (m Manifest) Degraded() bool { return m.State == StateDegraded }

// clone gives the caller maps and slices of its own.
func (m Manifest) clone() Manifest {
	m.Rows = maps.Clone(m.Rows)
	m.Schema = append([]string(nil), m.Schema...)
	return m
}

// check refuses a manifest that contradicts itself.
func (m Manifest) check() error {
	switch {
	case !validTable(m.Table):
		return fmt.Errorf("table's name is %.100q", m.Table)
	case !validPageSize(m.PageSize):
		return fmt.Errorf("page size is %d", m.PageSize)
	case m.PageCount < 1 || m.PageCount > maxPageCount:
		return fmt.Errorf("page count is %d", m.PageCount)
	case m.Size != m.PageCount*int64(m.PageSize):
		return fmt.Errorf("size is %d, but %d pages of %d bytes are %d",
			m.Size, m.PageCount, m.PageSize, m.PageCount*int64(m.PageSize))
	case m.FreePages < 0 || m.FreePages > m.PageCount:
		return fmt.Errorf("%d of %d pages are free", m.FreePages, m.PageCount)
	case len(m.SHA256) != 2*sha256.Size || !isHex(m.SHA256):
		return fmt.Errorf("sha256 is %.100q", m.SHA256)
	case len(m.SumsSHA256) != 2*sha256.Size || !isHex(m.SumsSHA256):
		return fmt.Errorf("sha256 of the page sums is %.100q", m.SumsSHA256)
	case m.Created.IsZero():
		return errors.New("time of creation is missing")
	case m.State != "" && m.State != StateDegraded:
		return fmt.Errorf("state is %.100q", m.State)
	}
	return m.checkRows()
}

func (m Manifest) checkRows() error {
	for name, n := range m.Rows {
		if n < 0 {
			return fmt.Errorf("SQL table %.100q has %d rows", name, n)
		}
	}
	return nil
}

// payload is the content of the manifest's frame: the CRC-32C of the JSON
// (4 bytes, little endian), then the JSON.
func (m Manifest) payload() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(text) > maxManifest {
		return nil, fmt.Errorf("manifest: %d bytes of schema and row counts, at most %d fit", len(text), maxManifest)
	}
	out := binary.LittleEndian.AppendUint32(nil, ledger.Sum(text))
	return append(out, text...), nil
}

// parseManifest reads what payload wrote.
func parseManifest(b []byte) (Manifest, error) {
	if len(b) < ledger.SumSize {
		return Manifest{}, formatError("manifest is %d bytes long", len(b))
	}
	text := b[ledger.SumSize:]
	if ledger.Sum(text) != binary.LittleEndian.Uint32(b) {
		return Manifest{}, fmt.Errorf("%w: manifest", ErrSum)
	}
	if err := checkVersion(text); err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, formatError("manifest: %v", err)
	}
	if err := m.check(); err != nil {
		return Manifest{}, formatError("manifest: %v", err)
	}
	return m, nil
}

// checkVersion looks at nothing else of the manifest: the rest of a newer
// format may have changed its types.
func checkVersion(text []byte) error {
	var v struct {
		Format      int    `json:"format"`
		ToolVersion string `json:"tool_version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return formatError("manifest: %v", err)
	}
	if v.Format > Format {
		return fmt.Errorf("%w (format %d by version %.50q; this one reads up to format %d)",
			ErrNewer, v.Format, v.ToolVersion, Format)
	}
	if v.Format < 1 {
		return formatError("manifest: format is %d", v.Format)
	}
	return nil
}
