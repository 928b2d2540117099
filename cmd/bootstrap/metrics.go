package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// namespace is that of the metrics in CloudWatch; the alarms of the template watch it.
const namespace = "tablekeeper"

// metrics prints figures in CloudWatch's embedded metric format: one line of JSON on standard output becomes a metric, without a
// call of an API. https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
type metrics struct {
	mu       sync.Mutex
	out      io.Writer
	function string
	now      func() time.Time
}

type metricName struct {
	Name string `json:"Name"`
	Unit string `json:"Unit"`
}

// units of the metrics; what is not here is a count.
var units = map[string]string{"DurationMS": "Milliseconds", "InitMS": "Milliseconds", "BytesBefore": "Bytes", "BytesAfter": "Bytes", "BytesStored": "Bytes", "OldestProvedSeconds": "Seconds"}

// put prints the figures under the function's name and, where alone is true, those of the whole fleet without it. properties
// are kept in the line for whoever reads the log.
func (m *metrics) put(figures map[string]int64, properties map[string]any, alone bool) error {
	dimensions := [][]string{{"Function"}}
	if alone {
		dimensions = append(dimensions, []string{})
	}
	names := make([]metricName, 0, len(figures))
	line := maps.Clone(properties)
	if line == nil {
		line = map[string]any{}
	}
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		unit, ok := units[name]
		if !ok {
			unit = "Count"
		}
		names = append(names, metricName{name, unit})
		line[name] = figures[name]
	}
	line["Function"] = m.function
	line["_aws"] = map[string]any{
		"Timestamp":         m.now().UnixMilli(),
		"CloudWatchMetrics": []map[string]any{{"Namespace": namespace, "Dimensions": dimensions, "Metrics": names}},
	}
	text, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encode metrics: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err = m.out.Write(append(text, '\n'))
	return err
}
