#!/usr/bin/env bash
# A function platform: it starts instances when it is called, and keeps a bill.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

service functions /usr/local/bin/surge functions --listen "$(address functions):9100" --platform cloud-run --work image --cap 100
