#!/bin/sh
# Starts the node, sends it visitors over HTTP/3 from another network, and compares
# where it judges their packets, and why nowhere better, with what is wanted.
#   node.sh WHO MODE REASON [COMMAND...]    with COMMAND in front of the node's
set -eu
who=$1 mode=$2 reason=$3
shift 3
folder=$(mktemp -d)
chmod 777 "$folder"
cd "$folder"

cat >node.yaml <<EOF
listen: "10.9.0.1:8443"
http: "off"
admin: unix:$folder/admin.sock
state: ""
tls: {self_signed: true}
origins: {app: {servers: ["http://127.0.0.1:8080"]}}
sites: [{hosts: [default], routes: [{match: {path: /*}, origin: app}]}]
EOF
ip netns add visitors
ip link add v0 type veth peer name v1 netns visitors
ip address add 10.9.0.1/24 dev v0
ip link set v0 up
ip -n visitors address add 10.9.0.2/24 dev v1
ip -n visitors link set v1 up

surge origin --listen 127.0.0.1:8080 >origin.log 2>&1 &
origin=$!
"$@" spillway run --config node.yaml >node.log 2>&1 &
node=$!
end() {
	status=$?
	[ $status = 0 ] || tail -n 20 state state.json crowd.json crowd.log node.log 2>&1
	kill $node $origin
	wait
	ip netns delete visitors
	exit $status
}
trap end EXIT

tries=0
until spillway status --admin "unix:$folder/admin.sock" >state 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 300 ]
	sleep 0.2
done
# They come again where an emulated machine has no time for all at once.
visit() {
	ip netns exec visitors surge crowd --url https://10.9.0.1:8443/ --insecure \
		--phases 1x:2s --capacity 2 --timeout 30s --json >crowd.json 2>crowd.log
	grep -q '"offered":4,"answered":4,"errors":0' crowd.json
}
tries=0
until visit; do
	tries=$((tries + 1))
	[ $tries -lt 5 ]
done
spillway status --admin "unix:$folder/admin.sock" --json >state.json
# has FILE PATTERN N: that many lines match.
has() { [ "$(grep -c "$2" "$1")" = "$3" ] || { echo "$1: not $3 times $2"; return 1; }; }
has state.json "\"mode\": *\"$mode\"" 1
has state.json "\"refused\": *\".*$reason" $((${#reason} > 0))
has node.log "not judged in the kernel.*$reason" $((${#reason} > 0))
printf 'ok  \tspillway as %s\t%s, 4 of 4 visitors over HTTP/3\n' "$who" "$mode"
