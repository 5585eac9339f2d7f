package leaf

import (
	_ "example.com/quic"

	_ "fixture/edge"
)
