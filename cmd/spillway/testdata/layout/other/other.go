// Package other is elsewhere.
package other
