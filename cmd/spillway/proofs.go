package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"spillway/edge"
	"spillway/edge/exercise"
)

// writeProofs shows of each function that requests may spill to whether it has
// answered as the origin does.
func writeProofs(w io.Writer, proofs []edge.ProofState) {
	if len(proofs) > 0 {
		fmt.Fprintf(w, "\nROUTE\tFUNCTION\tANSWERS AS THE ORIGIN\n")
	}
	for _, p := range proofs {
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Route, p.Function, p.Words(time.Now()))
	}
}

// writeProofMetrics writes how functions did in the place of the origin. The age is
// that of the node where there was no proof yet, so that an alert needs no more than
// the age. What is not to be exercised has none of them.
func writeProofMetrics(w io.Writer, s *nodeState) {
	for _, p := range s.Proofs {
		if p.Verdict == exercise.NotWanted {
			continue
		}
		label := fmt.Sprintf("{route=%q,function=%q", p.Route, p.Function)
		age := s.Uptime
		if !p.ProvedAt.IsZero() {
			age = time.Since(p.ProvedAt).Seconds()
		}
		gauge(w, "spillway_exercise_proved"+label+"}", flag(p.Verdict == exercise.Proved))
		metrics.WriteGaugeFloat64(w, "spillway_exercise_age_seconds"+label+"}", age)
		counter(w, "spillway_exercise_compared_total"+label+"}", p.Compared)
		counter(w, "spillway_exercise_equal_total"+label+"}", p.Equal)
		for _, kind := range exercise.Kinds {
			counter(w, fmt.Sprintf("spillway_exercise_differences_total%s,kind=%q}", label, kind), p.Differences[kind])
		}
		for _, why := range slices.Sorted(maps.Keys(p.Uncompared)) {
			counter(w, fmt.Sprintf("spillway_exercise_uncompared_total%s,reason=%q}", label, why), p.Uncompared[why])
		}
	}
}
