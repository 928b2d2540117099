package dir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"tablekeeper/storage/bucket"
)

const (
	recordFormat = 1
	recordLimit  = 1 << 20 // bytes of a record file: far more than tags may need
)

// records is the content of the file beside an object. There may be two versions in it while one replaces the other: the name of
// the object's file changes hands at one instant, and each version must then find its own.
type records struct {
	Format   int      `json:"format"`
	Versions []record `json:"versions"`
}

// record is what is known of one version of an object, bound to it by size and time of change.
type record struct {
	Size     int64             `json:"size"`
	Modified time.Time         `json:"modified"`
	SHA256   string            `json:"sha256"`
	CRC32C   string            `json:"crc32c"`
	Tags     map[string]string `json:"tags,omitempty"`
}

func (r record) describes(file fs.FileInfo) bool {
	return r.Size == file.Size() && r.Modified.Equal(file.ModTime())
}

// recordName is the record file of a key: .bucket/<name>.json in the same folder.
func recordName(key string) string {
	folder, name := "", key
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		folder, name = key[:i+1], key[i+1:]
	}
	return folder + ours + "/" + name + ".json"
}

// readRecord finds the record of the version that is in file. Without one (another program wrote the file) it is made of what the file
// system says; its SHA256 is then "".
func readRecord(d disk, key string, file fs.FileInfo) (record, error) {
	plain := record{Size: file.Size(), Modified: file.ModTime()}
	content, err := readAll(d, recordName(key), recordLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return plain, nil
	}
	if err != nil {
		return record{}, err
	}
	known := parseRecords(content)
	for _, r := range known.Versions {
		if r.describes(file) {
			return r, nil
		}
	}
	return plain, nil
}

// parseRecords gives no versions of what it cannot read: the object beside is sound all the same, and its tags only ever permit a removal.
func parseRecords(content []byte) records {
	var known records
	if json.Unmarshal(content, &known) != nil || known.Format != recordFormat {
		return records{}
	}
	return known
}

// writeRecords replaces a key's record file, durably.
func writeRecords(d disk, key string, versions ...record) error {
	content, err := json.Marshal(records{recordFormat, versions})
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	temp, err := writeTemp(d, "record", append(content, '\n'))
	if err != nil {
		return err
	}
	name := recordName(key)
	if err := d.Rename(temp, name); err != nil {
		return errors.Join(err, d.Remove(temp))
	}
	return d.SyncDir(folderOf(name))
}

func (r record) etag() string {
	if r.SHA256 != "" {
		return r.SHA256
	}
	return fmt.Sprintf("w%x-%x", r.Size, r.Modified.UnixNano())
}

func (r record) info(key string) bucket.Info {
	tags := r.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return bucket.Info{Key: key, Size: r.Size, ETag: r.etag(), Modified: r.Modified, SHA256: r.SHA256, CRC32C: r.CRC32C, Tags: tags}
}
