// Package interop lets surge peers measure the node and the libraries alone for a
// moment, and looks at what it says. It holds tests only; they fetch nothing.
package interop
