// Command cmd is a program.
package main

import _ "fixture/edge/tests"
