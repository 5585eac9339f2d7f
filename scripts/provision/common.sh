#!/usr/bin/env bash
# What the machines of the tour have in common; the others source it. Nothing is
# fetched: the programs were built before, by `make build`.
set -euo pipefail

# Read by the scripts that source this one.
export tree
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# address NAME prints where a machine is; the Vagrantfile has the same.
address() {
	case $1 in
	origin) echo 192.168.56.10 ;;
	edge1) echo 192.168.56.21 ;;
	edge2) echo 192.168.56.22 ;;
	functions) echo 192.168.56.30 ;;
	client) echo 192.168.56.40 ;;
	esac
}

# service NAME COMMAND... runs one of the programs as a service without rights.
service() {
	local name=$1 unit
	shift
	unit="[Unit]
Description=$name of the Spillway tour
After=network-online.target
Wants=network-online.target

[Service]
DynamicUser=yes
ExecStart=$*
Restart=always
RestartSec=1s
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target"
	echo "$unit" >"/etc/systemd/system/$name.service"
	systemctl daemon-reload
	systemctl --quiet enable "$name"
	systemctl restart "$name"
}

if [[ ! -x $tree/bin/spillway || ! -x $tree/bin/surge ]]; then
	echo "provision: $tree/bin is empty; run make build on the host, then vagrant rsync and vagrant provision" >&2
	exit 1
fi
install -m 755 "$tree/bin/surge" /usr/local/bin/surge

# The visitors' name leads to the first edge, img2 to the second.
sed -i '/# spillway tour$/d' /etc/hosts
cat >>/etc/hosts <<END
$(address origin) origin # spillway tour
$(address edge1) edge1 img.example.com # spillway tour
$(address edge2) edge2 img2.example.com # spillway tour
$(address functions) functions # spillway tour
$(address client) client # spillway tour
END
