package leaf

import _ "fixture/cmd"
