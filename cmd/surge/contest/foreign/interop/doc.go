// Package interop starts each of the foreign origins, asks it for work and sees
// that nothing is left of it. It holds tests only, and skips what is not installed.
package interop
