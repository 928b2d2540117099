package salvage

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf16"
)

// encoding of a database's text, as byte 56 of its header says.
type encoding uint32

const (
	utf8    encoding = 1
	utf16le encoding = 2
	utf16be encoding = 3
)

var errRecord = errors.New("not a record")

// maxColumns is SQLite's own limit (https://sqlite.org/limits.html).
const maxColumns = 32767

// varint reads SQLite's variable-length integer: 7 bits a byte, the ninth byte whole. n is 0 if b ends early.
func varint(b []byte) (value uint64, n int) {
	for n = 0; n < len(b) && n < 8; n++ {
		value = value<<7 | uint64(b[n]&0x7f)
		if b[n] < 0x80 {
			return value, n + 1
		}
	}
	if n == 8 && len(b) > 8 {
		return value<<8 | uint64(b[8]), 9
	}
	return 0, 0
}

// decodeRecord reads a record (file format, section 2.1). Values are nil, int64, float64, string or []byte.
func decodeRecord(payload []byte, text encoding) ([]any, error) {
	headerSize, n := varint(payload)
	if n == 0 || headerSize < uint64(n) || headerSize > uint64(len(payload)) {
		return nil, errRecord
	}
	header, body := payload[n:headerSize], payload[headerSize:]
	var values []any
	for len(header) > 0 {
		serial, n := varint(header)
		if n == 0 || len(values) == maxColumns {
			return nil, errRecord
		}
		header = header[n:]
		value, size, ok := decodeValue(serial, body, text)
		if !ok {
			return nil, errRecord
		}
		body = body[size:]
		values = append(values, value)
	}
	if len(body) != 0 {
		return nil, errRecord
	}
	return values, nil
}

// integerSizes are the bytes of the serial types 1 to 6.
var integerSizes = [...]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

// decodeValue reads the value of a serial type from the start of body.
func decodeValue(serial uint64, body []byte, text encoding) (value any, size int, ok bool) {
	switch {
	case serial == 0:
		return nil, 0, true
	case serial <= 6:
		size = integerSizes[serial]
		if len(body) < size {
			return nil, 0, false
		}
		return bigEndian(body[:size]), size, true
	case serial == 7:
		if len(body) < 8 {
			return nil, 0, false
		}
		return math.Float64frombits(binary.BigEndian.Uint64(body)), 8, true
	case serial == 8 || serial == 9:
		return int64(serial - 8), 0, true
	case serial < 12:
		return nil, 0, false
	}
	length := (serial - 12) / 2
	if length > uint64(len(body)) {
		return nil, 0, false
	}
	content := body[:length]
	if serial%2 == 0 {
		return append([]byte{}, content...), int(length), true
	}
	return decodeText(content, text), int(length), true
}

// bigEndian reads a signed integer of up to 8 bytes.
func bigEndian(b []byte) int64 {
	value := int64(int8(b[0]))
	for _, c := range b[1:] {
		value = value<<8 | int64(c)
	}
	return value
}

func decodeText(b []byte, text encoding) string {
	var order binary.ByteOrder = binary.LittleEndian
	switch text {
	case utf16be:
		order = binary.BigEndian
	case utf16le:
	default:
		return string(b)
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
