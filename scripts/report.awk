# Reads what go test -v prints, and shows a line for each package, the output of tests
# that fail, and at the end what was skipped and why. With -v require=1 a skip is a
# failure. With -v expected=PATTERN skips for such reasons must be, and are counted.
# With -v again=FILE that gets the tests that failed, each behind its package; a package
# alone is one in which no second run is an excuse: a data race, a panic, or an end
# that was no test's verdict.
function keep(line) { lines[++n] = line; owner[n] = test }
function reset() { n = 0; test = ""; failures = 0; fault = 0; whole = 0; delete failed; delete top }
function excusable() { return failures && whole && !fault }
# What a failed test printed; all of it when the process died instead.
function show(  i, all) {
	all = !excusable()
	for (i = 1; i <= n; i++) {
		if (all || owner[i] == "" || owner[i] in failed) print lines[i]
	}
}
function tell(package,  name) {
	if (!excusable()) print package > again
	else for (name in top) print package, name > again
}
/^=== / { test = $3; next }
/^FAIL$/ { whole = 1; next } # a process that died does not come to say it
/^(PASS|-test\.shuffle .*)$/ || /^ *--- PASS/ { next }
/^(panic|fatal error)|WARNING: DATA RACE/ { fault = 1 }
/^--- FAIL: / { top[$3] }
/^ *--- FAIL: / { failed[$3]; failures++; test = $3; keep($0); test = ""; next }
/^ *--- SKIP: / && expected != "" && reason[$3] ~ expected { foreseen++; next }
/^ *--- SKIP: / { skipped[++skips] = $3 ": " reason[$3]; next }
/^(ok  |FAIL|\?   )\t/ {
	if ($1 == "FAIL") {
		show()
		if (again != "") tell($2)
	}
	if ($1 != "?") print
	reset()
	next
}
/^ +[^ ]+\.go:[0-9]+: / { reason[test] = $0; sub(/^ +[^ ]+: /, "", reason[test]) }
{ keep($0) }
END {
	show()
	if (skips) print "\nskipped:"
	for (i = 1; i <= skips; i++) print "  " skipped[i]
	if (skips && require) print "SPILLWAY_REQUIRE is set: skipped tests count as failed"
	if (expected != "") print foreseen + 0 " skipped: " expected
	exit (skips && require) || (expected != "" && !foreseen) ? 1 : 0
}
