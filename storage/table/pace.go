package table

import (
	"encoding/json"
	"math"
	"os"
	"time"
)

const (
	// firstPace is what a VACUUM is trusted to do before it has been seen, in bytes in use a second. Measured on a local disk: 76
	// to 190 MB/s, the slowest with many small rows or a busy disk.
	firstPace = 50e6
	// firstPutIn is the same for putting in the pages of a copy that is there already.
	firstPutIn = 100e6
	// paceCaution is how much of what a table's last VACUUM did is expected of the next one.
	paceCaution = 0.7
	slowestPace = 1e5
	fastestPace = 500e6
	paceLearnt  = 4 << 20 // bytes: a VACUUM of less says nothing about the pace of a larger one
)

// pace is how fast this table's last compactions were, in bytes in use a second of held up writers; 0: not known.
type pace struct {
	Vacuum float64 `json:"bytes_per_second"`
	PutIn  float64 `json:"put_in_bytes_per_second,omitempty"`
}

// speed is 0 if so few bytes tell nothing.
func speed(bytes int64, took time.Duration) float64 {
	if bytes < paceLearnt {
		return 0
	}
	return float64(bytes) / max(took.Seconds(), 1e-3)
}

// readPace returns what is expected of the next compaction of the table at path.
func readPace(path string) pace {
	p := recallPace(path)
	return pace{Vacuum: cautious(p.Vacuum, firstPace), PutIn: cautious(p.PutIn, firstPutIn)}
}

func cautious(seen, first float64) float64 {
	if !(seen > 0) {
		return first
	}
	return min(fastestPace, max(slowestPace, paceCaution*seen))
}

func recallPace(path string) (p pace) {
	content, err := os.ReadFile(statePath(path, ".pace"))
	if err != nil || json.Unmarshal(content, &p) != nil {
		return pace{}
	}
	return p
}

// learnPace remembers what is known of p. It is advice: it need be neither durable nor written at all.
func learnPace(path string, p pace) {
	if !(p.Vacuum > 0) && !(p.PutIn > 0) || MakeStateDir(path) != nil {
		return
	}
	known := recallPace(path)
	if p.Vacuum > 0 {
		known.Vacuum = p.Vacuum
	}
	if p.PutIn > 0 {
		known.PutIn = p.PutIn
	}
	if content, err := json.Marshal(known); err == nil {
		_ = os.WriteFile(statePath(path, ".pace"), content, 0o644)
	}
}

// pauseAt is how long so many bytes keep writers waiting, with two syncs of a slow disk.
func pauseAt(bytesPerSecond float64, bytes int64) time.Duration {
	const syncs = 20 * time.Millisecond
	return syncs + time.Duration(math.Ceil(float64(bytes)/bytesPerSecond*float64(time.Second)))
}
