package origin

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"strings"
	"testing"

	"spillway/edge/synctest"
)

// protobuf writes fields of doubles, and among them fields that nobody asked for.
func protobuf(fields map[uint64]float64) string {
	b := []byte{3 << 3, 150, 1}                     // a varint
	b = append(b, 8<<3|wireBytes, 3, 'a', 'b', 'c') // a string
	b = append(b, 12<<3|wireFixed32, 1, 2, 3, 4)    // four bytes
	for number, v := range fields {
		b = binary.AppendUvarint(b, number<<3|wireFixed64)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestLoadReport(t *testing.T) {
	f := func(value string, want float64) {
		t.Helper()
		got, ok := reportIn(http.Header{loadMetrics: {value}}).utilization()
		if ok != (want > 0) || math.Abs(got-want) > 1e-9 {
			t.Errorf("%.60q: %v, %v; want %v", value, got, ok, want)
		}
	}
	f("TEXT cpu_utilization=0.3", 0.3)
	f("TEXT cpu_utilization=0.3, application_utilization=0.7, mem_utilization=0.9, rps_fractional=10.5, eps=1", 0.7)
	f("TEXT application_utilization=0,cpu_utilization=0.4", 0.4)
	f("TEXT named_metrics.cpu_utilization=0.4", 0)
	f("TEXT cpu_utilization=1.7", 1.7)
	f("TEXT cpu_utilization=-1", 0)
	f("TEXT cpu_utilization=NaN", 0)
	f("TEXT cpu_utilization=Inf", 0)
	f("TEXT cpu_utilization", 0)
	f("TEXT ,,=,=1", 0)
	f("text cpu_utilization=0.3", 0)
	f("cpu_utilization=0.3", 0)
	f("TEXT cpu_utilization=0.3,x="+strings.Repeat("x", longestReport), 0)
	f(`JSON {"cpu_utilization": 0.5, "mem_utilization": 0.2, "named_metrics": {"queue": 3}}`, 0.5)
	f(`JSON {"cpu_utilization": 0.5, "application_utilization": 0.6}`, 0.6)
	f(`JSON {"cpu_utilization": "high"}`, 0)
	f(`JSON {"cpu_utilization": 0.5`, 0)
	f(`JSON [0.5]`, 0)
	f("BIN "+protobuf(map[uint64]float64{cpuField: 0.25, 2: 0.9, 6: 100}), 0.25)
	f("BIN "+protobuf(map[uint64]float64{cpuField: 0.25, applicationField: 0.75}), 0.75)
	f("BIN "+protobuf(map[uint64]float64{cpuField: math.NaN()}), 0)
	f("BIN "+strings.TrimRight(protobuf(map[uint64]float64{cpuField: 0.25}), "=")[:8], 0)
	f("BIN ?", 0)
	f("", 0)

	binary := http.Header{loadMetricsBinary: {protobuf(map[uint64]float64{applicationField: 0.5})}}
	if u, _ := reportIn(binary).utilization(); u != 0.5 {
		t.Errorf("utilization %v in the binary field", u)
	}
}

// A server reports in its head or, as gRPC does, in a trailer. The limiter gets
// it and the visitor does not.
func TestLoadReportIsStripped(t *testing.T) {
	f := func(name, answer string) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{})
				o.dial = network{"a": says(true, answer)}.dial
				go o.limiter.Run(t.Context())
				resp, err := o.ask(t)
				if got := bodyOf(t, resp, err); got != "abc" {
					t.Errorf("got %q", got)
				}
				for _, fields := range []http.Header{resp.Header, resp.Trailer} {
					for name := range fields {
						if isLoadReport(name) {
							t.Errorf("the visitor gets %s", name)
						}
					}
				}
				waitForTick()
				if u := o.State().Limit.Utilization; u != 0.5 {
					t.Errorf("utilization %v", u)
				}
			})
		})
	}
	f("text", ok+"Endpoint-Load-Metrics: TEXT application_utilization=0.5\r\nContent-Length: 3\r\n\r\nabc")
	f("any case", ok+"endpoint-load-metrics: TEXT cpu_utilization=0.5\r\nContent-Length: 3\r\n\r\nabc")
	binary := protobuf(map[uint64]float64{cpuField: 0.5})
	f("trailer", ok+"Transfer-Encoding: chunked\r\nTrailer: Endpoint-Load-Metrics-Bin\r\n\r\n3\r\nabc\r\n0\r\nEndpoint-Load-Metrics-Bin: "+binary+"\r\n\r\n")
}

func FuzzLoadReport(f *testing.F) {
	f.Add("TEXT cpu_utilization=0.3,application_utilization=0.7")
	f.Add(`JSON {"cpu_utilization": 0.5}`)
	f.Add("BIN " + protobuf(map[uint64]float64{cpuField: 0.25, applicationField: 0.5}))
	f.Add("BIN CQ==")
	f.Fuzz(func(t *testing.T, value string) {
		for _, name := range []string{loadMetrics, loadMetricsBinary} {
			u, ok := reportIn(http.Header{name: {value}}).utilization()
			if ok != (u > 0) || math.IsNaN(u) || math.IsInf(u, 0) {
				t.Errorf("%v, %v", u, ok)
			}
		}
	})
}
