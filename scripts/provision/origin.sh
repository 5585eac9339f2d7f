#!/usr/bin/env bash
# The small origin: four pictures at a time, 133 ms each, so 30 a second.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

service origin /usr/local/bin/surge origin --listen "$(address origin):8080" --work image --slots 4 --service 133ms
