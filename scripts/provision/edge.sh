#!/usr/bin/env bash
# An edge node, installed as on a machine of one's own.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$tree/scripts/install.sh" --no-start --binary "$tree/bin/spillway" --config "$tree/scripts/provision/spillway.yaml"

# Both edges have the secret that the Vagrantfile made up: visitors of one resume
# at the other.
umask 027
echo "${SPILLWAY_SECRET:?the Vagrantfile sets it}" >/etc/spillway/secrets/edges
systemctl restart spillway
