#!/usr/bin/env bash
# Where the crowd comes from; what it plays is started by hand.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A crowd is many connections, and over HTTP/3 they share few sockets.
cat >/etc/sysctl.d/60-crowd.conf <<END
net.core.rmem_max = 7500000
net.core.wmem_max = 7500000
END
/lib/systemd/systemd-sysctl /etc/sysctl.d/60-crowd.conf || echo 'provision: the kernel settings could not be set'
