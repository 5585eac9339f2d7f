package origin

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// The fields in which servers report their load by ORCA, Open Request Cost
// Aggregation: the first in one of three forms that a word in front names, the
// second, which gRPC sends as a trailer, in the binary one.
const (
	loadMetrics       = "Endpoint-Load-Metrics"
	loadMetricsBinary = "Endpoint-Load-Metrics-Bin"
)

// isLoadReport reports whether a field is for the node alone.
func isLoadReport(name string) bool { return name == loadMetrics || name == loadMetricsBinary }

// longestReport bounds what is read of a report; not a knob. Reports may name any
// number of metrics, of which two are of use here.
const longestReport = 4 << 10

// A loadReport is what is of use in an ORCA report: parts of what the server has,
// as it sees them. Zero means that it does not say.
type loadReport struct {
	CPU         float64 `json:"cpu_utilization"`
	Application float64 `json:"application_utilization"`
}

// utilization is how busy the server says that it is, false if it does not say. As
// ORCA's users do, it prefers what the application says of itself to what its
// processors do.
func (r loadReport) utilization() (float64, bool) {
	for _, u := range []float64{r.Application, r.CPU} {
		if u > 0 && !math.IsInf(u, 0) {
			return u, true
		}
	}
	return 0, false
}

// reportIn returns the report in the fields of a response. One that cannot be
// read says nothing.
func reportIn(h http.Header) (r loadReport) {
	if v := h[loadMetricsBinary]; len(v) > 0 {
		return binaryReport(v[0])
	}
	v := h[loadMetrics]
	if len(v) == 0 || len(v[0]) > longestReport {
		return r
	}
	form, text, _ := strings.Cut(v[0], " ")
	switch form {
	case "TEXT":
		return textReport(text)
	case "JSON":
		if json.Unmarshal([]byte(text), &r) != nil {
			return loadReport{}
		}
	case "BIN":
		return binaryReport(text)
	}
	return r
}

// textReport reads name=value, name=value.
func textReport(text string) (r loadReport) {
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(pair, "=")
		v, err := strconv.ParseFloat(textproto.TrimString(value), 64)
		if err != nil {
			continue
		}
		switch textproto.TrimString(name) {
		case "cpu_utilization":
			r.CPU = v
		case "application_utilization":
			r.Application = v
		}
	}
	return r
}

// The numbers of the fields in xds.data.orca.v3.OrcaLoadReport.
const (
	cpuField         = 1
	applicationField = 9
)

// binaryReport reads the base64 form of a protobuf message. A message that breaks
// off says nothing.
func binaryReport(text string) (r loadReport) {
	if len(text) > longestReport {
		return r
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return r
	}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return loadReport{}
		}
		b = b[n:]
		size := fieldSize(tag, b)
		if size < 0 {
			return loadReport{}
		}
		if tag&7 == wireFixed64 {
			v := math.Float64frombits(binary.LittleEndian.Uint64(b))
			switch tag >> 3 {
			case cpuField:
				r.CPU = v
			case applicationField:
				r.Application = v
			}
		}
		b = b[size:]
	}
	return r
}

// The wire types of protobuf that are in use.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// fieldSize is the length of the field at the start of b, or -1 if it is not
// there as a whole.
func fieldSize(tag uint64, b []byte) int {
	size := -1
	switch tag & 7 {
	case wireVarint:
		if _, n := binary.Uvarint(b); n > 0 {
			size = n
		}
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	case wireBytes:
		if length, n := binary.Uvarint(b); n > 0 && length <= uint64(len(b)) {
			size = n + int(length)
		}
	}
	if size > len(b) {
		return -1
	}
	return size
}
